"""Poisson likelihood of counts on a canvas, read block by block, and photons dealt to two sets."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy import fft

from ptycho.physics import as_modes, blocks, split_position, window_start

BACKGROUND = 1.0e-3
"""Photons per pixel that are added to what is predicted: without, a photon where next to none is predicted has a slope
of rounding errors."""

LARGEST_BACKGROUND = 0.3
"""In units of the mean count per pixel: more would explain the counts by itself."""


@dataclass(frozen=True)
class Counts:
    """Exposures as blocks: what is measured where."""

    frames: Callable
    """Takes an int64 array of exposures, returns their (m, N, N) counts."""
    xcoords: np.ndarray
    ycoords: np.ndarray
    """(M,) float64 patch centres [px]."""
    block_size: int = 64

    @classmethod
    def of(cls, scan, chosen) -> "Counts":
        """Chosen exposures of a scan, read when they are asked for; ValueError there if one is not finite."""

        def frames(exposures):
            counts = np.square(scan.diffraction[chosen[exposures]], dtype=np.float64)
            finite = np.isfinite(counts).all(axis=(-2, -1))
            if not finite.all():
                raise ValueError(f"exposures {chosen[exposures][~finite].tolist()}: counts that are not finite numbers")
            return counts

        return cls(frames, scan.xcoords[chosen], scan.ycoords[chosen])

    def __len__(self) -> int:
        return len(self.xcoords)

    def select(self, chosen) -> "Counts":
        """Return some of the exposures, (m,) int64."""
        places = self.xcoords[chosen], self.ycoords[chosen], self.block_size
        return Counts(lambda exposures: self.frames(chosen[exposures]), *places)

    def photons(self) -> float:
        """Count all photons, block by block."""
        return sum(float(np.sum(self.frames(np.arange(part.start, part.stop)))) for part in self.parts)

    @property
    def parts(self):
        """Consecutive blocks of exposures."""
        return blocks(len(self), self.block_size)


def thinned(counts: Counts, share: float, seed: int) -> tuple[Counts, Counts]:
    """Deal the photons to two sets of exposures; an exposure is dealt the same way whenever it is read, by itself."""

    def deal(exposures):
        frames = np.rint(counts.frames(exposures)).astype(np.int64)
        first = [
            np.random.default_rng([seed, int(exposure)]).binomial(frame, share)
            for exposure, frame in zip(exposures, frames, strict=True)
        ]
        return frames, np.stack(first)

    def second(exposures):
        frames, first = deal(exposures)
        return frames - first

    places = counts.xcoords, counts.ycoords, counts.block_size
    return Counts(lambda exposures: deal(exposures)[1], *places), Counts(second, *places)


class Likelihood:
    """Poisson deviance of counts on a canvas, and its gradient.

    Parameters
    ----------
    counts : Counts
        What was measured.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    share : float
        Photons of `counts` per photon of the probe.
    cache_bytes : int
        Frames and shifted probes are kept in memory if they take less; results are the same. Two canvases are kept.

    Attributes
    ----------
    background : float
        Added to what is predicted [photons per pixel]; see `softened`.
    """

    def __init__(self, counts: Counts, probe, share: float = 1.0, cache_bytes: int = 1 << 28):
        self.counts, self.probe = counts, as_modes(probe).astype(np.complex64) * np.float32(np.sqrt(share))
        modes, n, _ = self.probe.shape
        self.n = n
        self.top, self.left = window_start(counts.ycoords, n), window_start(counts.xcoords, n)
        self.origin_px = int(self.top.min()), int(self.left.min())
        self.shape = int(np.ptp(self.top)) + n, int(np.ptp(self.left)) + n
        self._spectrum, self._light, self._noise = fft.fft2(self.probe), None, None
        self.background, self._asked, self._answer = BACKGROUND, None, None
        self._kept = {} if len(counts) * n * n * (4 + 8 * modes) < cache_bytes else None

    def __call__(self, obj):
        """Return half the deviance, Σ I - y - y log(I / y) with the background in I, and dE/dRe O + i dE/dIm O.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`. The last one and its answer are kept: asked for again at once,
            as where other steps begin, it costs nothing. The gradient is read-only.
        """
        if self._asked is None or self._asked[0] != self.background or not np.array_equal(self._asked[1], obj):
            self._asked, self._answer = (self.background, obj.copy()), self._evaluate(obj)
        return self._answer

    def _evaluate(self, obj):
        total, gradient = 0.0, np.zeros(self.shape, np.complex64)
        for part in self.counts.parts:
            value, slopes = self._slopes(obj, part, self.block(part), self.origin_px)
            total += value
            self._add(slopes, part, gradient, self.origin_px)
        gradient.flags.writeable = False
        return total, gradient

    def _slopes(self, obj, exposures, block, origin):
        """Half the deviance of some exposures, and its gradient over their patches of an object."""
        frames, probes = block
        windows = np.lib.stride_tricks.sliding_window_view(obj, (self.n, self.n))
        patches = windows[self.top[exposures] - origin[0], self.left[exposures] - origin[1]]
        waves = fft.fft2(patches[:, None] * probes, norm="ortho")
        intensity = (waves.real**2 + waves.imag**2).sum(1) + np.float32(self.background)
        ratio = frames / intensity
        logarithm = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
        total = float(np.sum(intensity - frames + frames * logarithm, dtype=np.float64))
        waves *= (2 * (1 - ratio))[:, None]
        return total, (fft.ifft2(waves, norm="ortho") * probes.conj()).sum(1)

    def _add(self, patches, exposures, canvas, origin) -> None:
        """Add patches of some exposures to a canvas."""
        for patch, y, x in zip(patches, self.top[exposures] - origin[0], self.left[exposures] - origin[1], strict=True):
            canvas[y : y + self.n, x : x + self.n] += patch

    def batches(self, size: int, rng: np.random.Generator):
        """Go through the exposures once, some at a time: out of one block after the other, in random order.

        Yields
        ------
        region : (slice, slice)
            Of the canvas, around the windows of the batch.
        slope : callable
            Takes the object there, returns the gradient of half the batch's deviance.
        light : array
            Illumination by the batch [photons per pixel].
        """
        parts = list(self.counts.parts)
        for number in rng.permutation(len(parts)):
            frames, probes = self.block(parts[number])
            order = rng.permutation(len(frames))
            for chosen in np.array_split(order, -(-len(order) // size)):
                exposures, block = parts[number].start + chosen, (frames[chosen], probes[chosen])
                origin = int(self.top[exposures].min()), int(self.left[exposures].min())
                shape = (np.ptp(self.top[exposures]) + self.n, np.ptp(self.left[exposures]) + self.n)
                light, (y, x) = np.zeros(shape, np.float32), np.subtract(origin, self.origin_px)
                self._add((np.abs(block[1]) ** 2).sum(1), exposures, light, origin)

                def slope(obj, exposures=exposures, block=block, origin=origin):
                    gradient = np.zeros(obj.shape, np.complex64)
                    self._add(self._slopes(obj, exposures, block, origin)[1], exposures, gradient, origin)
                    return gradient

                yield np.s_[y : y + shape[0], x : x + shape[1]], slope, light

    def noise(self) -> float:
        """Square root of the mean count per pixel; computed when first asked for."""
        if self._noise is None:
            total = sum(float(np.sum(self.block(part)[0], dtype=np.float64)) for part in self.counts.parts)
            self._noise = float(np.sqrt(total / (len(self.counts) * self.n**2)))
        return self._noise

    def softened(self, factor: float) -> "Likelihood":
        """Return the same with a background of `factor` times `noise()`.

        The likelihood is steep where photons were counted and few are predicted. Far from the minimum that says
        little, and few steps get further without it; see docs/findings.md.
        """
        self.light()  # which both share from now on
        other = copy(self)
        other.background = max(min(factor * self.noise(), LARGEST_BACKGROUND * self.noise() ** 2), BACKGROUND / 10)
        return other

    def light(self):
        """Illumination of the canvas, (H, W) float64 [photons per pixel]; computed when first asked for."""
        if self._light is None:
            self._light = np.zeros(self.shape)
            for part in self.counts.parts:
                self._add((np.abs(self.block(part)[1]) ** 2).sum(1), part, self._light, self.origin_px)
        return self._light

    def block(self, part: slice):
        """Counts (m, n, n), zero frequency first, and shifted probes (m, modes, n, n), sample-centred."""
        if self._kept is not None and part.start in self._kept:
            return self._kept[part.start]
        exposures = np.arange(part.start, part.stop)
        frames = fft.ifftshift(self.counts.frames(exposures), axes=(-2, -1)).astype(np.float32)
        frequency = fft.fftfreq(self.n).astype(np.float32)
        ramps = [
            np.exp(-2j * np.pi * split_position(axis[part])[1][:, None] * frequency).astype(np.complex64)
            for axis in (self.counts.ycoords, self.counts.xcoords)
        ]
        probes = fft.ifft2(self._spectrum * (ramps[0][:, None, :, None] * ramps[1][:, None, None, :]))
        if self._kept is not None:
            self._kept[part.start] = frames, probes
        return frames, probes
