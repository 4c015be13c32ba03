"""What a scan supports: doses, overlaps and groups, as a study file that is ready to run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.data.grouping import nearest_distances
from ptycho.data.scan import Scan, split_rows
from ptycho.data.selection import ViewError, median_overlap, select_view
from ptycho.inspection.findings import Finding
from ptycho.physics.probes import diameter_px, illuminated_height_px
from ptycho.workflow.files import ContractError

MIN_EXPOSURES = 24
"""Fewest exposures of a view in a split."""
SPARSE = 0.15
"""Overlap of the sparse view below that of the dense one, at least."""
LOWEST_OVERLAP = 0.4
"""Lowest overlap of a sparse view."""
TRAIN_FRACTION = 0.5
"""Fraction of train among the exposures of both splits."""
MIN_GROUPS, SPREADS = 100, (1, 2, 4)
"""Groups from which on networks can be trained, and extents of a group that are tried, in units of the default."""
TOLERANCE = 0.1
"""By so much may an overlap that is asked for exceed the scan's: views have a tolerance, and the probe is refined."""
METHODS = ("pinn", "baseline", "unrolled", "lsqml", "tv")
"""Methods of the proposed study."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the config of a measured study asks of its scan."""

    doses: tuple[float, ...] = ()
    """Photons per exposure."""
    views: dict[str, float] = field(default_factory=dict)
    """View -> linear overlap."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """What a scan supports."""

    max_dose: float
    """Largest dose: half of the mean counts, the other half being for the reference [photon/exposure]."""
    doses: tuple[int, ...]
    """Powers of ten up to that."""
    views: dict[str, float]
    """Overlap by view; empty if the scan cannot be split."""
    exposures: dict[str, tuple[int, int]]
    """View -> exposures in the train and in the test split."""
    n_groups: int
    """Training groups in the view with the fewest, at most the default."""
    max_spread: float
    """Extent of a group for which there are that many, at least the default."""
    problem: str = ""
    """Why the scan cannot be split in train and test."""

    @property
    def is_enough(self) -> bool:
        """Whether there is a study that can run."""
        return bool(self.doses and self.views)


def find_support(
    scan: Scan, photons: NDArray[np.float64], usable: NDArray[np.bool_], grouping: dict[str, Any]
) -> Support:
    """Find the doses, overlaps and groups that a measured study of a scan can have.

    Parameters
    ----------
    scan : Scan
    photons : (M,) float64
        Counts of every exposure.
    usable : (M,) bool
        Exposures that count.
    grouping : dict
        `gridsize`, `neighbors`, `n_groups` and `max_spread` of the defaults.
    """
    max_dose = float(photons[usable].mean()) / 2 if usable.any() else 0.0
    doses = tuple(10**power for power in range(2, 7) if 10**power <= max_dose)[-3:]
    used, diameter = np.flatnonzero(usable), diameter_px(scan.probe)
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)[used]
    try:
        train, test = split_rows(points[:, 0], illuminated_height_px(scan.probe), TRAIN_FRACTION)
    except (ContractError, ValueError) as error:
        none: dict[str, Any] = {"views": {}, "exposures": {}, "n_groups": 0, "max_spread": 0}
        return Support(max_dose=max_dose, doses=doses, problem=str(error), **none)
    splits = points[train], points[test]
    views, exposures = _views(splits, diameter)
    kept = [splits[0][select_view(splits[0], diameter, overlap)] for overlap in views.values()]
    n_groups, spread = 0, grouping["max_spread"]
    for spread in (grouping["max_spread"] * factor for factor in SPREADS):
        n_groups = min((_count_groups(points, {**grouping, "max_spread": spread}) for points in kept), default=0)
        if n_groups >= MIN_GROUPS:
            break
    return Support(
        max_dose=max_dose, doses=doses, views=views, exposures=exposures, n_groups=n_groups, max_spread=spread
    )


def _views(
    splits: tuple[NDArray[np.float64], ...], diameter: float
) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """Return the densest overlap that both splits have, and a sparser one that leaves enough exposures."""
    views: dict[str, float] = {}
    exposures: dict[str, tuple[int, int]] = {}
    if min(map(len, splits)) < 2:
        return views, exposures
    dense = np.floor(20 * min(median_overlap(points, diameter) for points in splits) + 1e-9) / 20
    if (counts := _numbers(splits, diameter, dense)) and dense > 0:
        views["dense"], exposures["dense"] = float(dense), counts
        for overlap in np.arange(LOWEST_OVERLAP, dense - SPARSE + 1e-9, 0.05):
            counts = _numbers(splits, diameter, overlap)
            if counts and min(counts) >= MIN_EXPOSURES:
                views["sparse"], exposures["sparse"] = round(float(overlap), 2), counts
                break
    return views, exposures


def _numbers(splits: tuple[NDArray[np.float64], ...], diameter: float, overlap: float) -> tuple[int, int] | None:
    """Return the exposures that a view keeps of both splits; None if it cannot be made."""
    try:
        train, test = (len(select_view(points, diameter, overlap)) for points in splits)
    except ViewError:
        return None
    return train, test


def _count_groups(points: NDArray[np.float64], grouping: dict[str, Any]) -> int:
    """Estimate the training groups among the exposures of a view, at most the wanted number.

    An exposure has as many as there are choices among its nearest neighbors that lie within half the largest extent of
    a group; a group is counted for each of its exposures.
    """
    size, spacing = grouping["gridsize"] ** 2, float(np.median(nearest_distances(points)))
    if len(points) <= size:
        return 1
    k = min(grouping["neighbors"] + 1, len(points))
    nearest = np.reshape(KDTree(points).query(points, k=k)[1], (len(points), k))[:, 1:]
    near = np.abs(points[nearest] - points[:, None]).max(axis=2) <= grouping["max_spread"] * spacing / 2
    choices = sum(math.comb(int(count), size - 1) for count in near.sum(axis=1))
    return min(choices // size, grouping["n_groups"])


def check_header(scan: Scan, doses: Iterable[float]) -> None:
    """Refuse doses above half of the photons that the metadata of a scan speak of; no frame is read.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a dose is too high.
    """
    most = float(scan.metadata["dose"]) / 2
    if too_many := [dose for dose in doses if dose > most]:
        raise ContractError(
            f"doses: {', '.join(f'{dose:,}' for dose in too_many)}; half of {scan.path} holds {most:,.0f} photons per "
            "exposure, the other half is for the reference"
        )


def check_request(request: Request, support: Support) -> list[Finding]:
    """Say what a study asks for that its scan does not hold."""
    findings = []
    if too_many := [dose for dose in request.doses if dose > support.max_dose]:
        asked, most = ", ".join(f"{dose:,}" for dose in too_many), f"{support.max_dose:,.0f}"
        text = f"doses: {asked} photons per exposure asked for; half of the scan holds {most}"
        findings.append(Finding("support", "error", text, "lower doses"))
    densest = max(support.views.values(), default=1.0)
    if too_dense := {name: overlap for name, overlap in request.views.items() if overlap > densest + TOLERANCE}:
        asked = ", ".join(f"{name} {overlap}" for name, overlap in too_dense.items())
        text = f"views: {asked} asked for; with the probe as given, the scan has an overlap of {densest:.2f}"
        findings.append(Finding("support", "warning", text, "lower overlaps"))
    return findings


def check_support(support: Support) -> list[Finding]:
    """Say what a study of the scan can ask for."""
    if support.problem:
        remedy = "a measured study splits the scan along y; one without networks can be judged by ptycho judge"
        return [Finding("support", "error", f"no train and test split: {support.problem}", remedy)]
    if not support.views:
        return [Finding("support", "error", "too few exposures on either side of the guard band for any view")]
    findings = []
    if not support.doses:
        findings.append(
            Finding("support", "error", f"at most {support.max_dose:.0f} photons per exposure can be asked for")
        )
    doses = ", ".join(f"{dose:,}" for dose in support.doses)
    views = "; ".join(
        f"{name} {overlap:.2f} ({train} train, {test} test exposures)"
        for (name, overlap), (train, test) in zip(support.views.items(), support.exposures.values(), strict=True)
    )
    few = min(min(counts) for counts in support.exposures.values()) < MIN_EXPOSURES
    text = f"doses up to {support.max_dose:,.0f}: {doses}; overlaps: {views}; {support.n_groups} groups to train on"
    return [*findings, Finding("support", "warning" if few else "fine", text)]


def study_file(scan_path: str, name: str, support: Support, defaults: dict[str, Any]) -> str:
    """Write a study file, YAML, that asks for what the scan supports.

    Parameters
    ----------
    scan_path : str
        Path of the scan, as the study is to find it.
    name : str
        Name of the study.
    support : Support
        Without a problem.
    defaults : dict
        `config/defaults.yaml`: what is the same is left out.
    """
    content: dict[str, Any] = {
        "study": name,
        "doses": list(support.doses),
        "methods": list(METHODS),
        "halves": ["lsqml"],
        "views": support.views,
        "source": {"kind": "measured", "scan": scan_path, "seed": 0, "train_fraction": TRAIN_FRACTION},
    }
    own = {"n_groups": max(support.n_groups, 1), "max_spread": support.max_spread}
    if changed := {key: value for key, value in own.items() if value != defaults["grouping"][key]}:
        content["grouping"] = changed
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
