"""A pedestal: a constant that the detector adds to every count. It has no shot noise, so that no photons explain it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import ChangedFrames
from ptycho.data.scan import Scan
from ptycho.inspection.counts import always_at_limit
from ptycho.inspection.findings import Finding
from ptycho.inspection.statistics import INTEGER_MAXIMA, PRECISION, FrameStatistics

MIN_EXPOSURES = 8
"""Fewest exposures whose lowest counts show how they scatter: of 8, shot noise puts the lowest 1.4 sigma below."""
MIN_PEDESTAL = 10.0
"""Smallest pedestal that is looked for [count]."""
DARKEST = 0.01, 0.1
"""Quantiles of the pixels, by their lowest counts, between which there is no light, and the pedestal alone."""
SCATTER = 0.2
"""Differences between dark pixels and exposures, as a fraction of shot noise, below which they are no photons'."""


def find_pedestal(statistics: FrameStatistics, scan: Scan) -> float | None:
    """Return the constant that the darkest pixels count in every exposure, beside the scan's background; None if none.

    Parameters
    ----------
    statistics : FrameStatistics
    scan : Scan
        Its background is known.
    """
    lit = (statistics.total > 0) & ~always_at_limit(statistics)
    if statistics.n_exposures < MIN_EXPOSURES or not lit.any():
        return None
    lowest, mean = statistics.lowest[lit], statistics.mean_frame[lit]
    known = np.zeros(1) if scan.detector.background is None else scan.detector.background[lit]
    least, most = np.quantile(lowest - known, DARKEST)
    dark = lowest - known <= most
    shot_noise = np.sqrt(max(float(np.median(lowest[dark])), 0.0))
    above = float(np.median((mean - lowest)[dark]))
    is_constant = max(most - least, above) < SCATTER * shot_noise
    return float(np.median((lowest - known)[dark])) if is_constant and least >= MIN_PEDESTAL else None


def check_pedestal(pedestal: float | None) -> list[Finding]:
    """Name a pedestal, and what mends it."""
    if pedestal is None:
        return []
    text = f"a constant background of about {pedestal:,.0f} counts in every pixel and exposure, without shot noise"
    remedy = "subtract it from the frames and convert them again: as --background it would be taken for photons"
    return [Finding("counts", "error", text, remedy)]


def without_pedestal(scan: Scan, pedestal: float) -> Scan:
    """Return a scan whose counts lack a pedestal, so that the other checks see what its photons say."""
    return replace(scan, diffraction=_WithoutPedestal(scan.diffraction, pedestal))


@dataclass(frozen=True)
class _WithoutPedestal(ChangedFrames):
    """Amplitudes of counts less a constant; integer maxima, which mark pixels, stay."""

    pedestal: float

    def __getitem__(self, index: Any) -> NDArray[Any]:
        frames = np.asarray(self.source[index])
        counts = np.square(frames, dtype=np.float64)
        marks = np.any([np.abs(counts - value) <= PRECISION * value for value in INTEGER_MAXIMA[1:]], axis=0)
        return np.where(marks, frames, np.sqrt(np.maximum(counts - self.pedestal, 0))).astype(self.dtype)
