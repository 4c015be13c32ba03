"""Poisson likelihood of counts on a canvas, read block by block, and photons split into two independent sets."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.forward import as_modes, blocks, mean_transmittance, shift_ramps, split_position, window_start

BACKGROUND = 1.0e-3
"""Smallest background added to the predicted counts [photon/px]: without it, a photon where almost none is predicted
has a gradient made of rounding errors."""

MAX_BACKGROUND = 0.3
"""Largest background, in units of the mean count per pixel: more would explain the counts by itself."""


@dataclass(frozen=True)
class Counts:
    """Exposures as blocks: what was counted where."""

    frames: Callable[[NDArray[np.int64]], NDArray]
    """Takes (m,) int64 exposures, returns their (m, N, N) counts."""
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    """(M,) patch centers [px]."""
    block_size: int = 64

    @classmethod
    def of(cls, scan, chosen) -> "Counts":
        """Take some exposures of a scan, (m,) int64; frames are read when they are asked for.

        Reading raises ValueError if a frame is not finite.
        """

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
        positions = self.xcoords[chosen], self.ycoords[chosen], self.block_size
        return Counts(lambda exposures: self.frames(chosen[exposures]), *positions)

    def photons(self) -> float:
        """Count all photons, block by block."""
        return sum(float(np.sum(self.frames(np.arange(part.start, part.stop)))) for part in self.parts)

    def mean_transmittance(self, probe) -> float:
        """Mean amplitude transmittance under a (modes, N, N) probe; all frames are read."""
        return mean_transmittance(self.photons(), len(self), probe)

    @property
    def parts(self) -> Iterator[slice]:
        """Consecutive blocks of exposures."""
        return blocks(len(self), self.block_size)


def split_counts(counts: Counts, fraction: float, seed: int) -> tuple[Counts, Counts]:
    """Split the photons into two independent sets of the same exposures.

    Every photon goes to the first set with probability `fraction`. An exposure is split by a generator of its own, so
    that it is split the same way whenever and with whatever others it is read.
    """

    def split(exposures):
        frames = np.rint(counts.frames(exposures)).astype(np.int64)
        first = [
            np.random.default_rng([seed, int(exposure)]).binomial(frame, fraction)
            for exposure, frame in zip(exposures, frames, strict=True)
        ]
        return frames, np.stack(first)

    def second(exposures):
        frames, first = split(exposures)
        return frames - first

    positions = counts.xcoords, counts.ycoords, counts.block_size
    return Counts(lambda exposures: split(exposures)[1], *positions), Counts(second, *positions)


class Likelihood:
    """Poisson deviance of counts on a canvas, and its gradient.

    Parameters
    ----------
    counts : Counts
        What was measured.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    fraction : float
        Photons of `counts` per photon of the probe.
    cache_bytes : int
        Frames and shifted probes are kept in memory if they take less; results are the same. Two canvases are kept.

    Attributes
    ----------
    n_pixels : int
        N, side of a pattern.
    shape, origin_px : (int, int)
        Rows and columns of the canvas, and where its first pixel lies in the object plane.
    background : float
        Added to the predicted counts [photon/px]; see `with_background`.
    """

    def __init__(self, counts: Counts, probe, fraction: float = 1.0, cache_bytes: int = 1 << 28):
        self.counts, self.probe = counts, as_modes(probe).astype(np.complex64) * np.float32(np.sqrt(fraction))
        modes, n, _ = self.probe.shape
        self.n_pixels = n
        self.top, self.left = window_start(counts.ycoords, n), window_start(counts.xcoords, n)
        self.origin_px = int(self.top.min()), int(self.left.min())
        self.shape = int(np.ptp(self.top)) + n, int(np.ptp(self.left)) + n
        self.background = BACKGROUND
        self._spectrum = fft.fft2(self.probe)
        self._illumination: NDArray | None = None
        self._noise: float | None = None
        self._last: tuple | None = None
        self._cache: dict[int, tuple] | None = {} if len(counts) * n * n * (4 + 8 * modes) < cache_bytes else None

    def __call__(self, obj) -> tuple[float, NDArray[np.complex64]]:
        """Return half the deviance and its gradient.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`. The last one and its result are kept: asked for again at once,
            as where other steps begin, it costs nothing.

        Returns
        -------
        value : float
            Σ I - y - y log(I / y), the background included in I.
        gradient : (H, W) complex64
            dE/dRe O + i dE/dIm O; read-only.
        """
        if self._last is None or self._last[0] != self.background or not np.array_equal(self._last[1], obj):
            self._last = self.background, obj.copy(), self._evaluate(obj)
        return self._last[2]

    def _evaluate(self, obj):
        total, gradient = 0.0, np.zeros(self.shape, np.complex64)
        for part in self.counts.parts:
            value, patches = self._patch_gradients(obj, part, self.block(part), self.origin_px)
            total += value
            self._add(patches, part, gradient, self.origin_px)
        gradient.flags.writeable = False
        return total, gradient

    def _patch_gradients(self, obj, exposures, block, origin):
        """Half the deviance of some exposures, and its gradient over their patches of an object."""
        frames, probes = block
        windows = np.lib.stride_tricks.sliding_window_view(obj, (self.n_pixels, self.n_pixels))
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
        n = self.n_pixels
        for patch, y, x in zip(patches, self.top[exposures] - origin[0], self.left[exposures] - origin[1], strict=True):
            canvas[y : y + n, x : x + n] += patch

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple]:
        """Go through the exposures once in mini-batches, block after block, both in random order.

        Yields
        ------
        region : (slice, slice)
            Of the canvas, around the windows of the batch.
        gradient : callable
            Takes the object there, returns the gradient of half the batch's deviance.
        illumination : array
            By the batch [photon/px].
        """
        parts = list(self.counts.parts)
        for number in rng.permutation(len(parts)):
            frames, probes = self.block(parts[number])
            order = rng.permutation(len(frames))
            for chosen in np.array_split(order, -(-len(order) // size)):
                exposures, block = parts[number].start + chosen, (frames[chosen], probes[chosen])
                origin = int(self.top[exposures].min()), int(self.left[exposures].min())
                shape = (np.ptp(self.top[exposures]) + self.n_pixels, np.ptp(self.left[exposures]) + self.n_pixels)
                illumination, (y, x) = np.zeros(shape, np.float32), np.subtract(origin, self.origin_px)
                self._add((np.abs(block[1]) ** 2).sum(1), exposures, illumination, origin)

                def gradient(obj, exposures=exposures, block=block, origin=origin):
                    total = np.zeros(obj.shape, np.complex64)
                    self._add(self._patch_gradients(obj, exposures, block, origin)[1], exposures, total, origin)
                    return total

                yield np.s_[y : y + shape[0], x : x + shape[1]], gradient, illumination

    def noise(self) -> float:
        """Square root of the mean count per pixel; computed when first asked for."""
        if self._noise is None:
            total = sum(float(np.sum(self.block(part)[0], dtype=np.float64)) for part in self.counts.parts)
            self._noise = float(np.sqrt(total / (len(self.counts) * self.n_pixels**2)))
        return self._noise

    def with_background(self, factor: float) -> "Likelihood":
        """Return the same likelihood with a background of `factor` times `noise()`, within bounds.

        Far from the minimum, pixels with counts but almost no predicted intensity dominate the gradient. A background
        removes that, and few iterations get further.
        """
        self.illumination()  # which both share from now on
        other = copy(self)
        other.background = max(min(factor * self.noise(), MAX_BACKGROUND * self.noise() ** 2), BACKGROUND / 10)
        return other

    def illumination(self) -> NDArray[np.float64]:
        """Incident photons on the canvas, (H, W) float64 [photon/px]; computed when first asked for."""
        if self._illumination is None:
            self._illumination = np.zeros(self.shape)
            for part in self.counts.parts:
                self._add((np.abs(self.block(part)[1]) ** 2).sum(1), part, self._illumination, self.origin_px)
        return self._illumination

    def block(self, part: slice) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
        """Read counts (m, n, n), zero frequency first, and shifted probes (m, modes, n, n), sample-centered."""
        if self._cache is not None and part.start in self._cache:
            return self._cache[part.start]
        exposures = np.arange(part.start, part.stop)
        frames = fft.ifftshift(self.counts.frames(exposures), axes=(-2, -1)).astype(np.float32)
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (self.counts.ycoords, self.counts.xcoords))
        down, across = (ramp.astype(np.complex64)[:, None] for ramp in shift_ramps(rest_y, rest_x, self.n_pixels))
        probes = fft.ifft2(self._spectrum * (down * across))
        if self._cache is not None:
            self._cache[part.start] = frames, probes
        return frames, probes
