"""Poisson likelihood of photon counts on a canvas, and its gradient, computed block by block."""

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.forward import as_modes, shift_ramps, split_position, window_start
from ptycho.reconstruction.counts import Counts

BACKGROUND = 1.0e-3
"""Smallest background added to the predicted counts [photon/px]: without it, the gradient of a photon where almost
none is predicted consists of rounding errors."""

MAX_BACKGROUND = 0.3
"""Largest background, in units of the mean count per pixel: more would explain the counts by itself."""

Block: TypeAlias = tuple[NDArray[np.float32], NDArray[np.complex64]]
"""Counts (m, N, N), zero frequency first, and shifted probes (m, modes, N, N), sample-centered."""

Batch: TypeAlias = tuple[
    tuple[slice, slice], Callable[[NDArray[np.complex64]], NDArray[np.complex64]], NDArray[np.float32]
]
"""Region, gradient and illumination of a mini-batch, see `Likelihood.batches`."""


class Likelihood:
    """Poisson deviance of counts on a canvas, and its gradient.

    The detector of the counts belongs to the model: mean counts are scale · |F(P O)|² + background, and bad pixels add
    nothing to the deviance.

    Parameters
    ----------
    counts : Counts
        Measured photons.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    fraction : float
        Fraction of the probe's photons, and of the detector's background, that `counts` holds: 1, or that of a split.
    cache_bytes : int
        Frames and shifted probes are cached if they need less than this [byte]; the last object and its gradient are
        always kept.

    Attributes
    ----------
    n_pixels : int
        N, side of a pattern [px].
    shape : (int, int)
        Rows and columns of the canvas: the box around all windows.
    origin_px : (int, int)
        Row and column of the canvas's first pixel in the object plane.
    background : float
        Mean count added to the predicted ones [photon/px], see `with_background`.
    detector : (2, N, N) float32 or None
        1 in valid and 0 in bad pixels; background of `fraction` [photon]; zero frequency first. None: every pixel is
        valid, without background.
    """

    def __init__(
        self,
        counts: Counts,
        probe: NDArray[np.complexfloating],
        fraction: float = 1.0,
        cache_bytes: int = 1 << 28,
    ):
        self.counts, self.probe = counts, as_modes(probe).astype(np.complex64) * np.float32(np.sqrt(fraction))
        modes, n, _ = self.probe.shape
        self.n_pixels = n
        self.top, self.left = window_start(counts.ycoords, n), window_start(counts.xcoords, n)
        self.origin_px = int(self.top.min()), int(self.left.min())
        self.shape = int(np.ptp(self.top)) + n, int(np.ptp(self.left)) + n
        self.background, detector = BACKGROUND, counts.detector.scaled(fraction)
        planes = detector.planes()
        self.detector = None if planes is None else fft.ifftshift(planes, axes=(-2, -1))
        self._valid = None if self.detector is None or detector.valid is None else self.detector[0] > 0
        self._spectrum = fft.fft2(self.probe)
        self._illumination: NDArray[np.float64] | None = None
        self._noise_level: float | None = None
        self._last: tuple[float, NDArray[np.complexfloating], tuple[float, NDArray[np.complex64]]] | None = None
        self._cache: dict[int, Block] | None = {} if len(counts) * n * n * (4 + 8 * modes) < cache_bytes else None

    def __call__(self, obj: NDArray[np.complexfloating]) -> tuple[float, NDArray[np.complex64]]:
        """Return half the deviance and its gradient.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`. The result for the last object is cached, so a new minimization
            that starts there evaluates nothing twice.

        Returns
        -------
        value : float
            E = Σ I - y - y log(I / y), the background included in I.
        gradient : (H, W) complex64
            dE/dRe O + i dE/dIm O; read-only.
        """
        if self._last is None or self._last[0] != self.background or not np.array_equal(self._last[1], obj):
            self._last = self.background, obj.copy(), self._evaluate(obj)
        return self._last[2]

    def _evaluate(self, obj: NDArray[np.complexfloating]) -> tuple[float, NDArray[np.complex64]]:
        total, gradient = 0.0, np.zeros(self.shape, np.complex64)
        for part in self.counts.parts:
            block = self.block(part)
            waves, intensity, frames = self._predict(obj, part, block, self.origin_px)
            ratio = frames / intensity
            logarithm = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
            total += float(np.sum(intensity - frames + frames * logarithm, dtype=np.float64))
            self._add(_gradient_patches(waves, ratio, block), part, gradient, self.origin_px)
        gradient.flags.writeable = False
        return total, gradient

    def gradient(self, obj: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        """Return the gradient that calling the likelihood returns, without the value; nothing is cached."""
        gradient = np.zeros(self.shape, np.complex64)
        for part in self.counts.parts:
            block = self.block(part)
            waves, intensity, frames = self._predict(obj, part, block, self.origin_px)
            self._add(_gradient_patches(waves, frames / intensity, block), part, gradient, self.origin_px)
        return gradient

    def _predict(
        self,
        obj: NDArray[np.complexfloating],
        exposures: slice | NDArray[np.int64],
        block: Block,
        origin: tuple[int, int],
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.float32]]:
        """Return waves on the detector (m, modes, N, N), their mean counts, and the counts to compare (m, N, N)."""
        frames, probes = block
        windows = np.lib.stride_tricks.sliding_window_view(obj, (self.n_pixels, self.n_pixels))
        patches = windows[self.top[exposures] - origin[0], self.left[exposures] - origin[1]]
        waves = fft.fft2(patches[:, None] * probes, norm="ortho")
        intensity = self._expected_counts(waves)
        return waves, intensity, self._comparable(frames, intensity)

    def amplitude_update(self, obj: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        """Return what replaced amplitudes on the detector change: Σ_j conj(P_j) F⁻¹((sqrt(y_j / I_j) - 1) F(P_j O)).

        Each exposure's predicted wave gets the measured amplitudes and keeps its phases; with several modes, their
        incoherent sum gets them (Thibault and Menzel, Nature 494, 68, 2013). The predicted waves of bad pixels are
        kept.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`.

        Returns
        -------
        (H, W) complex64
            Change of the exit waves, times the conjugate probe [photon]; divided by the illumination, the change of
            the object in one iteration of error reduction (Fienup, Appl. Opt. 21, 2758, 1982).
        """
        update = np.zeros(self.shape, np.complex64)
        for part in self.counts.parts:
            block = self.block(part)
            waves, intensity, frames = self._predict(obj, part, block, self.origin_px)
            waves *= (np.sqrt(frames / intensity) - 1)[:, None]
            self._add(_back_to_patches(waves, block), part, update, self.origin_px)
        return update

    def _expected_counts(self, waves: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Return the mean counts (m, N, N) of waves on the detector, all modes together, with all that is added."""
        intensity = (waves.real**2 + waves.imag**2).sum(1) + np.float32(self.background)
        return intensity if self.detector is None else intensity + self.detector[1]

    def _comparable(self, frames: NDArray[np.float32], intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return counts whose bad pixels hold just what is predicted: value and gradient are zero there."""
        return frames if self._valid is None else np.where(self._valid, frames, intensity)

    def _add(
        self,
        patches: NDArray[Any],
        exposures: slice | NDArray[np.int64],
        canvas: NDArray[Any],
        origin: tuple[int, int],
    ) -> None:
        """Add the patches of some exposures to a canvas."""
        n = self.n_pixels
        for patch, y, x in zip(patches, self.top[exposures] - origin[0], self.left[exposures] - origin[1], strict=True):
            canvas[y : y + n, x : x + n] += patch

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield every exposure once in mini-batches, block by block, blocks and exposures in random order.

        Parameters
        ----------
        size : int
            Largest number of exposures in a mini-batch.

        Yields
        ------
        region : (slice, slice)
            Box of the canvas around the windows of the batch.
        gradient : callable
            Takes the object in that box, returns the gradient of half the batch's deviance.
        illumination : (h, w) float32
            Illumination of the box by the batch [photon/px].
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

                def gradient(
                    obj: NDArray[np.complexfloating],
                    exposures: NDArray[np.int64] = exposures,
                    block: Block = block,
                    origin: tuple[int, int] = origin,
                ) -> NDArray[np.complex64]:
                    total = np.zeros(obj.shape, np.complex64)
                    waves, intensity, frames = self._predict(obj, exposures, block, origin)
                    self._add(_gradient_patches(waves, frames / intensity, block), exposures, total, origin)
                    return total

                yield np.s_[y : y + shape[0], x : x + shape[1]], gradient, illumination

    @property
    def n_values(self) -> int:
        """Number of counts that are compared: valid pixels of all exposures."""
        return len(self.counts) * self.counts.detector.n_valid(self.n_pixels)

    def noise_level(self) -> float:
        """Return the square root of the mean count per valid pixel; computed once."""
        if self._noise_level is None:
            total = sum(float(np.sum(self.block(part)[0], dtype=np.float64)) for part in self.counts.parts)
            self._noise_level = float(np.sqrt(total / self.n_values))
        return self._noise_level

    def with_background(self, factor: float) -> "Likelihood":
        """Return the same likelihood with another background.

        Far from the minimum, pixels with counts but almost no predicted intensity dominate the gradient. The background
        removes this, so that a few iterations get further.

        Parameters
        ----------
        factor : float
            Background in units of `noise_level()`. The result is between a tenth of `BACKGROUND` and `MAX_BACKGROUND`.
        """
        self.illumination()  # computed once for both
        other, noise = copy(self), self.noise_level()
        other.background = max(min(factor * noise, MAX_BACKGROUND * noise**2), BACKGROUND / 10)
        return other

    def illumination(self) -> NDArray[np.float64]:
        """Return the incident photons on the canvas, (H, W) float64 [photon/px]; computed once."""
        if self._illumination is None:
            self._illumination = np.zeros(self.shape)
            for part in self.counts.parts:
                self._add((np.abs(self.block(part)[1]) ** 2).sum(1), part, self._illumination, self.origin_px)
        return self._illumination

    def block(self, part: slice) -> Block:
        """Read counts (m, N, N), zero frequency first, and shifted probes (m, modes, N, N), sample-centered."""
        if self._cache is not None and part.start in self._cache:
            return self._cache[part.start]
        exposures = np.arange(part.start, part.stop)
        frames = fft.ifftshift(self.counts.frames(exposures), axes=(-2, -1)).astype(np.float32)
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (self.counts.ycoords, self.counts.xcoords))
        down, across = (ramp.astype(np.complex64)[:, None] for ramp in shift_ramps(rest_y, rest_x, self.n_pixels))
        probes = fft.ifft2(self._spectrum * (down * across))
        if (scale := self.counts.detector.exposure_scale) is not None:
            probes *= np.sqrt(scale[part]).astype(np.float32)[:, None, None, None]
        if self._cache is not None:
            self._cache[part.start] = frames, probes
        return frames, probes


def _gradient_patches(waves: NDArray[np.complex64], ratio: NDArray[np.float32], block: Block) -> NDArray[np.complex64]:
    """Return the gradient over the patches of a block, (m, N, N), from counts over predicted ones; overwrites waves."""
    waves *= (2 * (1 - ratio))[:, None]
    return _back_to_patches(waves, block)


def _back_to_patches(waves: NDArray[np.complex64], block: Block) -> NDArray[np.complex64]:
    """Multiply waves that are taken back from the detector by the conjugate probes, and sum over modes."""
    exit_waves = fft.ifft2(waves, norm="ortho")
    exit_waves *= block[1].conj()  # in place: NumPy's choice of a temporary would depend on the block size
    return exit_waves.sum(1)
