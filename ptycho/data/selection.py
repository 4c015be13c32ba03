"""Which exposures of a scan a view keeps, so that neighbors overlap as much as wanted."""

import math
import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.data.grouping import linear_overlap, nearest_distances


class ViewError(ValueError):
    """A view cannot be made as requested; the message gives the numbers."""


def select_view(
    points: NDArray[np.float64], diameter: float, target: float, tolerance: float = 0.05
) -> NDArray[np.int64]:
    """Select exposures whose median nearest-neighbor overlap is the target.

    All are kept if they are within the tolerance. Otherwise the smallest distance between kept exposures is bisected,
    and the selection closest to the target is returned.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    diameter : float
        Beam diameter [px].
    target : float
        Wanted linear overlap.
    tolerance : float
        Largest accepted difference from the target.

    Returns
    -------
    (m,) int64
        Kept exposures, ascending.

    Raises
    ------
    ViewError
        If no selection is within the tolerance; the message gives the range that can be reached.
    """
    initial = median_overlap(points, diameter)
    everything = np.arange(len(points))
    if abs(initial - target) <= tolerance:
        return everything
    extent = np.ptp(points, axis=0).max()
    low, high = 0.0, float(extent)
    tried = {0.0: (initial, everything)}
    for _ in range(40):
        distance = (low + high) / 2
        kept = subsample_positions(points, distance)
        overlap = median_overlap(points[kept], diameter) if len(kept) > 1 else -math.inf
        tried[distance] = (overlap, kept)
        low, high = (distance, high) if overlap > target else (low, distance)
    overlap, kept = min(tried.values(), key=lambda selection: (abs(selection[0] - target), -len(selection[1])))
    if abs(overlap - target) > tolerance:
        reached = sorted(value for value, _ in tried.values() if math.isfinite(value))
        raise ViewError(
            f"an overlap of {target} (± {tolerance}) cannot be met: subsampling these {len(points)} exposures gives "
            f"{reached[0]:.3f} to {reached[-1]:.3f}, and the nearest to the target is {overlap:.3f}"
        )
    return kept


def subsample_positions(points: NDArray[np.float64], distance_px: float) -> NDArray[np.int64]:
    """Keep points, in scan order, that are at least a distance from all points kept before.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    distance_px : float
        Smallest distance between kept points [px].

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


def median_overlap(points: NDArray[np.float64], diameter: float) -> float:
    """Median linear overlap of every exposure with its nearest neighbor."""
    return float(linear_overlap(np.median(nearest_distances(points)), diameter))


def parse_exposures(text: str, count: int) -> NDArray[np.int64]:
    """Read a list of exposures such as "5,17-30".

    Parameters
    ----------
    text : str
        Numbers and ranges, both ends included, separated by commas.
    count : int
        Exposures that there are.

    Returns
    -------
    (m,) int64
        Different exposures, ascending.

    Raises
    ------
    ValueError
        If the text is no such list, or names an exposure that there is not.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise ValueError(f"exposures '{text}': '{part}' is no number or range; wanted a list such as 5,17-30")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise ValueError(f"exposures '{text}': {part.strip()}; there are {count}, 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return np.array(sorted(chosen), np.int64)
