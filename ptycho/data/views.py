"""Overlap views of a scan: the exposures that are kept, their roles and groups, and statistics of them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import check_exposures
from ptycho.data.grouping import (
    group_around,
    group_neighbors,
    measure_groups,
    measure_overlap,
    nearest_distances,
    sort_groups,
)
from ptycho.data.npz import Npz, save_arrays
from ptycho.data.scan import Scan, detected_photons
from ptycho.data.selection import ViewError, select_view
from ptycho.physics.forward import illumination, split_position
from ptycho.physics.probes import diameter_px
from ptycho.workflow.damage import check_fields
from ptycho.workflow.files import ContractError, StrPath, save_text

FIT, VALIDATION, HOLDOUT = 0, 1, 2
"""Roles of exposures in a view: for fitting, for validation, for scores alone."""
ROLES = ("fit", "validation", "holdout")
"""Names of the roles: `ROLES[FIT]` is "fit"."""


@dataclass(frozen=True, kw_only=True)
class GroupingOptions:
    """How exposures are grouped."""

    gridsize: int
    """C = gridsize² exposures in a group, or all fit exposures of a view that has fewer."""
    neighbors: int
    """K, the number of nearest neighbors of a group's seed to choose from."""
    n_groups: int
    """Wanted number of training groups in a view."""
    max_spread: float
    """Largest extent of a group along either axis, in units of the median distance of nearest neighbors."""
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
    """(B, C) exposures of each group, none of them holdout; from the top of the scan to its bottom. B is 0 before
    `with_groups`.

    Training groups, of fit exposures only, and one validation group for each validation exposure: it and the nearest
    fit exposures.
    """
    metadata: dict[str, Any]
    """Statistics; JSON-serializable."""

    def of_role(self, *roles: int) -> NDArray[np.int64]:
        """Return the exposures that have one of the roles, ascending."""
        return self.exposures[np.isin(self.role, roles)]


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


def make_view(scan: Scan, target: float, holdout_fraction: float, rng: np.random.Generator) -> View:
    """Select exposures of a given overlap, draw their roles, and measure what resulted; see also `with_groups`.

    Parameters
    ----------
    scan : Scan
        Where the exposures come from.
    target : float
        Wanted median linear overlap of nearest neighbors.
    holdout_fraction : float
        Fraction of the view that is `holdout`, and of the rest that is `validation`.
    rng : Generator
        Source of the draw of roles.

    Raises
    ------
    ViewError
        If the overlap cannot be met, exposures are too few, or none has a photon.
    """
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    diameter = diameter_px(scan.probe)
    kept = select_view(points, diameter, target)
    role = draw_roles(len(kept), holdout_fraction, rng)
    spacing, photons = nearest_distances(points[kept]), _detected_photons(scan, kept)
    metadata = {
        "target_overlap": target,
        "overlap": {"between_exposures": measure_overlap(spacing, diameter)},
        "diameter_px": diameter,
        "counts": {
            "exposures_of_scan": len(scan),
            "exposures": len(kept),
            **{name: int((role == code).sum()) for code, name in enumerate(ROLES)},
            "exposures_without_photons": int((photons == 0).sum()),
        },
        "spacing_px": {f"q{q:02d}": float(np.percentile(spacing, q)) for q in (5, 25, 50, 75, 95)},
        "dose_photons": float(scan.metadata["dose"]),
        "mean_detected_photons": float(photons.mean()),
        "fluence_photons_per_px": fluence(scan, kept),
    }
    return View(exposures=kept, role=role, nn_indices=np.empty((0, 1), np.int64), metadata=metadata)


def with_groups(view: View, scan: Scan, options: GroupingOptions, rng: np.random.Generator) -> View:
    """Draw the groups to train on; a view that is only reconstructed needs none.

    Training groups are drawn among the fit exposures alone. Each validation exposure has one group more, with the
    nearest fit exposures. With no more fit exposures than gridsize², a group is all of them.

    Parameters
    ----------
    view : View
        View of the train split.
    scan : Scan
        Where its exposures come from.
    options : GroupingOptions
        How they are grouped; `holdout_fraction` is not used.
    rng : Generator
        Source of the draw.

    Raises
    ------
    ptycho.data.grouping.GroupingError
        If no groups can be drawn.
    """
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    fit, validation = view.of_role(FIT), view.of_role(VALIDATION)
    groups = group_neighbors(
        points[fit],
        options.gridsize**2,
        neighbors=options.neighbors,
        n_groups=options.n_groups,
        max_spread=options.max_spread,
        rng=rng,
    )
    validation_groups = group_around(points, validation, fit, groups.shape[1])
    numbers = {
        "groups": len(groups),
        "groups_wanted": options.n_groups,
        "validation_groups": len(validation_groups),
    }
    overlap = measure_groups(points[fit], groups, diameter_px(scan.probe))
    metadata = {
        **view.metadata,
        "overlap": view.metadata["overlap"] | overlap,
        "counts": view.metadata["counts"] | numbers,
        "gridsize": options.gridsize,
        "group_size": groups.shape[1],
    }
    if scan.detector.bad_pixels is not None:
        metadata["valid_pixel_fraction"] = scan.detector.n_valid(scan.n_pixels) / scan.n_pixels**2
    nn_indices = sort_groups(points, np.concatenate([fit[groups], validation_groups]))
    return replace(view, nn_indices=nn_indices, metadata=metadata)


