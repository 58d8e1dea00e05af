// Bias and GELU after a product, their gradients, and sums over rows.
#include "common.cuh"

__device__ inline float normal_cdf(float x) { return 0.5f + 0.5f * erff(x * 0.70710678f); }

template <class T> __device__ void add_bias(const T *x, const float *bias, T *out, unsigned count, unsigned width) {
    unsigned i = thread_number();
    if (i < count) store(out + i, value(x[i]) + bias[i % width]);
}

KERNEL add_bias_f32(const float *x, const float *bias, float *out, unsigned count, unsigned width) {
    add_bias(x, bias, out, count, width);
}

KERNEL add_bias_bf16(const bf16 *x, const float *bias, bf16 *out, unsigned count, unsigned width) {
    add_bias(x, bias, out, count, width);
}

template <class T> __device__ void gelu(const T *x, const float *bias, T *out, unsigned count, unsigned width) {
    unsigned i = thread_number();
    if (i >= count) return;
    float y = value(x[i]) + bias[i % width];
    store(out + i, y * normal_cdf(y));
}

KERNEL add_bias_gelu_f32(const float *x, const float *bias, float *out, unsigned count, unsigned width) {
    gelu(x, bias, out, count, width);
}

KERNEL add_bias_gelu_bf16(const bf16 *x, const float *bias, bf16 *out, unsigned count, unsigned width) {
    gelu(x, bias, out, count, width);
}

template <class T>
__device__ void gelu_grad(const T *x, const float *bias, const T *grad, T *out, unsigned count, unsigned width) {
    unsigned i = thread_number();
    if (i >= count) return;
    float y = value(x[i]) + bias[i % width];
    store(out + i, value(grad[i]) * (normal_cdf(y) + y * 0.3989423f * expf(-0.5f * y * y)));
}

KERNEL add_bias_gelu_grad_f32(const float *x, const float *bias, const float *grad, float *out, unsigned count,
                              unsigned width) {
    gelu_grad(x, bias, grad, out, count, width);
}

KERNEL add_bias_gelu_grad_bf16(const bf16 *x, const float *bias, const bf16 *grad, bf16 *out, unsigned count,
                               unsigned width) {
    gelu_grad(x, bias, grad, out, count, width);
}

// A thread a column and chunk of rows: the chunk's sums, [chunks, width].
template <class T> __device__ void column_sum(const T *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    unsigned columns = (width + blockDim.x - 1) / blockDim.x;
    unsigned column = blockIdx.x % columns * blockDim.x + threadIdx.x, number = blockIdx.x / columns;
    if (column >= width) return;
    float sum = 0;
    unsigned end = min((number + 1) * chunk, rows);
    for (unsigned row = number * chunk; row < end; row++) sum += value(x[(size_t)row * width + column]);
    out[(size_t)number * width + column] = sum;
}

KERNEL column_sum_f32(const float *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    column_sum(x, out, rows, width, chunk);
}

KERNEL column_sum_bf16(const bf16 *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    column_sum(x, out, rows, width, chunk);
}
