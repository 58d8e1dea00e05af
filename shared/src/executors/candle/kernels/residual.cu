// Addition of bias and residual to a product.
#include "common.cuh"

// A thread per four values, read and written at once if rows and buffers are aligned.
template <class T>
__device__ inline void add_bias_residual(const T *x, const float *bias, const float *residual, float *out, unsigned count,
                                         unsigned width) {
    const unsigned FOUR = Quad::COUNT;
    unsigned first = thread_number() * FOUR;
    if (first >= count) return;
    if (width % FOUR > 0 || !aligned(x) || !aligned(bias, residual, out)) {
        for (unsigned i = first; i < min(first + FOUR, count); i++) out[i] = value(x[i]) + bias[i % width] + residual[i];
        return;
    }
    auto product = read<Pack<T, FOUR>>(x + first);
    Quad shift = read<Quad>(bias + first % width), sum = read<Quad>(residual + first);
    for (unsigned i = 0; i < FOUR; i++) sum.at[i] += value(product.at[i]) + shift.at[i];
    write(out + first, sum);
}

KERNEL add_bias_residual_f32(const float *x, const float *bias, const float *residual, float *out, unsigned count,
                             unsigned width) {
    add_bias_residual(x, bias, residual, out, count, width);
}

KERNEL add_bias_residual_bf16(const bf16 *x, const float *bias, const float *residual, float *out, unsigned count,
                              unsigned width) {
    add_bias_residual(x, bias, residual, out, count, width);
}
