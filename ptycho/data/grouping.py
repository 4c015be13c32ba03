"""Which exposures are neighbors: overlap views, neighbor groups, roles, measured overlap."""

import math
from itertools import combinations

import numpy as np
from scipy.spatial import KDTree

FIT, VALIDATION, HOLDOUT = 0, 1, 2
ROLES = ("fit", "validation", "holdout")

SEEDS_AT_ONCE = 4096
"""Groups that are drawn together."""


class ViewError(ValueError):
    """A view or its groups cannot be made as asked: the message gives the numbers."""


def linear_overlap(distance_px, diameter: float):
    """Linear overlap o = 1 - distance / diameter of two beams (Bunk et al., Ultramicroscopy 108, 2008)."""
    return 1 - np.asarray(distance_px) / diameter


def disc_overlap(distance_px, diameter: float):
    """Shared area of two equal discs as a share of one: 2/π (acos t - t sqrt(1 - t²)), t = distance / diameter."""
    t = np.clip(np.asarray(distance_px) / diameter, 0, 1)
    return 2 / np.pi * (np.arccos(t) - t * np.sqrt(1 - t**2))


def nearest_distances(points):
    """Distance of every point to its nearest neighbor [px]; infinite for a single point."""
    if len(points) < 2:
        return np.full(len(points), np.inf)
    return KDTree(points).query(points, k=2)[0][:, 1]


def subsample_positions(points, distance_px: float):
    """Keep points, in scan order, that are at least `distance_px` from all kept before.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].

    Returns
    -------
    (m,) int64
        Kept points, ascending; never empty for M > 0.
    """
    tree, free = KDTree(points), np.ones(len(points), bool)
    kept = []
    for point in range(len(points)):
        if free[point]:
            kept.append(point)
            free[tree.query_ball_point(points[point], distance_px * (1 - 1e-12))] = False
    return np.array(kept, np.int64)


def median_overlap(points, diameter: float) -> float:
    """Median linear overlap of every exposure with its nearest neighbor."""
    return float(linear_overlap(np.median(nearest_distances(points)), diameter))


def select_view(points, diameter: float, target: float, tolerance: float = 0.05):
    """Choose exposures whose median nearest-neighbor overlap is the target.

    All are kept when they are already within the tolerance; otherwise the thinning distance is found by bisection,
    and the best of all distances tried is taken.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    diameter : float
        Beam diameter [px].
    target : float
        Wanted linear overlap.

    Returns
    -------
    (m,) int64
        Kept exposures, ascending.

    Raises
    ------
    ViewError
        If no thinning comes within the tolerance; the message gives the range that can be met.
    """
    whole = median_overlap(points, diameter)
    everything = np.arange(len(points))
    if abs(whole - target) <= tolerance:
        return everything
    extent = np.ptp(points, axis=0).max()
    low, high = 0.0, float(extent)
    tried = {0.0: (whole, everything)}
    for _ in range(40):
        distance = (low + high) / 2
        kept = subsample_positions(points, distance)
        overlap = median_overlap(points[kept], diameter) if len(kept) > 1 else -math.inf
        tried[distance] = (overlap, kept)
        low, high = (distance, high) if overlap > target else (low, distance)
    overlap, kept = min(tried.values(), key=lambda found: (abs(found[0] - target), -len(found[1])))
    if abs(overlap - target) > tolerance:
        reached = sorted(found for found, _ in tried.values() if math.isfinite(found))
        raise ViewError(
            f"an overlap of {target} (± {tolerance}) cannot be met: thinning these {len(points)} exposures gives "
            f"{reached[0]:.3f} to {reached[-1]:.3f}, and the nearest to the target is {overlap:.3f}"
        )
    return kept


def draw_roles(count: int, share: float, rng: np.random.Generator):
    """Set exposures apart: a share `holdout`, the same share of the rest `stop`, at least one each; the rest is `fit`.

    Raises
    ------
    ViewError
        If nothing is left to fit.
    """
    n_holdout = max(round(share * count), 1)
    n_stop = max(round(share * (count - n_holdout)), 1)
    if count - n_holdout - n_stop < 1:
        raise ViewError(f"{count} exposures are too few for {n_holdout} holdout, {n_stop} stop and at least 1 to fit")
    role = np.zeros(count, np.int8)
    apart = rng.permutation(count)
    role[apart[:n_holdout]] = HOLDOUT
    role[apart[n_holdout : n_holdout + n_stop]] = VALIDATION
    return role


def group_neighbors(points, size: int, *, neighbors: int, n_groups: int, max_spread_px: float, rng):
    """Draw groups: a seed exposure and size - 1 of its nearest neighbors (K choose C oversampling).

    Every exposure is the seed of about the same number of groups. No exposure stands twice in a group and no group
    twice in the result; a group is ordered by (y, x) and spreads at most `max_spread_px` along either axis.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    size : int
        C, exposures in a group.
    neighbors : int
        K, how many nearest neighbors of the seed are candidates.
    n_groups : int
        How many groups are wanted; fewer are returned only if there are no more.

    Returns
    -------
    (B, C) int64
        Exposures of each group, from small to large y: a slice of groups lies in a strip of the scan.

    Raises
    ------
    ViewError
        If there are fewer exposures than a group needs, or none are near enough.
    """
    if len(points) < size:
        raise ViewError(f"{len(points)} exposures are too few for groups of {size}")
    if size - 1 > neighbors:
        raise ViewError(f"groups of {size} need at least {size - 1} neighbors to choose from, not {neighbors}")
    nearest = KDTree(points).query(points, k=min(neighbors + 1, len(points)))[1].reshape(len(points), -1)
    choices = np.array(list(combinations(range(1, nearest.shape[1]), size - 1)), np.int64)
    first, found = rng.integers(len(choices), size=len(points)), {}
    for shift in rng.permutation(len(choices)):
        for block in np.array_split(rng.permutation(len(points)), -(-len(points) // SEEDS_AT_ONCE)):
            chosen = choices[(first[block] + shift) % len(choices)]
            members = np.column_stack([block, np.take_along_axis(nearest[block], chosen, axis=1)])
            for group in _allowed(points, members, max_spread_px):
                found.setdefault(group.tobytes(), group)
                if len(found) == n_groups:
                    return _ordered(points, found)
    if not found:
        raise ViewError(
            f"no group of {size} among {len(points)} exposures spreads at most {max_spread_px:.1f} px: "
            f"the median distance of neighbors is {np.median(nearest_distances(points)):.1f} px"
        )
    return _ordered(points, found)


def _allowed(points, members, max_spread_px: float):
    """Rows of (m, C) exposures that are near enough and hold nothing twice, each ordered by (y, x)."""
    y, x = points[members, 0], points[members, 1]
    members = np.take_along_axis(members, np.lexsort((x, y), axis=1), axis=1)
    spread = np.maximum(np.ptp(y, axis=1), np.ptp(x, axis=1))
    twice = (np.diff(np.sort(members, axis=1), axis=1) == 0).any(axis=1)
    return members[(spread <= max_spread_px) & ~twice]


def _ordered(points, found):
    """Groups from the top of the scan to its bottom: consecutive groups lie in a narrow strip."""
    groups = np.stack(list(found.values()))
    return groups[np.argsort(points[groups, 0].mean(axis=1), kind="stable")]


def measure_overlap(points, groups, diameter: float) -> dict:
    """Measure overlap three ways: within groups, between exposures, between group centers; linear and disc area.

    Returns
    -------
    dict
        {"within_groups" | "between_exposures" | "between_group_centers": {"linear": …, "disc_area": …}}, medians.
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
