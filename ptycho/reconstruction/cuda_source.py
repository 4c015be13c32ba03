"""CUDA source of the kernels that `ptycho.reconstruction.kernels` launches."""

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

// Largest of a float of every thread, in thread 0.
__device__ float block_max(float number)
{
    __shared__ float shared[THREADS];
    shared[threadIdx.x] = number;
    for (int half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] = max(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    return shared[0];
}

// Gradients and illuminations of mini-batches, each in its box, from patches (m, modes, n, n); largest illuminations.
// A row of `batches`: first exposure, the one after the last, first row and column, height and width of the box.
// Grid: cells of the largest box, mini-batches.
extern "C" __global__ void collect_batches(
    const float2* patches, const float2* probes, const int* top, const int* left, const int* batches, int n, int modes,
    long long stride, float2* gradients, float* illuminations, float* largest)
{
    const int* batch = batches + 6 * blockIdx.y;
    const int height = batch[4], width = batch[5], across = (width + CELL_COLUMNS - 1) / CELL_COLUMNS;
    const int row = blockIdx.x / across * CELL_ROWS + threadIdx.x / CELL_COLUMNS;
    const int column = blockIdx.x % across * CELL_COLUMNS + threadIdx.x % CELL_COLUMNS;
    float2 sum = make_float2(0, 0);
    float photons = 0;
    if (row < height && column < width) {
        for (int exposure = batch[0]; exposure < batch[1]; ++exposure) {
            const int y = row + batch[2] - top[exposure], x = column + batch[3] - left[exposure];
            if (y < 0 || y >= n || x < 0 || x >= n) continue;
            for (int mode = 0; mode < modes; ++mode) {
                const size_t pixel = ((size_t)exposure * modes + mode) * n * n + y * n + x;
                const float2 w = patches[pixel], p = probes[pixel];
                sum.x += w.x * p.x + w.y * p.y;
                sum.y += w.y * p.x - w.x * p.y;
                photons += p.x * p.x + p.y * p.y;
            }
        }
        const size_t pixel = stride * blockIdx.y + row * width + column;
        gradients[pixel] = sum;
        illuminations[pixel] = photons;
    }
    photons = block_max(photons);
    // Non-negative floats are in the order of their bits; the largest is the same in any order of the CUDA blocks.
    if (threadIdx.x == 0) atomicMax((int*)largest + blockIdx.y, __float_as_int(photons));
}

// Steps down these gradients, divided by twice the damped illumination. Grid: parts of the largest box, mini-batches.
extern "C" __global__ void descend(
    const float2* gradients, const float* illuminations, const float* largest, const int* batches, long long stride,
    float damping, float2* object, int object_width)
{
    const int* batch = batches + 6 * blockIdx.y;
    const int pixel = blockIdx.x * THREADS + threadIdx.x, width = batch[5];
    if (pixel >= batch[4] * width) return;
    const size_t source = stride * blockIdx.y + pixel;
    const float divisor = 2 * (illuminations[source] + damping * largest[blockIdx.y]);
    float2* target = object + (size_t)(batch[2] + pixel / width) * object_width + batch[3] + pixel % width;
    *target = make_float2(target->x - gradients[source].x / divisor, target->y - gradients[source].y / divisor);
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
NAMES = (
    "illuminate", "compare", "collect", "collect_batches", "descend", "total_variation", "project", "combine",
)  # fmt: skip
