"""Which exposures are neighbors: distances, groups of neighbors, measured overlap."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from ptycho.physics.forward import split_position

CHOICES_AT_ONCE = 4096
"""Number of choices of neighbors that are made together, in whole rounds."""
IDLE_ROUNDS = 1000
"""Rounds without a new group after which no more are drawn; up to as many choices for a seed, all are made."""
MAX_ROUNDS = 20_000
"""Largest number of rounds."""
MAX_NEIGHBORS = 64
"""Largest K: the number of choices, at most 64 choose 32, fits int64, also twice."""


class GroupingError(ValueError):
    """Exposures cannot be grouped as requested; the message gives the numbers."""


def central_exposures(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Choose the exposures nearest to the middle of a scan: those in a square around it.

    Parameters
    ----------
    points : (M, 2) float64
        Positions [px].
    count : int
        Number of exposures; all are chosen if there are no more.

    Returns
    -------
    (min(count, M),) int64
        Indices, ascending. A larger count chooses these and others.
    """
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return np.sort(np.argsort(np.abs(points - middle).max(axis=1), kind="stable")[:count])


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
    max_spread: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw groups: a seed exposure and size - 1 of its nearest neighbors (K choose C oversampling).

    No exposure is twice in a group, and no group twice in the result. A group is ordered by (y, x). Of no more
    exposures than a group needs, the one group is all of them.

    In a round, every exposure is the seed of one group: the choice of neighbors has a random rank among all choices,
    which is shifted from round to round. No choice comes twice, and none but the drawn ones are ever listed. Groups
    that are too wide, or known already, are then left out: exposures with distant neighbors are the seed of fewer.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    size : int
        C, exposures in a group.
    neighbors : int
        K, the number of nearest neighbors of the seed that are candidates; at most `MAX_NEIGHBORS`.
    n_groups : int
        Wanted number of groups. Fewer are returned if no more exist. With more than `IDLE_ROUNDS` choices for a seed,
        fewer are also returned after `IDLE_ROUNDS` rounds without a new group, or `MAX_ROUNDS` rounds in all.
    max_spread : float
        Largest extent of a group along either axis, in units of the median distance of nearest neighbors.

    Returns
    -------
    (B, C) int64
        Exposures of each group, ordered by mean y: consecutive groups lie in a strip of the scan. (1, M) for M < C.

    Raises
    ------
    GroupingError
        If there are no exposures, the number of neighbors is too small or too large, or no group is narrow enough.
    """
    _check_sizes(len(points), size, neighbors)
    if len(points) <= size:
        return sort_members(points, np.arange(len(points))[None])
    spacing = float(np.median(nearest_distances(points)))
    nearest = np.reshape(KDTree(points).query(points, k=min(neighbors + 1, len(points)))[1], (len(points), -1))
    drawn: dict[bytes, NDArray[np.int64]] = {}
    idle = 0
    for members in _draw_rounds(nearest, size - 1, rng):
        before = len(drawn)
        for group in _allowed(points, members, max_spread * spacing):
            drawn.setdefault(group.tobytes(), group)
            if len(drawn) == n_groups:
                return sort_groups(points, np.stack(list(drawn.values())))
        idle = 0 if len(drawn) > before else idle + 1
        if idle == IDLE_ROUNDS:
            break
    if not drawn:
        raise GroupingError(
            f"no group of {size} among {len(points)} exposures spreads at most {max_spread:g} times the median "
            f"distance of neighbors, {spacing:.1f} px"
        )
    return sort_groups(points, np.stack(list(drawn.values())))


def group_around(
    points: NDArray[np.float64], seeds: NDArray[np.int64], others: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Group each seed with the size - 1 nearest of other exposures.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    seeds : (m,) int64
        Each is in one group.
    others : (k,) int64
        Candidates for the rest of the groups, at least size - 1; none is a seed.
    size : int
        C, exposures in a group.

    Returns
    -------
    (m, C) int64
        One group for each seed, its exposures ordered by (y, x).
    """
    if size == 1:
        return np.reshape(seeds, (-1, 1))
    nearest = KDTree(points[others]).query(points[seeds], k=size - 1)[1]
    return sort_members(points, np.column_stack([seeds, others[np.reshape(nearest, (len(seeds), -1))]]))


