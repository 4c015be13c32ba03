"""Which exposures are neighbors: distances, groups of neighbors, measured overlap."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

SEEDS_AT_ONCE = 4096
"""Number of seed exposures whose groups are drawn together."""


class GroupingError(ValueError):
    """Exposures cannot be grouped as requested; the message gives the numbers."""


def linear_overlap(distance_px: ArrayLike, diameter: float) -> NDArray[np.float64]:
    """Linear overlap o = 1 - distance / diameter of two beams (Bunk et al., Ultramicroscopy 108, 2008)."""
    return np.asarray(1 - np.asarray(distance_px) / diameter)


def disc_overlap(distance_px: ArrayLike, diameter: float) -> NDArray[np.float64]:
    """Overlap of two equal discs as a fraction of their area: 2/π (acos t - t sqrt(1 - t²)), t = distance / diameter.

    This is the area of the lens between two intersecting circles, divided by that of a circle.
    """
    t = np.clip(np.asarray(distance_px) / diameter, 0, 1)
    return 2 / np.pi * (np.arccos(t) - t * np.sqrt(1 - t**2))


def nearest_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every (y, x) point to its nearest neighbor [px], (M,); infinite for a single point."""
    if len(points) < 2:
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(points).query(points, k=2)[0])[:, 1]


def group_neighbors(
    points: NDArray[np.float64],
    size: int,
    *,
    neighbors: int,
    n_groups: int,
    max_spread_px: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw groups: a seed exposure and size - 1 of its nearest neighbors (K choose C oversampling).

    Every exposure is the seed of about the same number of groups. No exposure is twice in a group, and no group twice
    in the result. A group is ordered by (y, x) and extends at most `max_spread_px` along either axis.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    size : int
        C, exposures in a group.
    neighbors : int
        K, the number of nearest neighbors of the seed that are candidates.
    n_groups : int
        Wanted number of groups; fewer are returned only if no more exist.

    Returns
    -------
    (B, C) int64
        Exposures of each group, ordered by mean y: consecutive groups lie in a strip of the scan.

    Raises
    ------
    GroupingError
        If there are fewer exposures than a group needs, or none are near enough.
    """
    if len(points) < size:
        raise GroupingError(f"{len(points)} exposures are too few for groups of {size}")
    if size - 1 > neighbors:
        raise GroupingError(f"groups of {size} need at least {size - 1} neighbors to choose from, not {neighbors}")
    nearest = np.reshape(KDTree(points).query(points, k=min(neighbors + 1, len(points)))[1], (len(points), -1))
    choices = np.array(list(combinations(range(1, nearest.shape[1]), size - 1)), np.int64)
    first = rng.integers(len(choices), size=len(points))
    drawn: dict[bytes, NDArray[np.int64]] = {}
    for shift in rng.permutation(len(choices)):
        for block in np.array_split(rng.permutation(len(points)), -(-len(points) // SEEDS_AT_ONCE)):
            chosen = choices[(first[block] + shift) % len(choices)]
            members = np.column_stack([block, np.take_along_axis(nearest[block], chosen, axis=1)])
            for group in _allowed(points, members, max_spread_px):
                drawn.setdefault(group.tobytes(), group)
                if len(drawn) == n_groups:
                    return _by_mean_y(points, drawn.values())
    if not drawn:
        raise GroupingError(
            f"no group of {size} among {len(points)} exposures spreads at most {max_spread_px:.1f} px: "
            f"the median distance of neighbors is {np.median(nearest_distances(points)):.1f} px"
        )
    return _by_mean_y(points, drawn.values())


def _allowed(points: NDArray[np.float64], members: NDArray[np.int64], max_spread_px: float) -> NDArray[np.int64]:
    """Return the rows of (m, C) exposures that are near enough and distinct, each ordered by (y, x)."""
    y, x = points[members, 0], points[members, 1]
    members = np.take_along_axis(members, np.lexsort((x, y), axis=1), axis=1)
    spread = np.maximum(np.ptp(y, axis=1), np.ptp(x, axis=1))
    duplicate = (np.diff(np.sort(members, axis=1), axis=1) == 0).any(axis=1)
    return members[(spread <= max_spread_px) & ~duplicate]


def _by_mean_y(points: NDArray[np.float64], drawn: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return groups from the top of the scan to its bottom, (B, C)."""
    groups = np.stack(list(drawn))
    return groups[np.argsort(points[groups, 0].mean(axis=1), kind="stable")]


def measure_overlap(
    points: NDArray[np.float64], groups: NDArray[np.int64], diameter: float
) -> dict[str, dict[str, Any]]:
    """Measure the overlap within groups, between exposures, and between group centers, as linear and as disc overlap.

    Returns
    -------
    dict
        {"within_groups" | "between_exposures" | "between_group_centers": {"linear": …, "disc_area": …}}, medians;
        None where there are no distances.
    """
    first, second = np.triu_indices(groups.shape[1], 1)
    members = points[groups]
    distances = {
        "within_groups": np.linalg.norm(members[:, first] - members[:, second], axis=-1).ravel(),
        "between_exposures": nearest_distances(points),
        "between_group_centers": nearest_distances(np.unique(members.mean(axis=1), axis=0)),
    }
    return {
        name: {
            "linear": float(linear_overlap(np.median(distance), diameter)),
            "disc_area": float(np.median(disc_overlap(distance, diameter))),
        }
        if distance.size and np.isfinite(distance).all()
        else {"linear": None, "disc_area": None}
        for name, distance in distances.items()
    }
