"""Overlap views of a scan: the exposures that are kept, their roles and groups, and statistics of them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.data.grouping import group_neighbors, linear_overlap, measure_overlap, nearest_distances
from ptycho.data.npz import open_member, save_arrays
from ptycho.data.scan import Scan, detected_photons
from ptycho.physics.forward import illumination, split_position
from ptycho.physics.probes import diameter_px
from ptycho.workflow.files import ContractError, StrPath, save_text

FIT, VALIDATION, HOLDOUT = 0, 1, 2
"""Roles of exposures in a view: for fitting, for validation, for scores alone."""
ROLES = ("fit", "validation", "holdout")
"""Names of the roles: `ROLES[FIT]` is "fit"."""


class ViewError(ValueError):
    """A view cannot be made as requested; the message gives the numbers."""


@dataclass(frozen=True, kw_only=True)
class GroupingOptions:
    """How exposures are grouped."""

    gridsize: int
    """C = gridsize² exposures in a group."""
    neighbors: int
    """K, the number of nearest neighbors of a group's seed to choose from."""
    n_groups: int
    """Wanted number of groups in a view."""
    max_spread_px: float
    """Largest extent of a group along either axis [px]."""
    holdout_fraction: float
    """Fraction of a view that is `holdout`, and of the rest that is `validation`."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A view: indices into its scan, and statistics; no frames."""

    exposures: NDArray[np.int64]
    """(m,) kept exposures, ascending."""
    role: NDArray[np.int8]
    """(m,) `FIT`, `VALIDATION` or `HOLDOUT`."""
    nn_indices: NDArray[np.int64]
    """(B, C) exposures of each group; none is holdout."""
    metadata: dict[str, Any]
    """Statistics, see `make_view`; JSON-serializable."""

    def of_role(self, *roles: int) -> NDArray[np.int64]:
        """Return the exposures that have one of the roles, ascending."""
        return self.exposures[np.isin(self.role, roles)]


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


def draw_roles(n_exposures: int, holdout_fraction: float, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw the role of every exposure; at least one each is holdout and validation.

    Parameters
    ----------
    n_exposures : int
        Number of exposures.
    holdout_fraction : float
        Fraction of all exposures that is holdout, and of the rest that is validation; the others are fit.
    rng : Generator
        Source of the draw.

    Returns
    -------
    (n_exposures,) int8
        `FIT`, `VALIDATION` or `HOLDOUT`.

    Raises
    ------
    ViewError
        If none is left to fit.
    """
    n_holdout = max(round(holdout_fraction * n_exposures), 1)
    n_validation = max(round(holdout_fraction * (n_exposures - n_holdout)), 1)
    if n_exposures - n_holdout - n_validation < 1:
        raise ViewError(
            f"{n_exposures} exposures are too few for {n_holdout} holdout, {n_validation} validation and at least 1 to "
            "fit"
        )
    role = np.zeros(n_exposures, np.int8)
    order = rng.permutation(n_exposures)
    role[order[:n_holdout]] = HOLDOUT
    role[order[n_holdout : n_holdout + n_validation]] = VALIDATION
    return role


def make_view(scan: Scan, target: float, options: GroupingOptions, rng: np.random.Generator) -> View:
    """Select exposures of a given overlap, draw their roles and groups, and measure what resulted.

    Parameters
    ----------
    scan : Scan
        Where the exposures come from.
    target : float
        Wanted median linear overlap of nearest neighbors.
    options : GroupingOptions
        How they are grouped.
    rng : Generator
        Source of the draw of roles and groups.

    Raises
    ------
    ViewError
        If the overlap cannot be met, exposures are too few, or none has a photon.
    ptycho.data.grouping.GroupingError
        If no groups can be drawn.
    """
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    diameter = diameter_px(scan.probe)
    kept = select_view(points, diameter, target)
    role = draw_roles(len(kept), options.holdout_fraction, rng)
    usable = kept[role != HOLDOUT]
    groups = group_neighbors(
        points[usable],
        options.gridsize**2,
        neighbors=options.neighbors,
        n_groups=options.n_groups,
        max_spread_px=options.max_spread_px,
        rng=rng,
    )
    spacing, photons = nearest_distances(points[kept]), detected_photons(scan.diffraction, kept)
    if not photons.any():
        raise ViewError(f"{scan.path}: no photon in any of the view's {len(kept)} exposures")
    metadata = {
        "target_overlap": target,
        "overlap": {
            **measure_overlap(points[usable], groups, diameter),
            "between_exposures": measure_overlap(points[kept], groups, diameter)["between_exposures"],
        },
        "diameter_px": diameter,
        "counts": {
            "exposures_of_scan": len(scan),
            "exposures": len(kept),
            **{name: int((role == code).sum()) for code, name in enumerate(ROLES)},
            "exposures_without_photons": int((photons == 0).sum()),
            "groups": len(groups),
            "groups_wanted": options.n_groups,
        },
        "gridsize": options.gridsize,
        "spacing_px": {f"q{q:02d}": float(np.percentile(spacing, q)) for q in (5, 25, 50, 75, 95)},
        "dose_photons": float(scan.metadata["dose"]),
        "mean_detected_photons": float(photons.mean()),
        "fluence_photons_per_px": fluence(scan, kept),
    }
    return View(exposures=kept, role=role, nn_indices=usable[groups], metadata=metadata)


def fluence(scan: Scan, exposures: NDArray[np.int64]) -> float:
    """Incident photons per object pixel: median of Σ_j|P_j|² over the bounding box of the patch centers."""
    x, y = scan.xcoords[exposures], scan.ycoords[exposures]
    (top, left), (bottom, right) = ((split_position(edge)[0]) for edge in ((y.min(), x.min()), (y.max(), x.max())))
    shape = int(bottom - top) + 1, int(right - left) + 1
    return float(np.median(illumination(scan.probe, x, y, shape, (int(top), int(left)))))


def save_view(path: StrPath, view: View) -> None:
    """Write a view as NPZ, and its statistics as JSON beside it."""
    metadata = json.dumps(view.metadata, indent=2)
    save_arrays(path, exposures=view.exposures, role=view.role, nn_indices=view.nn_indices, metadata=np.array(metadata))
    save_text(Path(path).with_suffix(".json"), metadata + "\n")


def open_view(path: StrPath) -> View:
    """Read a view; its groups take 8 bytes per index.

    Raises
    ------
    ContractError
        If the file is missing, not a view, or was written by ptycho 0.1.
    """
    exposures, role, nn_indices = (open_member(path, key)[...] for key in ("exposures", "role", "nn_indices"))
    metadata = json.loads(str(open_member(path, "metadata")[()]))
    if "stop" in metadata.get("counts", {}):
        raise ContractError(
            f"{path}: has exposures of the role 'stop'; wanted 'validation'; written by ptycho 0.1: run the study again"
        )
    return View(exposures=exposures, role=role, nn_indices=nn_indices, metadata=metadata)
