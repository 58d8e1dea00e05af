// Layer norm and its gradients: one warp a row, columns strided over its lanes.
#include "common.cuh"

struct Moments {
    float mean, scale;
};

// Mean and 1 / sqrt(variance + eps) of a row.
__device__ Moments moments(const float *row, unsigned width, float eps) {
    float sum = 0, squares = 0;
    for (unsigned i = lane(); i < width; i += WARP) sum += row[i];
    float mean = warp_sum(sum) / width;
    for (unsigned i = lane(); i < width; i += WARP) squares += (row[i] - mean) * (row[i] - mean);
    return {mean, 1.0f / sqrtf(warp_sum(squares) / width + eps)};
}

template <class T>
__device__ void normalise(const float *x, const float *weight, const float *bias, T *out, unsigned rows, unsigned width,
                          float eps) {
    unsigned row = warp_number();
    if (row >= rows) return;
    x += (size_t)row * width;
    out += (size_t)row * width;
    Moments m = moments(x, width, eps);
    for (unsigned i = lane(); i < width; i += WARP) store(out + i, (x[i] - m.mean) * m.scale * weight[i] + bias[i]);
}

KERNEL layer_norm_f32(const float *x, const float *weight, const float *bias, float *out, unsigned rows, unsigned width,
                      float eps) {
    normalise(x, weight, bias, out, rows, width, eps);
}

KERNEL layer_norm_bf16(const float *x, const float *weight, const float *bias, bf16 *out, unsigned rows, unsigned width,
                       float eps) {
    normalise(x, weight, bias, out, rows, width, eps);
}

template <class T>
__device__ void grad_x(const float *x, const float *weight, const T *grad, float *out, unsigned rows, unsigned width,
                       float eps) {
    unsigned row = warp_number();
    if (row >= rows) return;
    x += (size_t)row * width;
    grad += (size_t)row * width;
    out += (size_t)row * width;
    Moments m = moments(x, width, eps);
    float sum = 0, along = 0;
    for (unsigned i = lane(); i < width; i += WARP) {
        float scaled = value(grad[i]) * weight[i];
        sum += scaled;
        along += scaled * (x[i] - m.mean) * m.scale;
    }
    sum = warp_sum(sum) / width;
    along = warp_sum(along) / width;
    for (unsigned i = lane(); i < width; i += WARP) {
        out[i] = m.scale * (value(grad[i]) * weight[i] - sum - (x[i] - m.mean) * m.scale * along);
    }
}

KERNEL layer_norm_grad_x_f32(const float *x, const float *weight, const float *grad, float *out, unsigned rows,
                             unsigned width, float eps) {
    grad_x(x, weight, grad, out, rows, width, eps);
}

KERNEL layer_norm_grad_x_bf16(const float *x, const float *weight, const bf16 *grad, float *out, unsigned rows,
                              unsigned width, float eps) {
    grad_x(x, weight, grad, out, rows, width, eps);
}

// Mean and scale of every row, for layer_norm_grad_weight.
KERNEL layer_norm_moments(const float *x, float *out, unsigned rows, unsigned width, float eps) {
    unsigned row = warp_number();
    if (row >= rows) return;
    Moments m = moments(x + (size_t)row * width, width, eps);
    if (lane() == 0) {
        out[2 * row] = m.mean;
        out[2 * row + 1] = m.scale;
    }
}

// A thread a column and chunk of rows: the chunk's part of the gradients of weight and bias, [chunks, 2, width].
template <class T>
__device__ void grad_weight(const float *x, const float *row_moments, const T *grad, float *out, unsigned rows,
                            unsigned width, unsigned chunk) {
    unsigned columns = (width + blockDim.x - 1) / blockDim.x;
    unsigned column = blockIdx.x % columns * blockDim.x + threadIdx.x, number = blockIdx.x / columns;
    if (column >= width) return;
    float of_weight = 0, of_bias = 0;
    unsigned end = min((number + 1) * chunk, rows);
    for (unsigned row = number * chunk; row < end; row++) {
        float g = value(grad[(size_t)row * width + column]);
        of_weight += g * (x[(size_t)row * width + column] - row_moments[2 * row]) * row_moments[2 * row + 1];
        of_bias += g;
    }
    out[(size_t)2 * number * width + column] = of_weight;
    out[(size_t)(2 * number + 1) * width + column] = of_bias;
}

KERNEL layer_norm_grad_weight_f32(const float *x, const float *row_moments, const float *grad, float *out, unsigned rows,
                                  unsigned width, unsigned chunk) {
    grad_weight(x, row_moments, grad, out, rows, width, chunk);
}

KERNEL layer_norm_grad_weight_bf16(const float *x, const float *row_moments, const bf16 *grad, float *out, unsigned rows,
                                   unsigned width, unsigned chunk) {
    grad_weight(x, row_moments, grad, out, rows, width, chunk);
}
