"""Pixels of the detector that count something other than photons: gaps, dead and hot pixels; a mask of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho.inspection.counts import always_at_limit
from ptycho.inspection.findings import Finding, Level
from ptycho.inspection.statistics import FrameStatistics
from ptycho.physics.forward import as_modes, diffract

NEIGHBORHOOD_PX = 5
"""Side of the neighborhood that a pixel is compared with [px]."""
HOT_QUANTILE, DEAD_QUANTILE = 0.85, 0.15
"""Quantiles of the neighborhood that a hot and a dead pixel are compared with: sharp edges of the beam are neither."""
HOT = 10.0
"""Counts of a hot pixel in units of its neighborhood's, where the probe alone explains no such peak."""
DEAD = 0.05
"""Counts of a dead pixel in units of its neighborhood's."""
MIN_COUNTS = 25.0
"""Counts of the neighborhood in all exposures together, from which on a pixel without any is no accident."""
RING_COVERED = 0.3
"""Fraction of a ring that must count photons for the rest of it to be called dead."""
HARMLESS = 1.0e-3
"""Fraction of all photons: hot pixels with less, and dead pixels that miss less, ruin nothing."""


@dataclass(frozen=True, kw_only=True)
class SuspiciousPixels:
    """Which valid pixels should be masked, by reason; (N, N) bool each."""

    gaps: NDArray[np.bool_]
    """Hold the largest value of an integer in every exposure."""
    hot: NDArray[np.bool_]
    """Far above their neighborhood."""
    dead: NDArray[np.bool_]
    """Far below their neighborhood, or zero in a ring that counts photons."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(N, N) all of them."""
        return self.gaps | self.hot | self.dead


def find_pixels(
    statistics: FrameStatistics, valid: NDArray[np.bool_], probe: NDArray[np.complexfloating], *, corner: bool = False
) -> SuspiciousPixels:
    """Find pixels that should be masked.

    Parameters
    ----------
    statistics : FrameStatistics
    valid : (N, N) bool
        Pixels that are not masked yet; only these can be suspicious.
    probe : (modes, N, N) complex
        Its pattern without a sample says which peaks are those of the beam.
    corner : bool
        Whether the zero frequency is in the corner.
    """
    gaps = always_at_limit(statistics) & valid & (statistics.limit is not None and statistics.limit > 255)
    counts, used = statistics.total / (statistics.divisor or 1), valid & ~gaps
    beam, center = np.sum(np.abs(diffract(as_modes(probe))) ** 2, axis=0), valid.shape[0] // 2
    if corner:
        beam, center = np.fft.ifftshift(beam), 0
    hot = np.zeros_like(gaps)
    for _ in range(3):  # a hot pixel hides another in its neighborhood
        around, beam_around = (_quantile_around(image, used & ~hot, HOT_QUANTILE) for image in (counts, beam))
        peak = beam / np.maximum(beam_around, beam.max() * 1e-6)
        expected = around * np.maximum(peak, 1)
        hot |= used & (counts > HOT * expected + 10 * np.sqrt(expected) + MIN_COUNTS)
    used = used & ~hot
    around = _quantile_around(counts, used & (counts > 0), DEAD_QUANTILE)
    lit = beam >= DEAD * _quantile_around(beam, used, DEAD_QUANTILE)  # elsewhere the beam itself is dark
    dead = used & lit & (counts < DEAD * around) & (around > MIN_COUNTS / DEAD)
    dead |= used & (counts == 0) & (around > MIN_COUNTS)
    beam *= counts[used].sum() / max(beam[used].sum(), 1e-300)
    return SuspiciousPixels(gaps=gaps, hot=hot, dead=dead | _large_gaps(counts, used, beam, center))


