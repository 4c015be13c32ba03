"""Poisson likelihood of photon counts on a canvas, and its gradient, computed block by block."""

from collections.abc import Callable, Iterator
from copy import copy
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.forward import as_modes, blocks, shift_ramps, split_position, window_start
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.passes import Array, Block, Expected, Windows

BACKGROUND = 1.0e-3
"""Smallest background added to the predicted counts [photon/px]: without it, the gradient of a photon where almost
none is predicted consists of rounding errors."""

MAX_BACKGROUND = 0.3
"""Largest background, in units of the mean count per pixel: more would explain the counts by itself."""

Batch: TypeAlias = tuple[tuple[slice, slice], Callable[[Array], Array], Array]
"""Region, gradient and illumination of a mini-batch, see `Likelihood.batches`."""


class Likelihood:
    """Poisson deviance of counts on a canvas, and its gradient.

    The detector of the counts belongs to the model: mean counts are scale · |F(P O)|² + background, and bad pixels add
    nothing to the deviance. Objects, gradients and illumination are arrays of `device`.

    Parameters
    ----------
    counts : Counts
        Measured photons.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    fraction : float
        Fraction of the probe's photons, and of the detector's background, that `counts` holds: 1, or that of a split.
    cache_bytes : int
        Frames and shifted probes are cached if they need less than this [byte]; a GPU caches what fits, unless this is
        0. The last object and its gradient are always kept.
    device : Device
        Where to compute.

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
        1 in valid and 0 in bad pixels; background of `fraction` [photon]; zero frequency first, on the host. None:
        every pixel is valid, without background.
    """

    def __init__(
        self,
        counts: Counts,
        probe: NDArray[np.complexfloating],
        fraction: float = 1.0,
        cache_bytes: int = 1 << 28,
        device: Device = CPU,
    ):
        self.counts, self.probe = counts, as_modes(probe).astype(np.complex64) * np.float32(np.sqrt(fraction))
        self.device, (modes, n, _) = device, self.probe.shape
        self.n_pixels = n
        self.top, self.left = window_start(counts.ycoords, n), window_start(counts.xcoords, n)
        self.origin_px = int(self.top.min()), int(self.left.min())
        self.shape = int(np.ptp(self.top)) + n, int(np.ptp(self.left)) + n
        self.background, detector = BACKGROUND, counts.detector.scaled(fraction)
        planes = detector.planes()
        self.detector = None if planes is None else fft.ifftshift(planes, axes=(-2, -1))
        valid = None if self.detector is None or detector.valid is None else self.detector[0] > 0
        self._planes = None if self.detector is None else device.to_device(self.detector)
        self._valid = None if valid is None else device.to_device(valid)
        self._spectrum = device.fft.fft2(device.to_device(self.probe))
        starts = self.top - self.origin_px[0], self.left - self.origin_px[1]
        self._starts = tuple(device.to_device(axis.astype(np.int32)) for axis in starts)
        self._illumination: Array | None = None
        self._noise_level: float | None = None
        self._last: tuple[float, Array, tuple[float, Array]] | None = None
        self._block_size = device.block_size(counts.block_size, 8 * modes * n * n)
        self._exposure_bytes = n * n * (4 + 8 * modes)
        keeps = device.keeps(len(counts) * self._exposure_bytes, cache_bytes)
        self._cache: dict[int, Block] | None = {} if keeps else None

    def __call__(self, obj: Array) -> tuple[float, Array]:
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
        last = self._last
        if last is None or last[0] != self.background or not bool(self.device.xp.array_equal(last[1], obj)):
            last = self._last = self.background, obj.copy(), self._evaluate(obj)
        return last[2]

    def _evaluate(self, obj: Array) -> tuple[float, Array]:
        xp, total = self.device.xp, 0.0
        gradient = xp.zeros(self.shape, np.complex64)
        for part in self._parts:
            block, windows = self.block(part), self._windows(part)
            total = total + self.device.passes.accumulate(obj, block, windows, self._expected, gradient)
        if self.device.is_host:
            gradient.flags.writeable = False
        return float(total), gradient

    def gradient(self, obj: Array) -> Array:
        """Return the gradient that calling the likelihood returns, without the value; nothing is cached."""
        gradient = self.device.xp.zeros(self.shape, np.complex64)
        for part in self._parts:
            block, windows = self.block(part), self._windows(part)
            self.device.passes.accumulate_gradient(obj, block, windows, self._expected, gradient)
        return gradient

    @property
    def _parts(self) -> Iterator[slice]:
        """Consecutive blocks of exposures that are computed at once."""
        return blocks(len(self.counts), self._block_size)

    @property
    def _expected(self) -> Expected:
        return Expected(self.background, self._planes, self._valid)

    def _windows(self, part: slice) -> Windows:
        """Return where the windows of a block start on the canvas."""
        return self._starts[0][part], self._starts[1][part]

    def amplitude_update(self, obj: Array) -> Array:
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
        xp, passes = self.device.xp, self.device.passes
        update = xp.zeros(self.shape, np.complex64)
        for part in self._parts:
            block, windows = self.block(part), self._windows(part)
            waves, intensity, frames = passes.predict(obj, block, windows, self._expected)
            waves *= (xp.sqrt(frames / intensity) - 1)[:, None]
            passes.add(update, passes.back(waves, block), windows)
        return update

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
        device, n = self.device, self.n_pixels
        parts = list(self.counts.parts)
        for number in rng.permutation(len(parts)):
            frames, probes = self.block(parts[number])
            order = rng.permutation(len(frames))
            for chosen in np.array_split(order, -(-len(order) // size)):
                top, left = self.top[parts[number]][chosen], self.left[parts[number]][chosen]
                origin = int(top.min()), int(left.min())
                shape = int(np.ptp(top)) + n, int(np.ptp(left)) + n
                starts = top - origin[0], left - origin[1]
                windows = tuple(device.to_device(axis.astype(np.int32)) for axis in starts)
                numbers = device.to_device(chosen)
                block = frames[numbers], probes[numbers]
                illumination, (y, x) = device.xp.zeros(shape, np.float32), np.subtract(origin, self.origin_px)
                device.passes.add(illumination, (device.xp.abs(block[1]) ** 2).sum(1), windows)

                def gradient(obj: Array, block: Block = block, windows: Windows = windows) -> Array:
                    total = device.xp.zeros(obj.shape, np.complex64)
                    device.passes.accumulate_gradient(obj, block, windows, self._expected, total)
                    return total

                yield np.s_[y : y + shape[0], x : x + shape[1]], gradient, illumination

    @property
    def n_values(self) -> int:
        """Number of counts that are compared: valid pixels of all exposures."""
        return len(self.counts) * self.counts.detector.n_valid(self.n_pixels)

    def noise_level(self) -> float:
        """Return the square root of the mean count per valid pixel; computed once."""
        if self._noise_level is None:
            total = sum(float(self.block(part)[0].sum(dtype=np.float64)) for part in self._parts)
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

    def illumination(self) -> Array:
        """Return the incident photons on the canvas, (H, W) float64 [photon/px]; computed once."""
        if self._illumination is None:
            xp = self.device.xp
            self._illumination = xp.zeros(self.shape)
            for part in self._parts:
                photons = (xp.abs(self.block(part)[1]) ** 2).sum(1)
                self.device.passes.add(self._illumination, photons, self._windows(part))
        return self._illumination

    def block(self, part: slice) -> Block:
        """Return counts (m, N, N), zero frequency first, and shifted probes (m, modes, N, N), sample-centered.

        They are read where they are not kept. A part of a block that is computed at once is a view of it.
        """
        if self._cache is None:
            return self._read(part)
        start = part.start - part.start % self._block_size
        if start not in self._cache:
            stop = min(start + self._block_size, len(self.counts))
            if not self.device.has_room((stop - start) * self._exposure_bytes):
                return self._read(part)
            self._cache[start] = self._read(slice(start, stop))
        frames, probes = self._cache[start]
        return frames[part.start - start : part.stop - start], probes[part.start - start : part.stop - start]

    def _read(self, part: slice) -> Block:
        device, exposures = self.device, np.arange(part.start, part.stop)
        frames = device.to_device(self.counts.frames(exposures).astype(np.float32))
        frames = device.fft.ifftshift(frames, axes=(-2, -1))
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (self.counts.ycoords, self.counts.xcoords))
        ramps = shift_ramps(rest_y, rest_x, self.n_pixels)
        down, across = (device.to_device(ramp.astype(np.complex64)[:, None]) for ramp in ramps)
        probes = device.fft.ifft2(self._spectrum * (down * across))
        if (scale := self.counts.detector.exposure_scale) is not None:
            probes *= device.to_device(np.sqrt(scale[part]).astype(np.float32))[:, None, None, None]
        return frames, probes
