"""Counts of exposures whose windows lie on a canvas, block by block on a device, and what belongs to predicted counts.

What likelihoods share, whatever they know: where windows are, which counts are kept in memory, and the detector.
"""

from collections.abc import Iterator
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.forward import blocks, window_start
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.passes import Array, Expected, Windows

BACKGROUND = 1.0e-3
"""Smallest background added to the predicted counts [photon/px]: without it, the gradient of a photon where almost
none is predicted consists of rounding errors."""

CACHE_BYTES = 1 << 30
"""The host keeps counts and shifted probes of all exposures if they need less than this [byte]: those of a tile of
512 px of patterns of 128 px, exposures N/7 apart, and up to three modes do."""

MAX_BACKGROUND = 0.3
"""Largest background, in units of the mean count per pixel: more would explain the counts by itself."""


class CountsOnCanvas:
    """Counts, windows and detector of some exposures.

    Parameters
    ----------
    counts : Counts
        Measured photons.
    n_pixels : int
        N, side of a pattern [px].
    fraction : float
        Fraction of the photons, and of the detector's background, that `counts` holds: 1, or that of a split.
    device : Device
        Where to compute.
    margin_px : int
        Width of the canvas around the box of all windows [px].

    Attributes
    ----------
    n_pixels : int
        N, side of a pattern [px].
    shape : (int, int)
        Rows and columns of the canvas: the box around all windows, and its margin.
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

    def __init__(self, counts: Counts, n_pixels: int, fraction: float, device: Device, margin_px: int = 0):
        self.counts, self.n_pixels, self.device = counts, n_pixels, device
        self.top, self.left = window_start(counts.ycoords, n_pixels), window_start(counts.xcoords, n_pixels)
        self.origin_px = int(self.top.min()) - margin_px, int(self.left.min()) - margin_px
        height, width = int(np.ptp(self.top)) + n_pixels, int(np.ptp(self.left)) + n_pixels
        self.shape = height + 2 * margin_px, width + 2 * margin_px
        self._place_windows()
        self.background, detector = BACKGROUND, counts.detector.scaled(fraction)
        planes = detector.planes()
        self.detector = None if planes is None else fft.ifftshift(planes, axes=(-2, -1))
        valid = None if self.detector is None or detector.valid is None else self.detector[0] > 0
        self._planes = None if self.detector is None else device.to_device(self.detector)
        self._valid = None if valid is None else device.to_device(valid)
        self._noise_level: float | None = None
        self.block_size, self._exposure_bytes = counts.block_size, 0
        self._cache: dict[int, tuple[Array, ...]] | None = None

    def _place_windows(self) -> None:
        """Take the windows that start at `top` and `left`."""
        self.corners = np.stack([self.top - self.origin_px[0], self.left - self.origin_px[1]]).astype(np.int32)
        self._corners = self.device.to_device(self.corners)

    def _divide(self, wave_bytes: int, exposure_bytes: int, cache_bytes: int) -> None:
        """Choose how many exposures are computed at once, and whether blocks are kept.

        Parameters
        ----------
        wave_bytes : int
            Size of an exposure's waves [byte].
        exposure_bytes : int
            Size of what is kept of an exposure [byte].
        cache_bytes : int
            The host keeps blocks if all of them need less than this [byte]; 0: none is kept, on a GPU neither.
        """
        self.block_size = self.device.block_size(self.counts.block_size, wave_bytes)
        self._exposure_bytes = exposure_bytes
        self._cache = {} if self.device.keeps(len(self.counts) * exposure_bytes, cache_bytes) else None

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

    @property
    def n_values(self) -> int:
        """Number of counts that are compared: valid pixels of all exposures."""
        return len(self.counts) * self.counts.detector.n_valid(self.n_pixels)

    def noise_level(self) -> float:
        """Return the square root of the mean count per valid pixel; computed once."""
        if self._noise_level is None:
            total = sum(float(block[0].sum(dtype=np.float64)) for _, block in self._blocks())
            self._noise_level = float(np.sqrt(total / self.n_values))
        return self._noise_level

    def with_background(self, factor: float) -> Self:
        """Return the same likelihood with another background.

        Far from the minimum, pixels with counts but almost no predicted intensity dominate the gradient. The background
        removes this, so that a few iterations get further.

        Parameters
        ----------
        factor : float
            Background in units of `noise_level()`. The result is between a tenth of `BACKGROUND` and `MAX_BACKGROUND`.
        """
        noise = self.noise_level()
        other = copy(self)
        other.background = max(min(factor * noise, MAX_BACKGROUND * noise**2), BACKGROUND / 10)
        return other

    def _blocks(self) -> Iterator[tuple[slice, tuple[Array, ...]]]:
        """Yield all exposures, block by block; those that are not kept are read, and last until the next block."""
        parts = [(part, self._keep(part)) for part in self.parts]
        streamed = self.device.stream(self._fill, [part for part, kept in parts if not kept], (self.n_pixels,) * 2)
        for part, kept in parts:
            yield part, self._block(part) if kept else self._prepared(next(streamed), part)

    def _block(self, part: slice) -> tuple[Array, ...]:
        """Return what `_prepared` makes of some exposures; a part of a block that is kept is a view of it."""
        if self._cache is None or not self._keep(part):
            return self._read(part)
        start = part.start - part.start % self.block_size
        return tuple(array[part.start - start : part.stop - start] for array in self._cache[start])

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

    def _read(self, part: slice) -> tuple[Array, ...]:
        frames = np.empty((part.stop - part.start, self.n_pixels, self.n_pixels), np.float32)
        self._fill(part, frames)
        return self._prepared(self.device.to_device(frames), part)

    def _prepared(self, frames: Array, part: slice) -> tuple[Array, ...]:
        """Return what is kept of a block, given its counts, (m, N, N) with zero frequency at [N/2, N/2].

        Counts come first, zero frequency first; a likelihood adds what else it keeps of the exposures.
        """
        return (self.device.fft.ifftshift(frames, axes=(-2, -1)),)