def sort_members(points: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order the exposures of each of (B, C) groups by (y, x), and those of equal positions by their index."""
    y, x = points[groups, 0], points[groups, 1]
    return np.take_along_axis(groups, np.lexsort((groups, x, y), axis=1), axis=1)


def sort_groups(points: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order (B, C) groups by mean y, from the top of the scan to its bottom."""
    return groups[np.argsort(points[groups, 0].mean(axis=1), kind="stable")]


def unrank_combinations(ranks: NDArray[np.int64], n: int, k: int) -> NDArray[np.int64]:
    """Return the k-combinations of range(n) that have the given ranks (combinatorial number system).

    Parameters
    ----------
    ranks : (m,) int64
        At least 0 and less than n choose k, which must fit int64.

    Returns
    -------
    (m, k) int64
        Each row descending; the combination c_k > … > c_1 has the rank Σ_i (c_i choose i).
    """
    chosen, rest = np.empty((len(ranks), k), np.int64), np.array(ranks, np.int64)
    for i in range(k, 0, -1):
        counts = np.array([math.comb(c, i) for c in range(n)], np.int64)
        chosen[:, k - i] = np.searchsorted(counts, rest, side="right") - 1
        rest -= counts[chosen[:, k - i]]
    return chosen


def _check_sizes(n_exposures: int, size: int, neighbors: int) -> None:
    if not n_exposures:
        raise GroupingError("no exposures to group")
    if size - 1 > neighbors:
        raise GroupingError(f"groups of {size} need at least {size - 1} neighbors to choose from, not {neighbors}")
    if neighbors > MAX_NEIGHBORS:
        raise GroupingError(f"{neighbors} neighbors to choose from; wanted at most {MAX_NEIGHBORS}")


def _draw_rounds(nearest: NDArray[np.int64], k: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield (M, 1 + k) groups, one for every seed, until every choice of k of its neighbors or enough were drawn.

    Parameters
    ----------
    nearest : (M, 1 + K) int64
        The nearest exposures of each, itself first.
    """
    count, candidates = len(nearest), nearest.shape[1] - 1
    n_choices = math.comb(candidates, k)
    n_rounds = min(n_choices, MAX_ROUNDS)
    first, shifts = rng.integers(n_choices, size=count), rng.choice(n_choices, n_rounds, replace=False)
    at_once = max(CHOICES_AT_ONCE // count, 1)
    for start in range(0, n_rounds, at_once):
        ranks = (first + shifts[start : start + at_once, None]) % n_choices
        chosen = 1 + unrank_combinations(ranks.ravel(), candidates, k).reshape(*ranks.shape, k)
        for choice in chosen:
            seeds = rng.permutation(count)
            yield np.column_stack([seeds, np.take_along_axis(nearest, choice, axis=1)[seeds]])


def _allowed(points: NDArray[np.float64], members: NDArray[np.int64], max_spread_px: float) -> NDArray[np.int64]:
    """Return the rows of (m, C) exposures that are near enough and distinct, each ordered by (y, x)."""
    members = members[np.ptp(points[members], axis=1).max(axis=1) <= max_spread_px]
    duplicate = (np.diff(np.sort(members, axis=1), axis=1) == 0).any(axis=1)
    return sort_members(points, members[~duplicate])


def measure_overlap(distances_px: NDArray[np.float64], diameter: float) -> dict[str, float | None]:
    """Return the medians of overlaps at some distances, `linear` and `disc_area`; None where there are no distances."""
    if not distances_px.size or not np.isfinite(distances_px).all():
        return {"linear": None, "disc_area": None}
    return {
        "linear": float(linear_overlap(np.median(distances_px), diameter)),
        "disc_area": float(np.median(disc_overlap(distances_px, diameter))),
    }


def measure_groups(
    points: NDArray[np.float64], groups: NDArray[np.int64], diameter: float
) -> dict[str, dict[str, float | None]]:
    """Measure the overlap `within_groups` and `between_group_centers` of (B, C) groups, see `measure_overlap`."""
    first, second = np.triu_indices(groups.shape[1], 1)
    members = points[groups]
    within = np.linalg.norm(members[:, first] - members[:, second], axis=-1).ravel()
    between = nearest_distances(np.unique(members.mean(axis=1), axis=0))
    return {
        "within_groups": measure_overlap(within, diameter),
        "between_group_centers": measure_overlap(between, diameter),
    }


def group_offsets(
    xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], nn_indices: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of groups, and of their exposures relative to them.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    nn_indices : (B, C) int
        Exposures of each group; -1 where a group has fewer than C.

    Returns
    -------
    global_offsets : (B, 1, 2, 1) float64
        The pixel nearest to the mean position, order [x, y] [px]: integers, so that sub-pixel parts are preserved.
    local_offsets : (B, 1, 2, C) float64
        Position minus global offset, order [x, y] [px]; 0 where there is no exposure.
    """
    members = (nn_indices >= 0)[:, None, None]
    positions = np.where(members, np.stack([xcoords[nn_indices], ycoords[nn_indices]], axis=1)[:, None], 0)
    mean = positions.sum(axis=-1, keepdims=True) / members.sum(axis=-1, keepdims=True)
    center = split_position(mean)[0].astype(np.float64)
    return center, np.where(members, positions - center, 0)
