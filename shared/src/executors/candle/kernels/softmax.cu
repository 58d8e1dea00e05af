// Softmax over scaled rows: one warp per row. No intermediate result is stored in memory.
#include "common.cuh"

__device__ inline float warp_max(float x) {
    for (unsigned step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
    return x;
}

template <class T> __device__ void softmax(const T *x, T *out, unsigned rows, unsigned width, float scale) {
    unsigned row = warp_number();
    if (row >= rows) return;
    x += (size_t)row * width;
    out += (size_t)row * width;
    float most = value(x[0]), sum = 0;
    for (unsigned i = lane(); i < width; i += WARP) most = fmaxf(most, value(x[i]));
    most = warp_max(most);
    // Rows are short enough to be in the cache for the second read.
    for (unsigned i = lane(); i < width; i += WARP) sum += expf(scale * (value(x[i]) - most));
    float factor = 1.0f / warp_sum(sum);
    for (unsigned i = lane(); i < width; i += WARP) store(out + i, expf(scale * (value(x[i]) - most)) * factor);
}

KERNEL softmax_f32(const float *x, float *out, unsigned rows, unsigned width, float scale) {
    softmax(x, out, rows, width, scale);
}

KERNEL softmax_bf16(const bf16 *x, bf16 *out, unsigned rows, unsigned width, float scale) {
    softmax(x, out, rows, width, scale);
}
