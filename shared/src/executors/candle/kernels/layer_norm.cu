// Layer norm and its gradients: one warp per row, values strided over its lanes, four at a time if rows and buffers are aligned
// (N is 4), else one at a time (N is 1).
#include "common.cuh"

const unsigned FOUR = Quad::COUNT;

template <unsigned N, class T> __device__ inline Pack<T, N> get(const T *from) {
    if constexpr (N == 1) return {{*from}};
    else return read<Pack<T, N>>(from);
}

template <unsigned N, class T> __device__ inline void put(T *to, const Pack<T, N> &pack) {
    if constexpr (N == 1) *to = pack.at[0];
    else write(to, pack);
}

// Calls `work(i)` for every Nth column i of this lane.
template <unsigned N, class Work> __device__ inline void columns(unsigned width, Work work) {
    for (unsigned i = lane() * N; i < width; i += WARP * N) work(i);
}

struct Moments {
    float mean, scale;
};

// Mean and 1 / sqrt(variance + eps) of a row. Later reads of the row hit the cache.
template <unsigned N> __device__ inline Moments moments(const float *row, unsigned width, float eps) {
    float sum = 0, squares = 0;
    columns<N>(width, [&](unsigned i) {
        auto x = get<N>(row + i);
        for (unsigned j = 0; j < N; j++) sum += x.at[j];
    });
    float mean = warp_sum(sum) / width;
    columns<N>(width, [&](unsigned i) {
        auto x = get<N>(row + i);
        for (unsigned j = 0; j < N; j++) squares += (x.at[j] - mean) * (x.at[j] - mean);
    });
    return {mean, 1.0f / sqrtf(warp_sum(squares) / width + eps)};
}

template <unsigned N, class T>
__device__ inline void normalise(const float *x, const float *weight, const float *bias, T *out, unsigned width, float eps) {
    Moments m = moments<N>(x, width, eps);
    columns<N>(width, [&](unsigned i) {
        auto from = get<N>(x + i), w = get<N>(weight + i), b = get<N>(bias + i);
        Pack<T, N> to;
        for (unsigned j = 0; j < N; j++) store(&to.at[j], (from.at[j] - m.mean) * m.scale * w.at[j] + b.at[j]);
        put(out + i, to);
    });
}

template <class T>
__device__ inline void layer_norm(const float *x, const float *weight, const float *bias, T *out, unsigned rows, unsigned width,
                           float eps) {
    size_t row = warp_number();
    if (row >= rows) return;
    bool packs = width % FOUR == 0 && aligned(x, weight, bias, out);
    x += row * width;
    out += row * width;
    if (packs) normalise<FOUR>(x, weight, bias, out, width, eps);
    else normalise<1>(x, weight, bias, out, width, eps);
}

KERNEL layer_norm_f32(const float *x, const float *weight, const float *bias, float *out, unsigned rows, unsigned width,
                      float eps) {
    layer_norm(x, weight, bias, out, rows, width, eps);
}

KERNEL layer_norm_bf16(const float *x, const float *weight, const float *bias, bf16 *out, unsigned rows, unsigned width,
                       float eps) {
    layer_norm(x, weight, bias, out, rows, width, eps);
}

template <unsigned N, class T>
__device__ inline void grad_of_row(const float *x, const float *weight, const T *grad, const float *more, float *out, unsigned width,
                            float eps) {
    Moments m = moments<N>(x, width, eps);
    float sum = 0, along = 0;
    columns<N>(width, [&](unsigned i) {
        auto from = get<N>(x + i), w = get<N>(weight + i);
        auto g = get<N>(grad + i);
        for (unsigned j = 0; j < N; j++) {
            float scaled = value(g.at[j]) * w.at[j];
            sum += scaled;
            along += scaled * (from.at[j] - m.mean) * m.scale;
        }
    });
    sum = warp_sum(sum) / width;
    along = warp_sum(along) / width;
    columns<N>(width, [&](unsigned i) {
        auto from = get<N>(x + i), w = get<N>(weight + i), beside = get<N>((more ? more : x) + i);
        auto g = get<N>(grad + i);
        Pack<float, N> to;
        for (unsigned j = 0; j < N; j++) {
            float of_x = m.scale * (value(g.at[j]) * w.at[j] - sum - (from.at[j] - m.mean) * m.scale * along);
            to.at[j] = more ? of_x + beside.at[j] : of_x;
        }
        put(out + i, to);
    });
}

// Gradient of x, plus `more` if `with_more` is set.
template <class T>
__device__ inline void grad_x(const float *x, const float *weight, const T *grad, const float *more, float *out, unsigned rows,
                       unsigned width, unsigned with_more, float eps) {
    size_t row = warp_number();
    if (row >= rows) return;
    bool packs = width % FOUR == 0 && aligned(x, weight, grad, more, out);
    x += row * width;
    grad += row * width;
    more = with_more ? more + row * width : nullptr;
    out += row * width;
    if (packs) grad_of_row<FOUR>(x, weight, grad, more, out, width, eps);
    else grad_of_row<1>(x, weight, grad, more, out, width, eps);
}

KERNEL layer_norm_grad_x_f32(const float *x, const float *weight, const float *grad, const float *more, float *out,
                             unsigned rows, unsigned width, unsigned with_more, float eps) {
    grad_x(x, weight, grad, more, out, rows, width, with_more, eps);
}

KERNEL layer_norm_grad_x_bf16(const float *x, const float *weight, const bf16 *grad, const float *more, float *out,
                              unsigned rows, unsigned width, unsigned with_more, float eps) {
    grad_x(x, weight, grad, more, out, rows, width, with_more, eps);
}

// Mean and scale of every row, for layer_norm_grad_weight.
KERNEL layer_norm_moments(const float *x, float *out, unsigned rows, unsigned width, float eps) {
    size_t row = warp_number();
    if (row >= rows) return;
    bool packs = width % FOUR == 0 && aligned(x);
    x += row * width;
    Moments m = packs ? moments<FOUR>(x, width, eps) : moments<1>(x, width, eps);
    if (lane() == 0) {
        out[2 * row] = m.mean;
        out[2 * row + 1] = m.scale;
    }
}

// Gradients of weight and bias of each chunk of rows, [chunks, 2, width], a thread per column and chunk.
template <class T>
__device__ void grad_weight(const float *x, const float *row_moments, const T *grad, float *out, unsigned rows,
                            unsigned width, unsigned chunk) {
    unsigned columns = (width + blockDim.x - 1) / blockDim.x;
    unsigned column = blockIdx.x % columns * blockDim.x + threadIdx.x, number = blockIdx.x / columns;
    if (column >= width) return;
    float of_weight = 0, of_bias = 0;
    unsigned end = min((number + 1) * chunk, rows);
    // Loads of several rows at once.
#pragma unroll 8
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
