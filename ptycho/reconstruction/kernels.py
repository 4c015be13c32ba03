"""The passes of `ptycho.reconstruction.passes` as CUDA kernels: what lies between two FFTs is read and written once.

Sums are taken in a fixed order, without atomic operations, so that the same GPU gives the same bits again. cuFFT does
not normalize here; `compare` does, for the FFTs before and after it.
"""

from functools import cached_property
from typing import Any

import numpy as np

from ptycho.reconstruction.passes import Array, Block, Expected, Passes, Windows

THREADS = 256
"""Threads of a CUDA block."""
PIXELS_PER_THREAD = 4
"""Pixels of a pattern that a thread works on in `illuminate` and `compare`; so are other arrays cut."""
CELL_ROWS, CELL_COLUMNS = 8, 32
"""Pixels of the canvas that a CUDA block of `collect` sums up: a thread each, a warp per row."""

SOURCE = r"""
// Sum of a number of every thread, in thread 0.
__device__ double block_sum(double number)
{
    __shared__ double shared[THREADS];
    shared[threadIdx.x] = number;
    for (int half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    return shared[0];
}

// Exit waves (m, modes, n, n): object times probe. Grid: patches of all modes, parts of a patch.
extern "C" __global__ void illuminate(
    const float2* object, int width, const float2* probes, const int* top, const int* left, int n, int modes,
    float2* waves)
{
    const int pixels = n * n, exposure = blockIdx.x / modes;
    const int stop = min(pixels, (int)(blockIdx.y + 1) * THREADS * PIXELS_PER_THREAD);
    const float2* corner = object + (size_t)top[exposure] * width + left[exposure];
    const size_t start = (size_t)blockIdx.x * pixels;
    for (int pixel = blockIdx.y * THREADS * PIXELS_PER_THREAD + threadIdx.x; pixel < stop; pixel += THREADS) {
        const float2 o = corner[(size_t)(pixel / n) * width + pixel % n], p = probes[start + pixel];
        waves[start + pixel] = make_float2(o.x * p.x - o.y * p.y, o.x * p.y + o.y * p.x);
    }
}

// Waves on the detector (m, modes, n, n) become what the inverse FFT takes to the gradient; half the deviance of each
// part of a pattern is summed up. Grid: exposures, parts of a pattern.
extern "C" __global__ void compare(
    float2* waves, const float* counts, const float* planes, int pixels, int modes, float background, float scale,
    double* sums)
{
    const int exposure = blockIdx.x;
    const int stop = min(pixels, (int)(blockIdx.y + 1) * THREADS * PIXELS_PER_THREAD);
    float2* wave = waves + (size_t)exposure * modes * pixels;
    double sum = 0;
    for (int pixel = blockIdx.y * THREADS * PIXELS_PER_THREAD + threadIdx.x; pixel < stop; pixel += THREADS) {
        float expected = 0;
        for (int mode = 0; mode < modes; ++mode) {
            const float2 w = wave[(size_t)mode * pixels + pixel];
            expected += w.x * w.x + w.y * w.y;
        }
        expected = expected * scale + background;
        float count = counts[(size_t)exposure * pixels + pixel];
        if (planes) {
            expected += planes[pixels + pixel];
            if (!(planes[pixel] > 0)) count = expected;
        }
        const float ratio = count / expected, factor = 2 * (1 - ratio) * scale;
        sum += expected - count + (ratio > 0 ? count * logf(ratio) : 0.0f);
        for (int mode = 0; mode < modes; ++mode) {
            float2* w = wave + (size_t)mode * pixels + pixel;
            *w = make_float2(w->x * factor, w->y * factor);
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[(size_t)exposure * gridDim.y + blockIdx.y] = sum;
}

// Adds patches (m, modes, n, n), times conjugate probes if there are any, to a canvas; every pixel takes the exposures
// in their order. Grid: columns and rows of cells of the canvas.
extern "C" __global__ void collect(
    const float2* patches, const float2* probes, const int* top, const int* left, int m, int n, int modes,
    float2* canvas, int height, int width)
{
    __shared__ unsigned hits[THREADS / 32];
    const int first_row = blockIdx.y * CELL_ROWS, first_column = blockIdx.x * CELL_COLUMNS;
    const int row = first_row + threadIdx.x / CELL_COLUMNS, column = first_column + threadIdx.x % CELL_COLUMNS;
    float2 sum = make_float2(0, 0);
    for (int base = 0; base < m; base += THREADS) {
        const int tested = base + threadIdx.x;
        const bool hit = tested < m && top[tested] < first_row + CELL_ROWS && top[tested] + n > first_row
            && left[tested] < first_column + CELL_COLUMNS && left[tested] + n > first_column;
        const unsigned mask = __ballot_sync(0xffffffffu, hit);
        if (threadIdx.x % 32 == 0) hits[threadIdx.x / 32] = mask;
        __syncthreads();
        for (int word = 0; word < THREADS / 32; ++word) {
            for (unsigned left_over = hits[word]; left_over; left_over &= left_over - 1) {
                const int exposure = base + 32 * word + __ffs(left_over) - 1;
                const int y = row - top[exposure], x = column - left[exposure];
                if (y < 0 || y >= n || x < 0 || x >= n) continue;
                for (int mode = 0; mode < modes; ++mode) {
                    const size_t pixel = ((size_t)exposure * modes + mode) * n * n + y * n + x;
                    const float2 w = patches[pixel], p = probes ? probes[pixel] : make_float2(1, 0);
                    sum.x += w.x * p.x + w.y * p.y;
                    sum.y += w.y * p.x - w.x * p.y;
                }
            }
        }
        __syncthreads();
    }
    if (row < height && column < width) {
        float2* target = canvas + (size_t)row * width + column;
        *target = make_float2(target->x + sum.x, target->y + sum.y);
    }
}

// Smoothed total variation of an object, and its gradient. Grid: parts of the object.
extern "C" __global__ void total_variation(
    const float2* object, int height, int width, float smoothing, float2* gradient, double* sums)
{
    const int size = height * width, stop = min(size, (int)(blockIdx.x + 1) * THREADS * PIXELS_PER_THREAD);
    double sum = 0;
    for (int pixel = blockIdx.x * THREADS * PIXELS_PER_THREAD + threadIdx.x; pixel < stop; pixel += THREADS) {
        const int row = pixel / width, column = pixel % width;
        float2 total = make_float2(0, 0);
        for (int source = 0; source < 3; ++source) {  // the pixel's own differences, those from above and from the left
            const int back = source == 0 ? 0 : source == 1 ? width : 1;
            if ((source == 1 && row == 0) || (source == 2 && column == 0)) continue;
            const float2 here = object[pixel - back];
            float2 down = make_float2(0, 0), right = down;
            if (row - (source == 1) + 1 < height) {
                const float2 next = object[pixel - back + width];
                down = make_float2(next.x - here.x, next.y - here.y);
            }
            if (column - (source == 2) + 1 < width) {
                const float2 next = object[pixel - back + 1];
                right = make_float2(next.x - here.x, next.y - here.y);
            }
            const float length = sqrtf(
                down.x * down.x + down.y * down.y + right.x * right.x + right.y * right.y + smoothing * smoothing);
            const float2 part = source == 0 ? make_float2(-down.x - right.x, -down.y - right.y)
                : source == 1 ? down : right;
            total = make_float2(total.x + part.x / length, total.y + part.y / length);
            if (source == 0) sum += length - smoothing;
        }
        gradient[pixel] = total;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Products of rows with a vector. Grid: rows, parts of a row.
extern "C" __global__ void project(const double* rows, const double* vector, long long size, double* sums)
{
    const long long length = THREADS * PIXELS_PER_THREAD * 4LL, stop = min(size, (blockIdx.y + 1) * length);
    const double* row = rows + blockIdx.x * size;
    double sum = 0;
    for (long long i = blockIdx.y * length + threadIdx.x; i < stop; i += THREADS) sum += row[i] * vector[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[(size_t)blockIdx.x * gridDim.y + blockIdx.y] = sum;
}

// Sum of rows times weights. Grid: parts of a row.
extern "C" __global__ void combine(const double* weights, const double* rows, int count, long long size, double* sum)
{
    const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (i >= size) return;
    double total = 0;
    for (int row = 0; row < count; ++row) total += weights[row] * rows[row * size + i];
    sum[i] = total;
}
"""
NAMES = ("illuminate", "compare", "collect", "total_variation", "project", "combine")


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
        frames, probes = block
        waves = self.fft.fft2(self.illuminate(obj, probes, windows), overwrite_x=True)
        value = self.compare(waves, frames, expected)
        self.collect(gradient, self.fft.ifft2(waves, norm="forward", overwrite_x=True), probes, windows)
        return value

    def accumulate_gradient(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array
    ) -> None:
        """Add the gradient of half the deviance of a block to a canvas."""
        self.accumulate(obj, block, windows, expected, gradient)

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
        """Return half the deviance of waves whose FFT was not normalized; they become those to take back."""
        m, modes, n, _ = waves.shape
        sums = self.xp.empty((m, self._parts(n)))
        numbers = np.int32(n * n), np.int32(modes), np.float32(expected.background), np.float32(1 / n**2)
        self._kernels["compare"](sums.shape, (THREADS,), (waves, frames, expected.planes, *numbers, sums))
        return sums.sum()

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
