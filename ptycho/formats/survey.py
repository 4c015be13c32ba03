"""A first pass over the frames: gaps, saturation, exposures without data, values that are no whole photons."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.frames import Photons

NO_COUNT = 2.0**31 - 1
"""Values from here on mark pixels without a count: no detector counts that far."""
CEILINGS = tuple(2**bits - 1 for bits in (8, 12, 14, 16, 20))
"""Largest counts of detectors: values that equal one of them, and none above it, are saturated."""
GAP_MARKS = (2**16 - 2, 2**16 - 1)
"""The mark of dead pixels, and the ceiling that also marks gaps, if they are there in every exposure: a pixel at an
8-bit ceiling in all of them may just be bright."""
NEGATIVE_MARKS = (-1, -2)
"""What marks gaps and dead pixels in signed counts."""
FEW_LEVELS = 100
"""Lowest of the values that show a unit: its rounding adds up in higher ones."""
WHOLE_TOLERANCE = 1e-3
"""Largest distance from a whole number of photons, beside a millionth of the number: rounding of float32 amplitudes."""


class Survey:
    """What the frames of some exposures hold; `add` is called for every block.

    Parameters
    ----------
    shape : (int, int)
        (H, W) in the file.
    photons : Photons
        From values to photons.
    ignored : (H, W) bool
        Pixels that are masked already: whatever they hold reads 0.
    """

    def __init__(self, shape: tuple[int, int], photons: Photons, ignored: NDArray[np.bool_]):
        self.photons = photons
        self._ignored = ignored if ignored.any() else None
        self.n_seen = 0
        """Exposures with data, dark ones included."""
        self.dark: list[int] = []
        """Exposures without a photon."""
        self.empty: list[int] = []
        """Exposures none of whose pixels has a count."""
        self.negative: dict[int, float] = {}
        """Exposure -> its lowest value, in photons, where that is negative."""
        self.fractional: float | None = None
        """A number of photons that is not whole."""
        self.highest = 0.0
        """Highest value that is a count."""
        self.n_highest = 0
        """How many values equal it."""
        self.rounding, self.excess, self.total = 0.0, 0.0, 0.0
        """Σ of squared differences by rounding [photon²], photons that it adds, photons before it."""
        self.low = np.full(shape, np.inf)
        """(H, W) lowest count of every pixel."""
        self.high = np.full(shape, -np.inf)
        """(H, W) highest count."""
        self.sum = np.zeros(shape)
        """(H, W) photons of all exposures together."""
        self.totals: dict[int, float] = {}
        """Exposure -> its photons, where it holds data."""
        self._missing = np.zeros(shape, np.int64)
        self._uncountable = np.zeros(shape, bool)
        self._n_missing: dict[int, int] = {}

    def add(self, exposures: NDArray[np.int64], frames: NDArray[Any]) -> None:
        """Take a block into account.

        Parameters
        ----------
        exposures : (b,) int64
            Their numbers.
        frames : (b, H, W) array
            Values as they are in the file.
        """
        if self._ignored is not None:
            frames = np.where(self._ignored, frames.dtype.type(0), frames)
        missing = _missing(frames, has_marks=not np.any(self.photons.added))
        if missing is not None:
            keep = ~missing.all(axis=(1, 2))
            self.empty += exposures[~keep].tolist()
            exposures, frames, missing = exposures[keep], frames[keep], missing[keep]
            if not len(frames):
                return
            uncountable = frames >= NO_COUNT
            self._uncountable |= uncountable.any(axis=0)
            self._missing += missing.sum(axis=0)
            counts = (missing & ~uncountable).sum(axis=(1, 2))
            self._n_missing |= dict(zip(exposures.tolist(), counts.tolist(), strict=True))
            frames = np.where(missing, frames.dtype.type(0), frames)
        self.n_seen += len(frames)
        low, high = frames.min(axis=0), frames.max(axis=0)
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)
        self._count_highest(frames, float(high.max()))
        self._add_photons(exposures, frames, missing)

    def _count_highest(self, frames: NDArray[Any], top: float) -> None:
        if top > self.highest:
            self.highest, self.n_highest = top, 0
        if top == self.highest and top in CEILINGS:
            self.n_highest += int((frames == top).sum())

    def _add_photons(
        self, exposures: NDArray[np.int64], frames: NDArray[Any], missing: NDArray[np.bool_] | None
    ) -> None:
        photons = frames if self.photons.exact_for(frames.dtype) else self.photons.unrounded(frames)
        if photons is not frames:
            if missing is not None:
                photons[missing] = 0
            if self._ignored is not None:
                photons[:, self._ignored] = 0  # a background may have been added
            photons = self._rounded(photons)
        lowest, highest = photons.min(axis=(1, 2)), photons.max(axis=(1, 2))
        self.negative |= {int(exposures[i]): float(lowest[i]) for i in np.flatnonzero(lowest < 0)}
        self.dark += exposures[highest <= 0].tolist()
        self.sum += photons.sum(axis=0, dtype=np.float64)
        totals = photons.sum(axis=(1, 2), dtype=np.float64)
        self.totals |= dict(zip(exposures.tolist(), totals.tolist(), strict=True))

    def _rounded(self, photons: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.rint(photons)
        change = whole - photons
        if self.photons.per_unit is None and self.fractional is None:
            off = np.abs(change) > WHOLE_TOLERANCE + 1e-6 * np.abs(photons)
            if off.any():
                self.fractional = float(photons[off][0])
        self.total += float(photons.sum())
        self.rounding += float(np.square(change).sum())
        self.excess += float(change.sum())
        return whole

    @property
    def gaps(self) -> NDArray[np.bool_]:
        """(H, W), True where a pixel never has a count, or at times a value that no detector counts to."""
        gaps = (self._missing == max(self.n_seen, 1)) | self._uncountable
        if self.highest in GAP_MARKS:
            gaps |= self.low >= GAP_MARKS[0]
        return gaps

    @property
    def never_counts(self) -> NDArray[np.bool_]:
        """(H, W), True where the value is negative in every exposure."""
        return (self.high < 0) & np.isfinite(self.high)

    @property
    def incomplete(self) -> list[int]:
        """Exposures with values that are not finite, or marks, in pixels that have counts in other exposures."""
        always = int(((self._missing == self.n_seen) & ~self._uncountable).sum())
        return sorted(exposure for exposure, count in self._n_missing.items() if count > always)

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """(H, W), True where a pixel reaches the largest count of a detector in some exposure, and is no gap."""
        if self.highest not in CEILINGS or self.n_highest < 2:
            return np.zeros(self.sum.shape, bool)
        return (self.high == self.highest) & ~self.gaps


def _missing(frames: NDArray[Any], has_marks: bool) -> NDArray[np.bool_] | None:
    """Return where (b, H, W) values are no counts: not finite, a mark, more than detectors count; None if nowhere."""
    lowest, highest = frames.min(), frames.max()
    if lowest >= 0 and highest < NO_COUNT:  # not with NaN
        return None
    missing = frames >= NO_COUNT
    if has_marks:
        missing |= np.isin(frames, NEGATIVE_MARKS)
    return missing | ~np.isfinite(frames) if frames.dtype.kind == "f" else missing


def suggest_unit(values: NDArray[np.floating]) -> float | None:
    """Return the unit that all of some values are multiples of; None if there is none.

    Parameters
    ----------
    values : (n,) float
        Values of frames.
    """
    levels = np.unique(values[values > 0])
    if len(levels) < 3:
        return None
    unit = float(min(levels[0], np.diff(levels[:FEW_LEVELS]).min()))
    few = np.rint(levels[:FEW_LEVELS] / unit)
    unit = float(few @ levels[:FEW_LEVELS] / (few @ few))  # differences of large numbers are less exact
    multiples = levels / unit
    tolerance = 1e-5 * multiples + 1e-4
    return unit if (np.abs(multiples - np.rint(multiples)) < tolerance).all() else None
