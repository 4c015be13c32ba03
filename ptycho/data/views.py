"""Overlap views of a scan: the exposures that are kept, their roles and groups, and statistics of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data import grouping
from ptycho.data.npz import open_member, save_arrays
from ptycho.data.scan import Scan, detected_photons
from ptycho.physics.forward import illumination, split_position
from ptycho.physics.probes import diameter_px
from ptycho.workflow.files import ContractError, StrPath, save_text


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
    """(m,) 0 fit, 1 validation, 2 holdout."""
    nn_indices: NDArray[np.int64]
    """(B, C) exposures of each group; none is holdout."""
    metadata: dict[str, Any]

    def of_role(self, *roles: int) -> NDArray[np.int64]:
        """Return the exposures that have one of the roles, ascending."""
        return self.exposures[np.isin(self.role, roles)]


def make_view(scan: Scan, target: float, options: GroupingOptions, rng: np.random.Generator) -> View:
    """Select exposures of a given overlap, draw their roles and groups, and measure what resulted.

    Parameters
    ----------
    target : float
        Wanted median linear overlap of nearest neighbors.

    Raises
    ------
    ptycho.data.grouping.ViewError
        If the overlap cannot be met, exposures are too few, or none has a photon.
    """
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    diameter = diameter_px(scan.probe)
    kept = grouping.select_view(points, diameter, target)
    role = grouping.draw_roles(len(kept), options.holdout_fraction, rng)
    usable = kept[role != grouping.HOLDOUT]
    groups = grouping.group_neighbors(
        points[usable],
        options.gridsize**2,
        neighbors=options.neighbors,
        n_groups=options.n_groups,
        max_spread_px=options.max_spread_px,
        rng=rng,
    )
    spacing, photons = grouping.nearest_distances(points[kept]), detected_photons(scan.diffraction, kept)
    if not photons.any():
        raise grouping.ViewError(f"{scan.path}: no photon in any of the view's {len(kept)} exposures")
    metadata = {
        "target_overlap": target,
        "overlap": {
            **grouping.measure_overlap(points[usable], groups, diameter),
            "between_exposures": grouping.measure_overlap(points[kept], groups, diameter)["between_exposures"],
        },
        "diameter_px": diameter,
        "counts": {
            "exposures_of_scan": len(scan),
            "exposures": len(kept),
            **{name: int((role == code).sum()) for code, name in enumerate(grouping.ROLES)},
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
    """Read a view; its groups take 8 bytes an index.

    Raises
    ------
    ContractError
        If the file is missing, is not a view, or was written by ptycho 0.1.
    """
    exposures, role, nn_indices = (open_member(path, key)[...] for key in ("exposures", "role", "nn_indices"))
    metadata = json.loads(str(open_member(path, "metadata")[()]))
    if "stop" in metadata.get("counts", {}):
        raise ContractError(
            f"{path}: has exposures of the role 'stop'; wanted 'validation'; written by ptycho 0.1: run the study again"
        )
    return View(exposures=exposures, role=role, nn_indices=nn_indices, metadata=metadata)


def scored_region(illuminations: Iterable[NDArray[np.float64]], threshold: float = 0.1) -> tuple[int, int, int, int]:
    """Find the largest rectangle that is illuminated in every view.

    A pixel counts as illuminated in a view if its Σ_j|P_j|² is at least `threshold` times the median over the pixels
    with more than 1e-3 of the peak.

    Parameters
    ----------
    illuminations : iterable of (H, W) float64
        One for each view, on the same pixels; one is held at a time.

    Returns
    -------
    y0, y1, x0, x1 : int
        Half-open rectangle.

    Raises
    ------
    ContractError
        If no pixel is illuminated in every view.
    """
    masks = (flux >= threshold * np.median(flux[flux > 1.0e-3 * flux.max()]) for flux in illuminations)
    mask = next(masks)
    for other in masks:
        mask = mask & other
    return _largest_rectangle(mask)


def _largest_rectangle(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find the largest rectangle of True: for every row, the largest rectangle under the histogram of column depths."""
    best, area = (0, 0, 0, 0), 0
    depth = np.zeros(mask.shape[1] + 1, np.int64)  # True pixels above, and a zero that closes the last rectangle
    for row in range(mask.shape[0]):
        depth[:-1] = np.where(mask[row], depth[:-1] + 1, 0)
        stack: list[tuple[int, int]] = []
        for column, height in enumerate(depth.tolist()):
            start = column
            while stack and stack[-1][1] > height:
                start, top = stack.pop()
                if top * (column - start) > area:
                    best, area = (row - top + 1, row + 1, start, column), top * (column - start)
            if not stack or stack[-1][1] < height:
                stack.append((start, height))
    if not area:
        raise ContractError("no pixel of the object is illuminated in every view: nothing can be compared")
    return best