def check_pixels(statistics: FrameStatistics, pixels: SuspiciousPixels, n_masked: int) -> list[Finding]:
    """Say which pixels are suspicious.

    Parameters
    ----------
    statistics : FrameStatistics
    pixels : SuspiciousPixels
        As `find_pixels` returns them.
    n_masked : int
        Pixels that the scan masks already.
    """
    findings, total = [], statistics.total
    remedy = "ptycho convert … --mask FILE with the proposed mask"
    if n_masked:
        findings.append(Finding("pixels", "fine", f"{n_masked} pixels are masked"))
    if number := int(pixels.gaps.sum()):
        text = f"{number} pixels hold {statistics.limit:,.0f} in every exposure: gaps or dead pixels"
        findings.append(Finding("pixels", "error", text, remedy))
    good = total[~pixels.mask].sum()
    if number := int(pixels.hot.sum()):
        share = float(total[pixels.hot].sum() / max(good, 1.0))
        text = f"{number} hot {_pixels(pixels.hot)}, with {share:,.3f} times the photons of all others"
        findings.append(Finding("pixels", _level(share), text, remedy))
    if number := int(pixels.dead.sum()):
        filled = _quantile_around(total, ~pixels.mask, 0.5)
        share = float(filled[pixels.dead].sum() / max(good, 1.0))
        text = f"{number} dead {_pixels(pixels.dead)}, which miss about {100 * share:.2g} % of the photons"
        findings.append(Finding("pixels", _level(share), text, remedy))
    if not pixels.mask.any():
        findings.append(Finding("pixels", "fine", "no gaps, hot or dead pixels stand out"))
    return findings


def _level(share: float) -> Level:
    return "error" if share > HARMLESS else "warning"


def _pixels(mask: NDArray[np.bool_]) -> str:
    """Name the first pixels of a mask."""
    rows, columns = np.nonzero(mask)
    first = ", ".join(f"[{row}, {column}]" for row, column in zip(rows[:3], columns[:3], strict=True))
    return f"{'pixels' if len(rows) > 1 else 'pixel'}: {first}{' …' if len(rows) > 3 else ''}"


def _quantile_around(image: NDArray[np.floating], used: NDArray[np.bool_], quantile: float) -> NDArray[np.float64]:
    """Quantile of the used pixels around every pixel, itself left out; 0 where there are none."""
    half = NEIGHBORHOOD_PX // 2
    padded = np.pad(np.where(used, image, np.nan), half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (NEIGHBORHOOD_PX, NEIGHBORHOOD_PX))
    around = windows.reshape(*image.shape, -1).copy()
    around[..., NEIGHBORHOOD_PX**2 // 2] = np.nan
    counted = np.isfinite(around).sum(axis=-1)
    place = np.rint(quantile * np.maximum(counted - 1, 0)).astype(int)
    chosen = np.take_along_axis(np.sort(around, axis=-1), place[..., None], axis=-1)[..., 0]  # NaN comes last
    return np.where(counted > 0, chosen, 0.0)


def _rings(n: int, center: int) -> NDArray[np.int_]:
    """Distance of every pixel from the zero frequency at [center, center], in whole pixels, around the edges."""
    distance = (np.arange(n) - center + n // 2) % n - n // 2
    return np.rint(np.hypot(distance[:, None], distance)).astype(int)


def _large_gaps(
    counts: NDArray[np.float64], used: NDArray[np.bool_], beam: NDArray[np.float64], center: int
) -> NDArray[np.bool_]:
    """Return areas without any count, in rings that otherwise count photons or where the beam without sample does."""
    ring = _rings(len(counts), center)
    lit = used & (counts > 0)
    n_used, n_lit = (np.bincount(ring[mask], minlength=ring.max() + 1) for mask in (used, lit))
    medians = np.asarray(ndimage.median(counts, np.where(lit, ring, -1), np.arange(ring.max() + 1)))
    counting = (n_lit >= RING_COVERED * np.maximum(n_used, 1)) & (np.nan_to_num(medians) > MIN_COUNTS)
    dark = used & (counts == 0) & (counting[ring] | (beam > MIN_COUNTS))
    return ndimage.binary_opening(dark, structure=np.ones((2, 2), bool))