def whole_view(scan: Scan, holdout_fraction: float, rng: np.random.Generator) -> View:
    """Return a view of all exposures to apply networks to: roles, no groups to train on.

    Raises
    ------
    ViewError
        If exposures are too few, or none has a photon.
    """
    exposures = np.arange(len(scan))
    role = draw_roles(len(exposures), holdout_fraction, rng)
    _detected_photons(scan, exposures)
    return View(exposures=exposures, role=role, nn_indices=np.empty((0, 1), np.int64), metadata={})


def _detected_photons(scan: Scan, exposures: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the photons of each exposure on valid pixels; refuse exposures that have none at all."""
    photons = detected_photons(scan.diffraction, exposures)
    if not photons.any():
        raise ViewError(f"{scan.path}: no photon in any of the view's {len(exposures)} exposures")
    return photons


def fluence(scan: Scan, exposures: NDArray[np.int64]) -> float:
    """Incident photons per object pixel: median of Σ_j|P_j|² over the bounding box of the patch centers."""
    x, y = scan.xcoords[exposures], scan.ycoords[exposures]
    (top, left), (bottom, right) = ((split_position(edge)[0]) for edge in ((y.min(), x.min()), (y.max(), x.max())))
    shape = int(bottom - top) + 1, int(right - left) + 1
    scale = scan.detector.select(exposures).exposure_scale
    return float(np.median(illumination(scan.probe, x, y, shape, (int(top), int(left)), scale=scale)))


def save_view(path: StrPath, view: View) -> None:
    """Write a view as NPZ, and its statistics as JSON beside it."""
    metadata = json.dumps(view.metadata, indent=2)
    save_arrays(
        path,
        exposures=view.exposures,
        role=view.role,
        nn_indices=view.nn_indices,
        metadata=np.array(metadata),
    )
    save_text(Path(path).with_suffix(".json"), metadata + "\n")


def open_view(path: StrPath, scan: Scan | None = None) -> View:
    """Read a view; its groups take 8 bytes per index.

    Parameters
    ----------
    path : path
        NPZ that `save_view` wrote.
    scan : Scan, optional
        What it is a view of: exposures that the scan does not have are refused.

    Raises
    ------
    ContractError
        If the file is missing, damaged, not a view, not of the scan, or was written by an older version.
    """
    with Npz(path) as file:
        exposures, role, nn_indices = (file.array(key) for key in ("exposures", "role", "nn_indices"))
        metadata = file.metadata()
    counts = metadata.get("counts", {})
    check_fields({"counts": counts}, f"{path}: 'metadata'", counts=dict)
    if scan is not None and counts.get("exposures_of_scan", len(scan)) != len(scan):
        raise ContractError(
            f"{path}: a view of a scan of {counts['exposures_of_scan']} exposures, {scan.path} has {len(scan)}; wanted "
            "the scan of that view, of a study data/dose_…/seed_…/"
        )
    if "stop" in counts:
        raise ContractError(
            f"{path}: has exposures of the role 'stop'; wanted 'validation'; written by ptycho 0.1: run the study again"
        )
    check_exposures(path, "exposures", exposures, scan)
    if role.dtype.kind != "i" or role.shape != exposures.shape or not np.isin(role, range(len(ROLES))).all():
        raise ContractError(
            f"{path}: 'role' is {role.dtype} with shape {role.shape}; wanted one of 0 to {len(ROLES) - 1} for each of "
            f"{len(exposures)} exposures"
        )
    for code in (FIT, VALIDATION):
        if not (role == code).any():
            raise ContractError(f"{path}: 'role' has no exposure for {ROLES[code]}, {code}; wanted one at least")
    if nn_indices.dtype.kind != "i" or nn_indices.ndim != 2 or not nn_indices.shape[1]:
        raise ContractError(
            f"{path}: 'nn_indices' is {nn_indices.dtype} with shape {nn_indices.shape}; wanted integers, (B, C)"
        )
    strangers = np.setdiff1d(nn_indices, exposures[role != HOLDOUT])
    if strangers.size:
        raise ContractError(
            f"{path}: 'nn_indices' has exposure {strangers[0]}, which is holdout or not in the view; wanted others"
        )
    return View(exposures=exposures, role=role, nn_indices=nn_indices, metadata=metadata)
