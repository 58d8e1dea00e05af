// Last step of sums over rows: adds up the sums of chunks.
#include "common.cuh"

const unsigned COLUMNS = 32, PARTS = 8;

// A block per 32 columns, with eight threads per column: each adds up every eighth chunk, then one adds up their sums.
KERNEL __launch_bounds__(COLUMNS * PARTS) add_rows(const float *chunks, float *out, unsigned count, unsigned width) {
    __shared__ float sums[PARTS][COLUMNS];
    unsigned column = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS, part = threadIdx.x / COLUMNS;
    float sum = 0;
    if (column < width) {
        // Four loads at once.
#pragma unroll 4
        for (unsigned i = part; i < count; i += PARTS) sum += chunks[(size_t)i * width + column];
    }
    sums[part][threadIdx.x % COLUMNS] = sum;
    __syncthreads();
    if (part > 0 || column >= width) return;
    for (unsigned i = 1; i < PARTS; i++) sum += sums[i][threadIdx.x];
    out[column] = sum;
}
