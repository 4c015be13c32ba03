"""Sums over all frames of a scan, taken in one pass, block by block: what the checks of counts and pixels look at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.physics.forward import blocks

INTEGER_MAXIMA = (2.0**8 - 1, 2.0**16 - 1, 2.0**31 - 1, 2.0**32 - 1)
"""Largest values of the integers in which detectors write counts: they mark gaps, dead pixels and saturation."""
PRECISION = 2.0e-6
"""Relative error of the square of a float32 square root."""
SAMPLED_FRAMES = 16
"""Frames whose values are searched for a common divisor."""


@dataclass(frozen=True, kw_only=True)
class FrameStatistics:
    """Counts of a scan, by exposure and by pixel. Values that are not finite count as 0."""

    photons: NDArray[np.float64]
    """(M,) counts of every exposure on valid pixels that hold no integer maximum."""
    not_finite: NDArray[np.int64]
    """(M,) valid pixels that are not finite."""
    not_whole: NDArray[np.int64]
    """(M,) valid pixels whose counts are not whole."""
    total: NDArray[np.float64]
    """(N, N) sum over the exposures."""
    at_limit: NDArray[np.int64]
    """(N, N) exposures in which the pixel holds the integer maximum `limit`."""
    highest: NDArray[np.float64]
    """(N, N) largest count of every pixel."""
    lowest: NDArray[np.float64]
    """(N, N) smallest count of every pixel in the exposures that are finite; 0 if none is."""
    limit: float | None
    """Integer maximum that occurs; None if none does."""
    divisor: float | None
    """Largest number above 1 that all sampled counts are multiples of, to their precision; None without one."""
    amplitudes_are_whole: bool
    """Whether all sampled amplitudes are whole: then they are counts that were taken for amplitudes."""

    @property
    def n_exposures(self) -> int:
        """M."""
        return len(self.photons)

    @property
    def mean_frame(self) -> NDArray[np.float64]:
        """(N, N) mean counts of the exposures that are finite."""
        return self.total / max(int((self.not_finite == 0).sum()), 1)


def frame_statistics(scan: Scan, valid: NDArray[np.bool_], block_size: int = 64) -> FrameStatistics:
    """Read all frames once.

    Parameters
    ----------
    scan : Scan
    valid : (N, N) bool
        Pixels that count.
    block_size : int
        Exposures per block.
    """
    count, n = len(scan), scan.n_pixels
    photons, not_finite, not_whole = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)
    total, highest, lowest = np.zeros((n, n)), np.zeros((n, n)), np.full((n, n), np.inf)
    hits = {limit: np.zeros((n, n), np.int64) for limit in INTEGER_MAXIMA}
    for block in blocks(count, block_size):
        counts = np.square(scan.diffraction[block], dtype=np.float64)
        finite = np.isfinite(counts)
        not_finite[block] = (~finite & valid).sum((1, 2))
        counts[~finite] = 0
        not_whole[block] = (is_fractional(counts) & valid).sum((1, 2))
        peak = counts.max(axis=0)
        highest = np.maximum(highest, peak)
        whole = (not_finite[block] == 0)[:, None, None]
        lowest = np.minimum(lowest, counts.min(axis=0, where=whole, initial=np.inf))
        marked = np.zeros(counts.shape, bool)
        for value, hit in hits.items():
            if (np.abs(peak - value) <= PRECISION * value).any():
                at_limit = np.abs(counts - value) <= PRECISION * value
                hit += at_limit.sum(axis=0)
                marked |= at_limit & (value > INTEGER_MAXIMA[0])
        photons[block] = np.sum(counts, axis=(1, 2), where=valid & ~marked)
        total += np.sum(counts, axis=0, where=whole)
    limit = _limit(hits, highest, valid)
    divisor, are_whole = _units(scan, valid)
    return FrameStatistics(
        photons=photons,
        not_finite=not_finite,
        not_whole=not_whole,
        total=np.where(valid, total, 0),
        at_limit=np.where(valid, hits[limit], 0) if limit else np.zeros((n, n), np.int64),
        highest=np.where(valid, highest, 0),
        lowest=np.where(valid & np.isfinite(lowest), lowest, 0),
        limit=limit,
        divisor=divisor,
        amplitudes_are_whole=are_whole,
    )


def is_fractional(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where squared float32 amplitudes are not whole."""
    return np.abs(counts - np.rint(counts)) > 1e-2 + PRECISION * counts


def _limit(
    hits: dict[float, NDArray[np.int64]], highest: NDArray[np.float64], valid: NDArray[np.bool_]
) -> float | None:
    """Return the integer maximum that occurs and that no count exceeds, unless another integer maximum."""
    others = np.where(valid, highest, 0)
    for limit in sorted(hits, reverse=True):
        occurs = (hits[limit] > 0) & valid
        if occurs.any() and not (others > limit * (1 + PRECISION)).any():
            return limit
    return None


def _units(scan: Scan, valid: NDArray[np.bool_]) -> tuple[float | None, bool]:
    """Return `divisor` and `amplitudes_are_whole`, as some frames show them."""
    chosen = np.unique(np.linspace(0, len(scan) - 1, SAMPLED_FRAMES).astype(int))
    amplitude = scan.diffraction[chosen][:, valid].astype(np.float64)
    amplitude = amplitude[np.isfinite(amplitude) & (amplitude > 0)]
    if not amplitude.size:
        return None, False
    whole = bool(np.all(np.abs(amplitude - np.rint(amplitude)) <= PRECISION * amplitude)) and amplitude.max() > 1
    return common_divisor(np.square(amplitude)), whole


def common_divisor(counts: NDArray[np.float64]) -> float | None:
    """Return the largest number but 1 that all counts are multiples of; None if there is none.

    Parameters
    ----------
    counts : (n,) float64
        Positive; squares of float32 amplitudes. The divisor may be a fraction, as after a gain.
    """
    unit = float(np.median(counts[counts <= counts.min() * (1 + 1e-4)]))
    small = counts[counts < 100 * unit]  # multiples of larger ones cannot be told apart, and some may be saturated
    for part in (1, 2, 3, 4, 5):  # the smallest count may be a few photons
        step = unit / part
        multiples = small / step
        if np.all(np.abs(multiples - np.rint(multiples)) <= 1e-2 + 1e-5 * multiples):
            return None if abs(step - 1) < 1e-3 or len(np.unique(np.rint(multiples))) < 3 else step
    return None
