// Bias and GELU after a product, their gradients, and sums over rows.
#include "common.cuh"

__device__ inline float normal_cdf(float x) { return 0.5f + 0.5f * erff(x * 0.70710678f); }

// out = f(x + bias, other), a thread per pack of values, if rows and buffers are aligned.
template <class T, class F>
__device__ inline void map(const T *x, const float *bias, const T *other, T *out, unsigned count, unsigned width, F f) {
    typedef Pack<T> Values;
    unsigned first = thread_number() * Values::COUNT;
    if (first >= count) return;
    if (width % Values::COUNT > 0 || !aligned(x, other, out) || !aligned(bias)) {
        for (unsigned i = first; i < min(first + Values::COUNT, count); i++)
            store(out + i, f(value(x[i]) + bias[i % width], value(other[i])));
        return;
    }
    Values of_x = read<Values>(x + first), of_other = read<Values>(other + first), result;
    unsigned column = first % width;
    for (unsigned j = 0; j < Values::COUNT; j += Quad::COUNT) {
        Quad shift = read<Quad>(bias + column + j);
        for (unsigned i = 0; i < Quad::COUNT; i++)
            store(&result.at[j + i], f(value(of_x.at[j + i]) + shift.at[i], value(of_other.at[j + i])));
    }
    write(out + first, result);
}

struct Same {
    __device__ float operator()(float y, float) const { return y; }
};

struct Gelu {
    __device__ float operator()(float y, float) const { return y * normal_cdf(y); }
};

struct GeluGrad {
    __device__ float operator()(float y, float grad) const {
        return grad * (normal_cdf(y) + y * 0.3989423f * expf(-0.5f * y * y));
    }
};

KERNEL add_bias_f32(const float *x, const float *bias, float *out, unsigned count, unsigned width) {
    map(x, bias, x, out, count, width, Same());
}

KERNEL add_bias_bf16(const bf16 *x, const float *bias, bf16 *out, unsigned count, unsigned width) {
    map(x, bias, x, out, count, width, Same());
}

KERNEL add_bias_gelu_f32(const float *x, const float *bias, float *out, unsigned count, unsigned width) {
    map(x, bias, x, out, count, width, Gelu());
}

KERNEL add_bias_gelu_bf16(const bf16 *x, const float *bias, bf16 *out, unsigned count, unsigned width) {
    map(x, bias, x, out, count, width, Gelu());
}

KERNEL add_bias_gelu_grad_f32(const float *x, const float *bias, const float *grad, float *out, unsigned count,
                              unsigned width) {
    map(x, bias, grad, out, count, width, GeluGrad());
}

KERNEL add_bias_gelu_grad_bf16(const bf16 *x, const float *bias, const bf16 *grad, bf16 *out, unsigned count,
                               unsigned width) {
    map(x, bias, grad, out, count, width, GeluGrad());
}

// Sums of each chunk of rows, [chunks, width], a thread per column and chunk.
template <class T> __device__ void column_sum(const T *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    unsigned columns = (width + blockDim.x - 1) / blockDim.x;
    unsigned column = blockIdx.x % columns * blockDim.x + threadIdx.x, number = blockIdx.x / columns;
    if (column >= width) return;
    float sum = 0;
    unsigned end = min((number + 1) * chunk, rows);
    // Eight loads at once.
#pragma unroll 8
    for (unsigned row = number * chunk; row < end; row++) sum += value(x[(size_t)row * width + column]);
    out[(size_t)number * width + column] = sum;
}

KERNEL column_sum_f32(const float *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    column_sum(x, out, rows, width, chunk);
}

KERNEL column_sum_bf16(const bf16 *x, float *out, unsigned rows, unsigned width, unsigned chunk) {
    column_sum(x, out, rows, width, chunk);
}
