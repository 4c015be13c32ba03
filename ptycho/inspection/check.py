"""The check of a scan: every finding, the verdict, and what it proposes: a mask, the flux, a study file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import MaskedFrames
from ptycho.data.scan import Scan, detected_photons
from ptycho.inspection.counts import check_counts, saturation_of, usable_exposures
from ptycho.inspection.findings import Finding, Verdict
from ptycho.inspection.flux import Jump, check_flux, confirm_jumps, find_jumps, flux_of
from ptycho.inspection.orientation_search import OrientationSearch, check_orientation, search_orientation
from ptycho.inspection.pedestal import check_pedestal, find_pedestal, without_pedestal
from ptycho.inspection.pixels import SuspiciousPixels, check_pixels, find_pixels
from ptycho.inspection.positions import check_positions, runaways
from ptycho.inspection.probe import check_probe, match_patterns
from ptycho.inspection.quantity import is_open as quantity_is_open
from ptycho.inspection.scale import check_scale, search_scale
from ptycho.inspection.statistics import FrameStatistics, frame_statistics
from ptycho.inspection.support import Request, Support, check_request, check_support, find_support
from ptycho.physics.probes import diameter_px


@dataclass(frozen=True, kw_only=True)
class Check:
    """All that a check found."""

    scan: Scan
    verdict: Verdict
    statistics: FrameStatistics
    usable: NDArray[np.bool_]
    """(M,) exposures that are neither dark, damaged nor runaways."""
    pixels: SuspiciousPixels
    bad_pixels: NDArray[np.bool_]
    """(N, N) masked already, suspicious, or saturated: the proposed mask."""
    jumps: list[Jump]
    """Where the flux jumps."""
    search: OrientationSearch | None
    """Trials of orientations; None if there are too few exposures."""
    support: Support

    @property
    def proposals(self) -> dict[str, NDArray[Any]]:
        """Arrays of the contract that the scan should have."""
        known = self.scan.detector.bad_pixels
        proposed: dict[str, NDArray[Any]] = {}
        if self.bad_pixels.sum() > (0 if known is None else known.sum()):
            proposed["bad_pixels"] = self.bad_pixels
        if self.jumps:
            before = self.scan.detector.exposure_scale
            proposed["exposure_scale"] = flux_of(self.jumps, len(self.scan)) * (1 if before is None else before)
        return proposed


def check_scan(scan: Scan, grouping: dict[str, Any], request: Request | None = None) -> Check:
    """Check a scan. Its frames are read once in blocks, and some of them again: memory does not grow with the scan.

    Parameters
    ----------
    scan : Scan
    grouping : dict
        `gridsize`, `neighbors`, `n_groups` and `max_spread` of a study.
    request : Request, optional
        What the study asks for.
    """
    request = request or Request()
    n, points = scan.n_pixels, np.stack([scan.ycoords, scan.xcoords], axis=1)
    valid = np.ones((n, n), bool) if scan.detector.valid is None else scan.detector.valid
    statistics = frame_statistics(scan, valid)
    pedestal = find_pedestal(statistics, scan)
    if pedestal is not None:
        scan, before = without_pedestal(scan, pedestal), statistics
        statistics = replace(frame_statistics(scan, valid), divisor=before.divisor, not_whole=before.not_whole)
    pixels = find_pixels(statistics, valid, scan.probe, corner=match_patterns(statistics, valid, scan.probe).is_corner)
    saturation = saturation_of(statistics)
    good = valid & ~pixels.mask & (True if saturation is None else ~saturation.pixels)
    if not good.all():
        photons = detected_photons(MaskedFrames(scan.diffraction, ~good))
        statistics = replace(statistics, photons=np.where(statistics.not_finite > 0, 0, photons))
    usable = usable_exposures(statistics) & ~runaways(points)
    detector = replace(scan.detector, bad_pixels=None if good.all() else ~good)
    findings = [
        *check_pedestal(pedestal),
        *check_counts(statistics),
        *check_pixels(statistics, pixels, int((~valid).sum())),
        *check_positions(points, diameter_px(scan.probe)),
        *check_probe(statistics, usable, detector, scan.probe),
    ]
    match = match_patterns(statistics, good, scan.probe)
    is_open = pedestal is None and quantity_is_open(scan, statistics)
    found = find_jumps(statistics.photons, points, usable)
    search, tried = _search(
        scan, found, lambda tried: search_orientation(tried, usable, good, match, quantity_is_open=is_open)
    )
    is_sure = search is not None and search.is_sure
    jumps = confirm_jumps(scan, found, usable, good, search.best) if search is not None and is_sure else []
    scale = None if search is None else search_scale(tried, usable, good, search)
    support = find_support(scan, statistics.photons, usable, grouping)
    in_units = statistics.divisor is not None or bool(statistics.not_whole.any())
    turned = check_orientation(search, unit_is_open=in_units)
    if pedestal is not None:  # it explains whatever else the counts may seem to be
        turned = [finding for finding in turned if finding.topic != "counts"]
    findings += [*check_flux(jumps, len(scan), () if is_sure else found), *turned, *check_scale(scale)]
    findings += [*check_support(support), *check_request(request, support)]
    return Check(
        scan=scan,
        verdict=Verdict.of(str(scan.path), findings),
        statistics=statistics,
        usable=usable,
        pixels=pixels,
        bad_pixels=~good,
        jumps=jumps,
        search=search,
        support=support,
    )


def _search(
    scan: Scan, jumps: list[Jump], search: Callable[[Scan], OrientationSearch | None]
) -> tuple[OrientationSearch | None, Scan]:
    """Try all orientations; if none is decided, once more with the flux that jumps of the counts would show.

    Returns
    -------
    search : OrientationSearch or None
    scan : Scan
        As it was tried.
    """
    first = search(scan)
    if first is None or first.is_sure or not jumps:
        return first, scan
    known = scan.detector.exposure_scale
    flux = flux_of(jumps, len(scan)) * (1 if known is None else known)
    tried = replace(scan, detector=replace(scan.detector, exposure_scale=flux / flux.mean()))
    second = search(tried)
    return (second, tried) if second is not None and second.is_sure else (first, scan)


def unreadable(path: Path, error: Exception) -> Verdict:
    """Return the verdict on a file that could not be read."""
    return Verdict(source=str(path), status=2, findings=(Finding("file", "error", str(error)),))
