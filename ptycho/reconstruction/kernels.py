"""The passes of `ptycho.reconstruction.passes` as CUDA kernels: what lies between two FFTs is read and written once.

Sums are taken in a fixed order, without atomic operations, so that the same GPU gives the same bits again. cuFFT does
not normalize here; `compare` does, for the FFTs before and after it.
"""

from functools import cached_property
from typing import Any

import numpy as np

from ptycho.reconstruction.cuda_source import CELL_COLUMNS, CELL_ROWS, NAMES, PIXELS_PER_THREAD, SOURCE, THREADS
from ptycho.reconstruction.passes import Array, Batches, Block, Expected, Passes, Windows


class CudaPasses(Passes):
    """The passes of a GPU, through CuPy."""

    @cached_property
    def _kernels(self) -> dict[str, Any]:
        """Compile the kernels; CuPy keeps them on disk."""
        constants = {
            "THREADS": THREADS,
            "PIXELS_PER_THREAD": PIXELS_PER_THREAD,
            "CELL_ROWS": CELL_ROWS,
            "CELL_COLUMNS": CELL_COLUMNS,
        }
        options = tuple(f"-D{name}={value}" for name, value in constants.items())
        module = self.xp.RawModule(code=SOURCE, options=options)
        return {name: module.get_function(name) for name in NAMES}

    def accumulate(self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array) -> Any:
        """Return half the deviance of a block, and add its gradient to a canvas, see `Passes.accumulate`."""
        waves, sums = self._compared(obj, block, windows, expected)
        self.collect(gradient, waves, block[1], windows)
        return sums.sum()

    def accumulate_gradient(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array
    ) -> None:
        """Add the gradient of half the deviance of a block to a canvas."""
        self.collect(gradient, self._compared(obj, block, windows, expected)[0], block[1], windows)

    def _compared(self, obj: Array, block: Block, windows: Windows, expected: Expected) -> tuple[Array, Array]:
        """Return waves (m, modes, N, N) whose products with the conjugate probes are the gradient, and `compare`'s."""
        frames, probes = block
        waves = self.fft.fft2(self.illuminate(obj, probes, windows), overwrite_x=True)
        sums = self.compare(waves, frames, expected)
        return self.fft.ifft2(waves, norm="forward", overwrite_x=True), sums

    def descend(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, batches: Batches, damping: float
    ) -> None:
        """Take a step down the gradient of every mini-batch in place, see `Passes.descend`."""
        (waves, _), count = self._compared(obj, block, windows, expected), len(batches.boxes)
        rows = np.column_stack([batches.bounds[:-1], batches.bounds[1:], batches.boxes])
        table, (height, width) = self.xp.asarray(np.ascontiguousarray(rows, np.int32)), batches.boxes.T[2:]
        cells, stride = -(-height // CELL_ROWS) * -(-width // CELL_COLUMNS), int((height * width).max())
        fields = self.xp.empty((count, stride), np.complex64), self.xp.empty((count, stride), np.float32)
        largest, numbers = self.xp.zeros(count, np.float32), (np.int32(waves.shape[-1]), np.int32(waves.shape[1]))
        arguments = waves, block[1], *windows, table, *numbers, np.int64(stride), *fields, largest
        self._kernels["collect_batches"]((int(cells.max()), count), (THREADS,), arguments)
        target = np.int64(stride), np.float32(damping), obj, np.int32(obj.shape[1])
        self._kernels["descend"]((-(-stride // THREADS), count), (THREADS,), (*fields, largest, table, *target))

    def add(self, canvas: Array, patches: Array, windows: Windows) -> None:
        """Add (m, n, n) patches to a canvas of any kind in place; they are summed up in single precision."""
        total = self.xp.zeros(canvas.shape, np.complex64)
        waves = self.xp.ascontiguousarray(patches[:, None], np.complex64)
        self.collect(total, waves, None, windows)
        canvas += total if canvas.dtype.kind == "c" else total.real

    def illuminate(self, obj: Array, probes: Array, windows: Windows) -> Array:
        """Return the exit waves (m, modes, N, N) complex64."""
        m, modes, n, _ = probes.shape
        waves = self.xp.empty(probes.shape, np.complex64)
        numbers = np.int32(n), np.int32(modes)
        arguments = obj, np.int32(obj.shape[1]), probes, *windows, *numbers, waves
        self._kernels["illuminate"]((m * modes, self._parts(n)), (THREADS,), arguments)
        return waves

    def compare(self, waves: Array, frames: Array, expected: Expected) -> Array:
        """Turn waves whose FFT was not normalized into those to take back; return half the deviance in parts."""
        m, modes, n, _ = waves.shape
        sums = self.xp.empty((m, self._parts(n)))
        numbers = np.int32(n * n), np.int32(modes), np.float32(expected.background), np.float32(1 / n**2)
        self._kernels["compare"](sums.shape, (THREADS,), (waves, frames, expected.planes, *numbers, sums))
        return sums

    def _parts(self, n: int) -> int:
        """Return the number of CUDA blocks that a pattern takes."""
        return -(-n * n // (THREADS * PIXELS_PER_THREAD))

    def collect(self, canvas: Array, patches: Array, probes: Array | None, windows: Windows) -> None:
        """Add patches (m, modes, n, n) complex64, times the conjugate of probes if there are any, to a canvas."""
        m, modes, n, _ = patches.shape
        height, width = canvas.shape
        grid = -(-width // CELL_COLUMNS), -(-height // CELL_ROWS)
        numbers = np.int32(m), np.int32(n), np.int32(modes)
        arguments = patches, probes, *windows, *numbers, canvas, np.int32(height), np.int32(width)
        self._kernels["collect"](grid, (THREADS,), arguments)

    def total_variation(self, obj: Array, smoothing: float) -> tuple[Array, Array]:
        """Return smoothed total variation and gradient of a complex64 object."""
        gradient = self.xp.empty(obj.shape, np.complex64)
        sums = self.xp.empty(-(-obj.size // (THREADS * PIXELS_PER_THREAD)))
        sides = np.int32(obj.shape[0]), np.int32(obj.shape[1])
        self._kernels["total_variation"](sums.shape, (THREADS,), (obj, *sides, np.float32(smoothing), gradient, sums))
        return sums.sum(), gradient

    def project(self, rows: Array, vector: Array) -> Array:
        """Return the (k,) products of (k, size) float64 rows with a vector."""
        count, size = rows.shape
        sums = self.xp.empty((count, -(-size // (THREADS * PIXELS_PER_THREAD * 4))))
        self._kernels["project"](sums.shape, (THREADS,), (rows, vector, np.int64(size), sums))
        return sums.sum(axis=1)

    def combine(self, weights: Array, rows: Array) -> Array:
        """Return the (size,) sum of (k, size) float64 rows, each times its weight."""
        count, size = rows.shape
        total = self.xp.empty(size)
        arguments = weights, rows, np.int32(count), np.int64(size), total
        self._kernels["combine"]((-(-size // THREADS),), (THREADS,), arguments)
        return total
