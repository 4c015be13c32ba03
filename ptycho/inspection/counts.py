"""Counts of the exposures: dark and damaged frames, units, saturation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.inspection.findings import Finding, Level, named, named_option
from ptycho.inspection.statistics import FrameStatistics

DARK = 0.02
"""Counts of an exposure, as a fraction of the median, below which it is dark: the shutter was closed."""
FEW_PHOTONS = 100.0
"""Mean photons per exposure below which hardly anything can be reconstructed."""
CLIPPED_PIXELS = 5
"""Pixels with the same highest count from which on saturation is suspected."""
CHANCE_BELOW = 1000.0
"""Integer maxima below this may also be the highest count by chance."""
CLIPPED_AT = 50.0
"""Smallest count at which saturation is suspected: below, pixels share their highest count by chance."""
SATURATED_SHARE = 1.0e-4
"""Saturated values as a fraction of all, from which on they would ruin a study."""


@dataclass(frozen=True)
class Saturation:
    """Pixels that cannot count higher in some exposures."""

    count: float
    """Where they end [photon]."""
    pixels: NDArray[np.bool_]
    """(N, N) that are saturated in some exposures."""


def usable_exposures(statistics: FrameStatistics) -> NDArray[np.bool_]:
    """Return (M,) which exposures are neither dark nor hold values that are not finite."""
    photons, finite = statistics.photons, statistics.not_finite == 0
    middle = np.median(photons[finite & (photons > 0)]) if (finite & (photons > 0)).any() else 0.0
    return finite & (photons > DARK * middle)


def check_counts(statistics: FrameStatistics) -> list[Finding]:
    """Check the counts of all exposures, and their unit."""
    return [*_exposures(statistics), *_unit(statistics), *_saturation(statistics)]


def _exposures(statistics: FrameStatistics) -> list[Finding]:
    photons, usable, findings = statistics.photons, usable_exposures(statistics), []
    broken = np.flatnonzero(statistics.not_finite)
    dark = np.flatnonzero(~usable & (statistics.not_finite == 0))
    if not usable.any():
        return [
            Finding("counts", "error", f"none of the {len(photons)} exposures has photons", "was the shutter open?")
        ]
    if broken.size:
        text = f"exposures {named(broken)} hold values that are not finite"
        findings.append(Finding("counts", "error", text, f"ptycho convert … --leave-out {named_option(broken)}"))
    if dark.size:
        text = f"{dark.size} of {len(photons)} exposures are dark: {named(dark)}"
        findings.append(Finding("counts", "error", text, f"ptycho convert … --leave-out {named_option(dark)}"))
    mean = float(photons[usable].mean())
    low, high = np.percentile(photons[usable], [5, 95])
    level: Level = "warning" if mean < FEW_PHOTONS else "fine"
    text = f"{mean:,.0f} counts per exposure (5 to 95 %: {low:,.0f} to {high:,.0f}) in {int(usable.sum())} exposures"
    return [*findings, Finding("counts", level, text)]


def _unit(statistics: FrameStatistics) -> list[Finding]:
    if statistics.amplitudes_are_whole:
        text = "every amplitude is whole: counts were taken for amplitudes"
        return [Finding("counts", "error", text, "ptycho convert … --quantity counts")]
    fractional, divisor = np.flatnonzero(statistics.not_whole), statistics.divisor
    if divisor is not None:
        text = f"every count is a multiple of {divisor:.4g}: units of the detector, not photons"
        return [Finding("counts", "error", text, f"ptycho convert … --photons-per-unit {1 / divisor:.4g}")]
    if fractional.size:
        text = (
            f"counts of {fractional.size} exposures are not whole photons, those of {named(fractional, 3)} among them"
        )
        return [
            Finding(
                "counts", "error", text, "ptycho convert … --photons-per-unit G, or --background of what was subtracted"
            )
        ]
    return []


def _saturation(statistics: FrameStatistics) -> list[Finding]:
    saturation = saturation_of(statistics)
    if saturation is None:
        return []
    number = int(saturation.pixels.sum())
    share = number / saturation.pixels.size
    text = f"{number} pixels end at {saturation.count:,.0f} counts in some exposures: saturated"
    level: Level = "error" if share > SATURATED_SHARE else "warning"
    return [Finding("counts", level, text, "ptycho convert … --mask-saturated")]


def saturation_of(statistics: FrameStatistics) -> Saturation | None:
    """Find saturated pixels: an integer maximum in some exposures, or many pixels with the same highest count."""
    if statistics.limit is not None:
        some = (statistics.at_limit > 0) & ~always_at_limit(statistics)
        by_chance = statistics.limit < CHANCE_BELOW and some.sum() < CLIPPED_PIXELS
        return Saturation(statistics.limit, some) if some.any() and not by_chance else None
    highest = statistics.highest
    top = float(highest.max())
    at_top = highest >= top * (1 - 1e-5)
    near_top = (highest >= 0.97 * top) & ~at_top
    if top >= CLIPPED_AT and at_top.sum() >= CLIPPED_PIXELS and near_top.sum() < at_top.sum() / 3:
        return Saturation(top, at_top)
    return None


def always_at_limit(statistics: FrameStatistics) -> NDArray[np.bool_]:
    """Return (N, N) which pixels hold an integer maximum in (almost) every exposure: gaps and dead pixels."""
    return statistics.at_limit >= 0.99 * statistics.n_exposures
