"""Poisson likelihood of photon counts on a canvas, and its gradient, computed block by block."""

from collections.abc import Iterator
from copy import copy

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
    corners : (2, M) int32
        Rows and columns of the canvas where the windows start, on the host.
    block_size : int
        Exposures that are computed at once.
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
        self.corners = np.stack([self.top - self.origin_px[0], self.left - self.origin_px[1]]).astype(np.int32)
        self._corners = device.to_device(self.corners)
        self._illumination: Array | None = None
        self._noise_level: float | None = None
        self._last: tuple[float, Array, tuple[float, Array]] | None = None
        self.block_size = device.block_size(counts.block_size, 8 * modes * n * n)
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
            last = self._last = self.background, obj.copy(), self.evaluate(obj)
        return last[2]

    def evaluate(self, obj: Array) -> tuple[float, Array]:
        """Return what calling the likelihood returns; the last result is neither used nor kept."""
        xp, total = self.device.xp, 0.0
        gradient = xp.zeros(self.shape, np.complex64)
        for block, windows in self._all():
            total = total + self.device.passes.accumulate(obj, block, windows, self.expected, gradient)
        if self.device.is_host:
            gradient.flags.writeable = False
        return float(total), gradient

    def gradient(self, obj: Array) -> Array:
        """Return the gradient that calling the likelihood returns, without the value; nothing is cached."""
        gradient = self.device.xp.zeros(self.shape, np.complex64)
        for block, windows in self._all():
            self.device.passes.accumulate_gradient(obj, block, windows, self.expected, gradient)
        return gradient

    @property
    def parts(self) -> Iterator[slice]:
        """Consecutive blocks of exposures that are computed at once."""
        return blocks(len(self.counts), self.block_size)

    @property
    def expected(self) -> Expected:
        """What is added to the predicted counts, and which pixels are compared."""
        return Expected(self.background, self._planes, self._valid)

    def windows(self, part: slice) -> Windows:
        """Return where the windows of a block start on the canvas."""
        return self._corners[0, part], self._corners[1, part]

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
        for block, windows in self._all():
            waves, intensity, frames = passes.predict(obj, block, windows, self.expected)
            waves *= (xp.sqrt(frames / intensity) - 1)[:, None]
            passes.add(update, passes.back(waves, block), windows)
        return update

    @property
    def n_values(self) -> int:
        """Number of counts that are compared: valid pixels of all exposures."""
        return len(self.counts) * self.counts.detector.n_valid(self.n_pixels)

    def noise_level(self) -> float:
        """Return the square root of the mean count per valid pixel; computed once."""
        if self._noise_level is None:
            total = sum(float(block[0].sum(dtype=np.float64)) for block, _ in self._all())
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
            for block, windows in self._all():
                photons = (xp.abs(block[1]) ** 2).sum(1)
                self.device.passes.add(self._illumination, photons, windows)
        return self._illumination

    def _all(self) -> Iterator[tuple[Block, Windows]]:
        """Yield all exposures, block by block; those that are not kept are read, and last until the next block."""
        parts = [(part, self._keep(part)) for part in self.parts]
        streamed = self.device.stream(self._fill, [part for part, kept in parts if not kept], (self.n_pixels,) * 2)
        for part, kept in parts:
            yield self.block(part) if kept else self._with_probes(next(streamed), part), self.windows(part)

    def block(self, part: slice) -> Block:
        """Return counts (m, N, N), zero frequency first, and shifted probes (m, modes, N, N), sample-centered.

        They are read where they are not kept. A part of a block that is computed at once is a view of it.
        """
        if self._cache is None or not self._keep(part):
            return self._read(part)
        start = part.start - part.start % self.block_size
        frames, probes = self._cache[start]
        return frames[part.start - start : part.stop - start], probes[part.start - start : part.stop - start]

    def _keep(self, part: slice) -> bool:
        """Return whether exposures are kept; read the block that they belong to if it is to be kept and has room."""
        if self._cache is None:
            return False
        start = part.start - part.start % self.block_size
        if start not in self._cache:
            stop = min(start + self.block_size, len(self.counts))
            if not self.device.has_room((stop - start) * self._exposure_bytes):
                return False
            self._cache[start] = self._read(slice(start, stop))
        return True

    def _fill(self, part: slice, frames: NDArray[np.float32]) -> None:
        """Read counts, a block of the counts at a time."""
        for piece in blocks(len(frames), self.counts.block_size):
            frames[piece] = self.counts.frames(np.arange(part.start + piece.start, part.start + piece.stop))

    def _read(self, part: slice) -> Block:
        frames = np.empty((part.stop - part.start, self.n_pixels, self.n_pixels), np.float32)
        self._fill(part, frames)
        return self._with_probes(self.device.to_device(frames), part)

    def _with_probes(self, frames: Array, part: slice) -> Block:
        """Return a block from its counts, (m, N, N) with zero frequency at [N/2, N/2]."""
        device = self.device
        frames = device.fft.ifftshift(frames, axes=(-2, -1))
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (self.counts.ycoords, self.counts.xcoords))
        ramps = shift_ramps(rest_y, rest_x, self.n_pixels)
        down, across = (device.to_device(ramp.astype(np.complex64)[:, None]) for ramp in ramps)
        probes = device.fft.ifft2(self._spectrum * (down * across))
        if (scale := self.counts.detector.exposure_scale) is not None:
            probes *= device.to_device(np.sqrt(scale[part]).astype(np.float32))[:, None, None, None]
        return frames, probes
