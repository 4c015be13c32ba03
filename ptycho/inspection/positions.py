"""Positions of the exposures: units, runaways, islands, doubled ones, overlap."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ptycho.data.grouping import linear_overlap, nearest_distances
from ptycho.inspection.findings import Finding, Level, named, named_option

SAME_PX = 0.05
"""Distance below which two positions are one [px]."""
RUNAWAY = 5.0
"""Extents of all other positions by which an exposure must lie away from them to be a runaway."""
LOW_OVERLAP = 0.4
"""Linear overlap below which reconstructions of an unknown object become doubtful."""


def check_positions(points: NDArray[np.float64], diameter_px: float) -> list[Finding]:
    """Check the positions of all exposures against the beam.

    Parameters
    ----------
    points : (M, 2) float64
        Positions (y, x) [px].
    diameter_px : float
        Diameter of the beam, see `ptycho.physics.probes.diameter_px` [px].
    """
    if len(points) < 2:
        return [Finding("positions", "error", f"{len(points)} exposures; wanted a scan with overlap")]
    far = runaways(points)
    findings, kept = [], points[~far]
    if far.any():
        exposures = np.flatnonzero(far)
        places = "; ".join(f"{index} at y {points[index, 0]:.0f}, x {points[index, 1]:.0f}" for index in exposures[:3])
        text = f"{far.sum()} exposures lie far from all others: {named(exposures)} ({places} px)"
        findings.append(Finding("positions", "error", text, f"ptycho convert … --leave-out {named_option(exposures)}"))
    islands = _islands(kept, np.flatnonzero(~far), diameter_px)
    return [*findings, *_spacing(kept, diameter_px), *islands, *_doubled(points)]


def runaways(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (M,) which positions lie far outside the box of the middle 90 % of all."""
    low, high = np.percentile(points, [5, 95], axis=0)
    extent = max(float((high - low).max()), 1.0)
    return np.asarray((np.maximum(low - points, points - high) > RUNAWAY * extent).any(axis=1))


def _spacing(points: NDArray[np.float64], diameter_px: float) -> list[Finding]:
    """Compare the median step with the beam: a unit other than pixels makes it far too large or far too small."""
    different = np.unique(np.rint(points / SAME_PX), axis=0) * SAME_PX
    step = float(np.median(nearest_distances(different))) if len(different) > 1 else 0.0
    overlap = float(linear_overlap(step, diameter_px))
    text = f"step {step:.3g} px, beam {diameter_px:.3g} px: linear overlap {overlap:.2f}"
    if step > diameter_px:
        remedy = "are positions in pixels? ptycho convert … --position-unit, --energy, --distance, --detector-pixel"
        return [Finding("positions", "error", f"neighboring beams do not touch: {text}", remedy)]
    if step < 0.02 * diameter_px:
        remedy = "are positions in pixels? ptycho convert … --position-unit"
        return [Finding("positions", "error", f"positions hardly move: {text}", remedy)]
    if overlap < LOW_OVERLAP:
        return [Finding("positions", "warning", f"little overlap: {text}", "more is wanted for an unknown object")]
    return [Finding("positions", "fine", text)]


def _islands(points: NDArray[np.float64], exposures: NDArray[np.int64], diameter_px: float) -> list[Finding]:
    """Find exposures whose beams no chain of overlapping beams connects to most others."""
    label = connected_parts(points, diameter_px)
    sizes = np.bincount(label)
    if len(sizes) == 1 or sizes.max() == 1:  # in the latter case, the spacing says so
        return []
    outside = exposures[label != sizes.argmax()]
    text = f"{len(sizes)} islands that no overlap connects; outside the largest: exposures {named(outside)}"
    remedy = f"their phases are arbitrary; ptycho convert … --leave-out {named_option(outside)}"
    level: Level = "error" if len(outside) > 0.02 * len(points) else "warning"
    return [Finding("positions", level, text, remedy)]


def connected_parts(points: NDArray[np.float64], distance_px: float) -> NDArray[np.int64]:
    """Number, for every one of (M, 2) points, the part that steps of at most a distance connect it to."""
    pairs = _neighbors(points, distance_px)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _neighbors(points: NDArray[np.float64], distance_px: float, count: int = 12) -> NDArray[np.int64]:
    """Pairs of each point and its nearest neighbors within a distance: enough to connect a scan."""
    count = min(count, len(points) - 1)
    queried = KDTree(points).query(points, k=count + 1, distance_upper_bound=distance_px)
    distance, nearest = (np.reshape(part, (len(points), count + 1)) for part in queried)
    first = np.repeat(np.arange(len(points)), count)
    near = np.isfinite(distance[:, 1:]).ravel()
    return np.stack([first[near], nearest[:, 1:].ravel()[near]], axis=1)


def _doubled(points: NDArray[np.float64]) -> list[Finding]:
    doubled = np.flatnonzero(nearest_distances(points) < SAME_PX)
    if not doubled.size:
        return []
    level: Level = "warning" if doubled.size > 0.1 * len(points) else "note"
    text = f"{doubled.size} exposures share their position with another: {named(doubled)}"
    return [Finding("positions", level, text)]
