// A product, its bias and the residual that it is added to.
#include "common.cuh"

template <class T>
__device__ void add_bias_residual(const T *x, const float *bias, const float *residual, float *out, unsigned count,
                                  unsigned width) {
    unsigned i = thread_number();
    if (i < count) out[i] = value(x[i]) + bias[i % width] + residual[i];
}

KERNEL add_bias_residual_f32(const float *x, const float *bias, const float *residual, float *out, unsigned count,
                             unsigned width) {
    add_bias_residual(x, bias, residual, out, count, width);
}

KERNEL add_bias_residual_bf16(const bf16 *x, const float *bias, const float *residual, float *out, unsigned count,
                              unsigned width) {
    add_bias_residual(x, bias, residual, out, count, width);
}
