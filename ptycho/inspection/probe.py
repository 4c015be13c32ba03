"""The probe against the mean pattern: power, where the zero frequency is, what the probe's symmetry leaves open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.inspection.counts import always_at_limit
from ptycho.inspection.findings import Finding
from ptycho.inspection.statistics import FrameStatistics
from ptycho.physics.detector import Detector
from ptycho.physics.forward import as_modes, diffract

CORNER_MARGIN = 0.2
"""By so much must the mean pattern correlate better with the probe's when its zero frequency is moved."""
BAD_CORRELATION = 0.3
"""Correlation of both patterns below which the probe says nothing about the scan."""
EDGE_SHARE = 0.02
"""Power of the probe in the outer eighth of its window from which on the window is too small."""
HARDLY_ANY = 0.01
"""Fraction of the probe's photons on valid pixels below which it cannot be compared with the counts."""
POWER_RATIO = 0.02, 1.1
"""Smallest and largest fraction of the probe's photons that is detected."""


@dataclass(frozen=True, kw_only=True)
class PatternMatch:
    """How the mean pattern compares with that of the probe without a sample."""

    as_is: float
    """Correlation of their amplitudes on valid pixels."""
    moved: float
    """The same, with the mean pattern's zero frequency moved from the corner to the middle."""

    @property
    def is_corner(self) -> bool:
        """Whether the zero frequency is in the corner."""
        return self.moved > self.as_is + CORNER_MARGIN

    @property
    def is_clear(self) -> bool:
        """Whether the patterns decide where the zero frequency is."""
        return abs(self.moved - self.as_is) > CORNER_MARGIN


def match_patterns(
    statistics: FrameStatistics, valid: NDArray[np.bool_], probe: NDArray[np.complexfloating]
) -> PatternMatch:
    """Compare the mean frame, on (N, N) valid pixels, with the pattern of a (modes, N, N) probe without a sample."""
    beam = np.sqrt(np.sum(np.abs(diffract(as_modes(probe))) ** 2, axis=0))
    valid = valid & ~always_at_limit(statistics)
    amplitude = np.sqrt(np.minimum(statistics.mean_frame, np.quantile(statistics.mean_frame[valid], 0.995)))
    return PatternMatch(
        as_is=_correlation(amplitude, beam, valid),
        moved=_correlation(np.fft.fftshift(amplitude), beam, np.fft.fftshift(valid)),
    )


def check_probe(
    statistics: FrameStatistics, usable: NDArray[np.bool_], detector: Detector, probe: NDArray[np.complexfloating]
) -> list[Finding]:
    """Check the probe: power, window, and the pattern that it makes without a sample.

    Parameters
    ----------
    statistics : FrameStatistics
    usable : (M,) bool
        Exposures that count.
    detector : Detector
        Pixels that are valid; those that should be masked are not.
    probe : (modes, N, N) complex
    """
    valid = np.ones(probe.shape[-2:], bool) if detector.valid is None else detector.valid
    match = match_patterns(statistics, valid, probe)
    incident = float(np.sum(np.abs(detector.detectable(probe)) ** 2, dtype=np.float64))
    detected = float(statistics.total[valid].sum() / max(usable.sum(), 1))
    ratio, modes = detected / incident, f"{len(probe)} modes" if len(probe) > 1 else "one mode"
    low, high = POWER_RATIO
    text = f"{modes}, {incident:,.0f} photons on valid pixels; {100 * ratio:.3g} % of them are detected"
    if incident < HARDLY_ANY * float(np.sum(np.abs(probe) ** 2, dtype=np.float64)):
        text, ratio = f"{modes}; hardly any of its photons would reach valid pixels", np.nan
    findings = [Finding("probe", "fine" if low < ratio < high else "warning", text)]
    share, moved = _edge_share(probe), _edge_share(np.fft.fftshift(probe, axes=(-2, -1)))
    if moved < EDGE_SHARE < share:
        text = "the middle of the probe is in the corner of its window: [0, 0], not [N/2, N/2]"
        remedy = "apply numpy.fft.fftshift to it; ptycho convert … --probe FILE takes it"
        findings.append(Finding("probe", "error", text, remedy))
    elif share > EDGE_SHARE:
        text = f"{100 * share:.2g} % of the probe's power is at the edge of its window"
        findings.append(Finding("probe", "warning", text, "a larger window: ptycho convert … --pad N"))
    best = max(match.as_is, match.moved)
    text = f"its pattern without a sample correlates with the mean pattern by {match.as_is:.2f}"
    if best < BAD_CORRELATION:
        text += f", and by {match.moved:.2f} with the zero frequency moved from the corner"
        findings.append(Finding("probe", "warning", text, "is it this scan's probe?"))
    else:
        findings.append(Finding("probe", "fine", text))
    shift = pattern_shift(statistics.mean_frame, valid, probe)
    if match.as_is > BAD_CORRELATION and max(map(abs, shift)) >= 1:
        text = f"the zero frequency seems {shift[0]:+d} rows, {shift[1]:+d} columns from pixel [N/2, N/2]"
        remedy = "object and probe will have opposite phase ramps, unless ptycho convert … --crop N --center ROW,COLUMN"
        findings.append(Finding("probe", "note", text, remedy))
    return findings


def pattern_shift(
    mean_frame: NDArray[np.floating], valid: NDArray[np.bool_], probe: NDArray[np.complexfloating]
) -> tuple[int, int]:
    """Shift of the mean pattern against the probe's, rows and columns: the peak of their cross-correlation [px]."""
    beam = np.sqrt(np.sum(np.abs(diffract(as_modes(probe))) ** 2, axis=0))
    amplitude = np.where(valid, np.sqrt(np.maximum(mean_frame, 0)), 0)
    beam = np.where(valid, beam, 0)
    product = fft.rfft2(amplitude - amplitude.mean()) * np.conj(fft.rfft2(beam - beam.mean()))
    peak = np.unravel_index(np.argmax(fft.irfft2(product, s=beam.shape)), beam.shape)
    rows, columns = (
        int(index) if index < size // 2 else int(index) - size for index, size in zip(peak, beam.shape, strict=True)
    )
    return rows, columns


def _correlation(first: NDArray[np.floating], second: NDArray[np.floating], valid: NDArray[np.bool_]) -> float:
    """Pearson's correlation on valid pixels; 0 if one is flat."""
    a, b = (image[valid] - image[valid].mean() for image in (first, second))
    norm = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    return float(np.sum(a * b)) / norm if norm > 0 else 0.0


def _edge_share(probe: NDArray[np.complexfloating]) -> float:
    """Power of the probe in the outer sixteenth of its window on every side, as a fraction of all."""
    intensity = (np.abs(as_modes(probe)) ** 2).sum(axis=0)
    width = max(intensity.shape[0] // 16, 1)
    return 1 - float(np.sum(intensity[width:-width, width:-width])) / float(np.sum(intensity))
