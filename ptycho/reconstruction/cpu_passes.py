"""The passes of `ptycho.reconstruction.passes` on CPUs: a few exposures at a time, which stay in the cache.

Between two FFTs a kernel of `ptycho.reconstruction.cpu_kernels` reads and writes everything once. Without Numba, and
in double precision, the plain lines do the same in a longer time.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Event
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.passes import Array, Block, Expected, NumpyPasses, Ramps, Windows

PIECE_PIXELS = 2**16
"""Pixels of the waves that a thread works on at a time: waves, probes and counts stay in a cache of 2 MB."""

_logger = logging.getLogger(__name__)


class CpuPasses(NumpyPasses):
    """The passes of the CPU.

    Parameters
    ----------
    threads : int
        How many threads work on a block. Results do not depend on it.
    """

    def __init__(self, threads: int = 1):
        super().__init__()
        self.threads = threads

    @cached_property
    def _kernels(self) -> ModuleType | None:
        """The compiled loops; None without Numba."""
        try:
            from ptycho.reconstruction import cpu_kernels
        except ImportError as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            _logger.warning("The likelihood is computed by NumPy alone, half as fast (%s); wanted Numba", reason)
            return None
        return cpu_kernels

    @cached_property
    def _probe_kernels(self) -> ModuleType:
        """The compiled loops over shifted probes."""
        from ptycho.reconstruction import cpu_probe_kernels

        return cpu_probe_kernels

    def start(self) -> None:
        """Load Numba and what it has compiled, which takes a second; else the first passes do."""
        pixel, corners = np.ones((1, 1, 1, 1), np.complex64), (np.zeros(1, np.int32), np.zeros(1, np.int32))
        _, obj = self.total_variation(pixel[0, 0], 1.0)
        self.accumulate(obj, (np.ones((1, 1, 1), np.float32), pixel), corners, Expected(1.0, None, None), obj.copy())

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)

    def accumulate(self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array) -> Any:
        """Return half the deviance of a block, and add its gradient to a canvas, see `Passes.accumulate`."""
        kernels = self._kernels
        if kernels is None or any(array.dtype != np.complex64 for array in (obj, block[1], gradient)):
            return self._by_lines(obj, block, windows, expected, gradient)
        (frames, probes), (top, left) = block, windows
        compare = self._comparison(kernels, obj, block, windows, expected)

        def add(part: slice, before: Event, after: Event) -> float:
            try:
                waves, values = compare(part)
                waves = self.fft.ifft2(waves, norm="forward", overwrite_x=True)
                before.wait()  # gradients are added in the order of the exposures
                kernels.collect(gradient, waves, probes[part], top[part], left[part])
                return float(values.sum())
            finally:
                after.set()

        pieces = self._pieces(len(frames), probes[0].size)
        added = [Event() for _ in range(len(pieces) + 1)]
        added[0].set()
        return sum((map if self.threads == 1 else self._pool.map)(add, pieces, added[:-1], added[1:]))

    def per_exposure(self, obj: Array, block: Block, windows: Windows, expected: Expected) -> Array:
        """Return half the deviance of every exposure, see `Passes.per_exposure`."""
        kernels = self._kernels
        if kernels is None or any(array.dtype != np.complex64 for array in (obj, block[1])):
            return super().per_exposure(obj, block, windows, expected)
        compare = self._comparison(kernels, obj, block, windows, expected)
        pieces = self._pieces(len(block[0]), block[1][0].size)
        parts = (map if self.threads == 1 else self._pool.map)(lambda part: compare(part)[1], pieces)
        return np.concatenate(list(parts))

    def _comparison(
        self,
        kernels: ModuleType,
        obj: Array,
        block: Block,
        windows: Windows,
        expected: Expected,
        slopes: Array | None = None,
    ) -> Callable[[slice], tuple[Array, NDArray[np.float64]]]:
        """Return what predicts and compares some exposures of a block: waves to take back, and half the deviances.

        Derivatives in the mean counts are added to the slopes, if these are wanted.
        """
        (frames, probes), (top, left) = block, windows
        _, modes, n, _ = probes.shape
        obj, planes, normalization = np.ascontiguousarray(obj), self._planes_of(expected, n), np.float32(1 / n**2)
        sums = np.empty(0) if slopes is None else slopes.reshape(-1)  # a view

        def compare(part: slice) -> tuple[Array, NDArray[np.float64]]:
            counts, waves = frames[part].reshape(-1, n * n), np.empty(probes[part].shape, np.complex64)
            kernels.illuminate(obj, probes[part], top[part], left[part], waves)
            waves, values = self.fft.fft2(waves, overwrite_x=True), np.empty(len(counts))
            parts = waves.view(np.float32).reshape(len(counts), modes, -1)
            kernels.compare(parts, counts, planes, normalization, values, sums)
            return waves, values

        return compare

    def probe_gradients(
        self,
        obj: Array,
        block: Block,
        windows: Windows,
        expected: Expected,
        gradient: Array | None = None,
        slopes: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return half the deviance of a block and its gradient in all probes, see `Passes.probe_gradients`."""
        kernels = self._kernels
        if kernels is None or any(array.dtype != np.complex64 for array in (obj, block[1])):
            return super().probe_gradients(obj, block, windows, expected, gradient, slopes)
        (_, probes), (top, left) = block, windows
        waves, values = self._comparison(kernels, obj, block, windows, expected, slopes)(slice(len(probes)))
        waves = self.fft.ifft2(waves, norm="forward", overwrite_x=True)
        if gradient is not None:
            kernels.collect(gradient, waves, probes, top, left)
        self._probe_kernels.to_probes(waves, np.ascontiguousarray(obj), top, left)
        return float(values.sum()), waves

    def shifted(self, spectrum: Array, ramps: Ramps) -> Array:
        """Return the shifted probes of some exposures, see `Passes.shifted`."""
        if self._kernels is None or spectrum.dtype != np.complex64:
            return super().shifted(spectrum, ramps)
        spectra = np.empty((len(ramps.roots), *spectrum.shape), np.complex64)
        self._probe_kernels.shift(spectrum, ramps.lit(np), spectra)
        return self.fft.ifft2(spectra, overwrite_x=True)

    def shift_slopes(self, gradients: Array, spectrum: Array, ramps: Ramps, total: Array | None = None) -> Array:
        """Take gradients in shifted probes to those in the shifts and in the probe, see `Passes.shift_slopes`."""
        if self._kernels is None or gradients.dtype != np.complex64:
            return super().shift_slopes(gradients, spectrum, ramps, total)
        n, spectra = spectrum.shape[-1], self.fft.fft2(gradients, overwrite_x=True)
        frequencies, slopes = ramps.frequencies.astype(np.float32), np.empty((2, len(spectra)))
        part = np.zeros(spectrum.shape, np.complex64)
        self._probe_kernels.shift_slopes(spectra, spectrum, ramps.lit(np), frequencies, slopes, part)
        if total is not None:
            total += part
        return slopes / n**2

    def _by_lines(self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array) -> Any:
        """Do what `accumulate` does by the plain lines, a piece at a time, in one thread."""
        (frames, probes), (top, left), total = block, windows, 0.0
        for part in self._pieces(len(frames), probes[0].size):
            piece, corners = (frames[part], probes[part]), (top[part], left[part])
            total += super().accumulate(obj, piece, corners, expected, gradient)
        return total

    def _pieces(self, count: int, pixels: int) -> list[slice]:
        """Cut exposures, whose waves have so many pixels each, into pieces of equal size, as many for every thread."""
        rounds = -(-count * pixels // (PIECE_PIXELS * self.threads))
        number = min(rounds * self.threads, count)
        return [slice(count * i // number, count * (i + 1) // number) for i in range(number)]

    def accumulate_gradient(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array
    ) -> None:
        """Add the gradient of half the deviance of a block to a canvas; its value costs next to nothing."""
        self.accumulate(obj, block, windows, expected, gradient)

    def _planes_of(self, expected: Expected, n: int) -> NDArray[np.float32]:
        """Return 1 in valid and 0 in bad pixels, and what is added to the photons, (2, N²)."""
        planes = np.zeros((2, n * n), np.float32)
        if expected.planes is None:
            planes[0] = 1
        else:
            planes[:] = expected.planes.reshape(2, -1)
        planes[1] += np.float32(expected.background)
        return planes

    def total_variation(self, obj: Array, smoothing: float) -> tuple[Array, Array]:
        """Return smoothed total variation and gradient, see `ptycho.reconstruction.optimize.total_variation`."""
        if self._kernels is None or obj.dtype != np.complex64:
            return super().total_variation(obj, smoothing)
        gradient = np.empty(obj.shape, np.complex64)
        total = self._kernels.total_variation(np.ascontiguousarray(obj), np.float32(smoothing), gradient)
        return total, gradient
