// Linear attention with ELU + 1 (paper, section 3.3), its gradients, and no matrix of tokens by tokens.
//
// qkv is packed [batch, tokens, 3, heads, size], size at most 64. A block takes one head of one photo, and of the second kind of
// kernel 64 of its tokens. Blocks have 256 threads; each has 4 x 4 values of a 64 x 64 matrix in its registers.
#include "common.cuh"

const unsigned SIDE = 64, TILE = 4;

struct Shape {
    unsigned tokens, heads, size;
};

__device__ inline float feature(float x) { return x > 0 ? x + 1 : expf(x); }
__device__ inline float feature_slope(float x) { return x > 0 ? 1.0f : expf(x); }

// Where a head's row begins in [batch, tokens, parts, heads, size].
__device__ inline size_t row(Shape s, unsigned head, unsigned token, unsigned part, unsigned parts) {
    return ((((size_t)(head / s.heads) * s.tokens + token) * parts + part) * s.heads + head % s.heads) * s.size;
}

// Rows from `first` on of one part, zero beyond tokens and size; `map` is applied to what is there.
template <class T, class Map>
__device__ inline void load(float (*tile)[SIDE + 1], const T *from, Shape s, unsigned head, unsigned first, unsigned rows,
                            unsigned part, unsigned parts, Map map) {
    for (unsigned i = threadIdx.x; i < rows * SIDE; i += blockDim.x) {
        unsigned r = i / SIDE, c = i % SIDE;
        bool there = first + r < s.tokens && c < s.size;
        tile[r][c] = there ? map(value(from[row(s, head, first + r, part, parts) + c])) : 0.0f;
    }
}

struct Same {
    __device__ float operator()(float x) const { return x; }
};

struct Feature {
    __device__ float operator()(float x) const { return feature(x); }
};

// One block a head: left' x right summed over tokens [size, size], and left' x weights [size]. Where `weights` is null they are 1.
template <class A, class B, class Map>
__device__ void outer_sums(const A *left, unsigned left_part, unsigned left_parts, Map map, const B *right,
                           unsigned right_part, unsigned right_parts, const float *weights, float *sums, float *totals,
                           Shape s) {
    const unsigned ROWS = 16;
    __shared__ float a[ROWS][SIDE + 1], b[ROWS][SIDE + 1], w[ROWS];
    unsigned head = blockIdx.x, y = threadIdx.x / 16 * TILE, x = threadIdx.x % 16 * TILE;
    float sum[TILE][TILE] = {}, total[TILE] = {};
    for (unsigned first = 0; first < s.tokens; first += ROWS) {
        __syncthreads();
        load(a, left, s, head, first, ROWS, left_part, left_parts, map);
        load(b, right, s, head, first, ROWS, right_part, right_parts, Same());
        if (threadIdx.x < ROWS) {
            unsigned token = first + threadIdx.x;
            w[threadIdx.x] = token >= s.tokens ? 0.0f : weights ? weights[(size_t)head * s.tokens + token] : 1.0f;
        }
        __syncthreads();
        for (unsigned t = 0; t < ROWS; t++) {
            for (unsigned i = 0; i < TILE; i++) {
                for (unsigned j = 0; j < TILE; j++) sum[i][j] += a[t][y + i] * b[t][x + j];
                total[i] += a[t][y + i] * w[t];
            }
        }
    }
    for (unsigned i = 0; i < TILE; i++) {
        if (y + i >= s.size) return;
        for (unsigned j = 0; j < TILE; j++) {
            if (x + j < s.size) sums[((size_t)head * s.size + y + i) * s.size + x + j] = sum[i][j];
        }
        if (x == 0) totals[(size_t)head * s.size + y + i] = total[i];
    }
}

// out[r][c] = sum over k of left[r][k] * matrix[k][c] (or matrix[c][k] with `turned`), 4 x 4 values a thread.
__device__ inline void product(float (*left)[SIDE + 1], float (*matrix)[SIDE + 1], bool turned, float (*out)[TILE]) {
    unsigned y = threadIdx.x / 16 * TILE, x = threadIdx.x % 16 * TILE;
    for (unsigned i = 0; i < TILE; i++)
        for (unsigned j = 0; j < TILE; j++) out[i][j] = 0;
    for (unsigned k = 0; k < SIDE; k++)
        for (unsigned i = 0; i < TILE; i++)
            for (unsigned j = 0; j < TILE; j++)
                out[i][j] += left[y + i][k] * (turned ? matrix[x + j][k] : matrix[k][x + j]);
}

// A head's [size, size] matrix and [size] vector.
__device__ inline void load_sums(float (*matrix)[SIDE + 1], float *vector, const float *sums, const float *totals,
                                 Shape s, unsigned head) {
    for (unsigned i = threadIdx.x; i < SIDE * SIDE; i += blockDim.x) {
        unsigned r = i / SIDE, c = i % SIDE;
        matrix[r][c] = r < s.size && c < s.size ? sums[((size_t)head * s.size + r) * s.size + c] : 0.0f;
    }
    for (unsigned i = threadIdx.x; i < SIDE; i += blockDim.x) vector[i] = i < s.size ? totals[(size_t)head * s.size + i] : 0.0f;
}

// q . total, the normaliser of each token of the tile.
__device__ inline void normalisers(float (*q)[SIDE + 1], const float *totals, float *out) {
    if (threadIdx.x < SIDE) {
        float sum = 0;
        for (unsigned k = 0; k < SIDE; k++) sum += q[threadIdx.x][k] * totals[k];
        out[threadIdx.x] = sum;
    }
}

template <class T> __device__ void attend(const T *qkv, const float *sums, const float *totals, T *out, Shape s) {
    __shared__ float q[SIDE][SIDE + 1], matrix[SIDE][SIDE + 1], vector[SIDE], below[SIDE];
    unsigned tiles = (s.tokens + SIDE - 1) / SIDE, head = blockIdx.x / tiles, first = blockIdx.x % tiles * SIDE;
    load(q, qkv, s, head, first, SIDE, 0, 3, Feature());
    load_sums(matrix, vector, sums, totals, s, head);
    __syncthreads();
    normalisers(q, vector, below);
    __syncthreads();
    float above[TILE][TILE];
    product(q, matrix, false, above);
    unsigned y = threadIdx.x / 16 * TILE, x = threadIdx.x % 16 * TILE;
    for (unsigned i = 0; i < TILE && first + y + i < s.tokens; i++)
        for (unsigned j = 0; j < TILE && x + j < s.size; j++)
            store(out + row(s, head, first + y + i, 0, 1) + x + j, above[i][j] / below[y + i]);
}

// The gradient of q, and what those of k and v are made of: of each token the gradient divided by the normaliser,
// [batch, tokens, heads, size], and the normaliser's own gradient, [batch * heads, tokens].
template <class T>
__device__ void grad_q(const T *qkv, const float *sums, const float *totals, const T *grad, T *out, float *divided,
                       float *of_normaliser, Shape s) {
    __shared__ float rows[SIDE][SIDE + 1], matrix[SIDE][SIDE + 1], vector[SIDE], below[SIDE], slope[SIDE];
    unsigned tiles = (s.tokens + SIDE - 1) / SIDE, head = blockIdx.x / tiles, first = blockIdx.x % tiles * SIDE;
    unsigned y = threadIdx.x / 16 * TILE, x = threadIdx.x % 16 * TILE;
    load(rows, qkv, s, head, first, SIDE, 0, 3, Feature());
    load_sums(matrix, vector, sums, totals, s, head);
    __syncthreads();
    normalisers(rows, vector, below);
    __syncthreads();
    load(rows, grad, s, head, first, SIDE, 0, 1, Same());
    __syncthreads();
    float values[TILE][TILE];
    product(rows, matrix, true, values);
    for (unsigned i = threadIdx.x; i < SIDE * SIDE; i += blockDim.x) {
        unsigned r = i / SIDE, c = i % SIDE;
        if (first + r < s.tokens && c < s.size) divided[row(s, head, first + r, 0, 1) + c] = rows[r][c] / below[r];
    }
    __syncthreads();
    // The gradient times the output, which the normaliser's gradient needs, is q . (matrix gradient) / normaliser.
    for (unsigned i = 0; i < TILE; i++)
        for (unsigned j = 0; j < TILE; j++) {
            bool there = first + y + i < s.tokens && x + j < s.size;
            float raw = there ? value(qkv[row(s, head, first + y + i, 0, 3) + x + j]) : 0.0f;
            rows[y + i][x + j] = there ? feature(raw) * values[i][j] : 0.0f;
        }
    __syncthreads();
    if (threadIdx.x < SIDE && first + threadIdx.x < s.tokens) {
        float sum = 0;
        for (unsigned k = 0; k < SIDE; k++) sum += rows[threadIdx.x][k];
        slope[threadIdx.x] = -sum / (below[threadIdx.x] * below[threadIdx.x]);
        of_normaliser[(size_t)head * s.tokens + first + threadIdx.x] = slope[threadIdx.x];
    }
    __syncthreads();
    for (unsigned i = 0; i < TILE && first + y + i < s.tokens; i++)
        for (unsigned j = 0; j < TILE && x + j < s.size; j++) {
            float of_feature = values[i][j] / below[y + i] + vector[x + j] * slope[y + i];
            float raw = value(qkv[row(s, head, first + y + i, 0, 3) + x + j]);
            store(out + row(s, head, first + y + i, 0, 3) + x + j, of_feature * feature_slope(raw));
        }
}

// The gradients of k and v from those of the sums and totals.
template <class T> __device__ void grad_kv(const T *qkv, const float *sums, const float *totals, T *out, Shape s) {
    __shared__ float rows[SIDE][SIDE + 1], matrix[SIDE][SIDE + 1], vector[SIDE];
    unsigned tiles = (s.tokens + SIDE - 1) / SIDE, head = blockIdx.x / tiles, first = blockIdx.x % tiles * SIDE;
    unsigned y = threadIdx.x / 16 * TILE, x = threadIdx.x % 16 * TILE;
    float values[TILE][TILE];
    load(rows, qkv, s, head, first, SIDE, 2, 3, Same());
    load_sums(matrix, vector, sums, totals, s, head);
    __syncthreads();
    product(rows, matrix, true, values);
    for (unsigned i = 0; i < TILE && first + y + i < s.tokens; i++)
        for (unsigned j = 0; j < TILE && x + j < s.size; j++) {
            float raw = value(qkv[row(s, head, first + y + i, 1, 3) + x + j]);
            store(out + row(s, head, first + y + i, 1, 3) + x + j, (values[i][j] + vector[x + j]) * feature_slope(raw));
        }
    __syncthreads();
    load(rows, qkv, s, head, first, SIDE, 1, 3, Feature());
    __syncthreads();
    product(rows, matrix, false, values);
    for (unsigned i = 0; i < TILE && first + y + i < s.tokens; i++)
        for (unsigned j = 0; j < TILE && x + j < s.size; j++)
            store(out + row(s, head, first + y + i, 2, 3) + x + j, values[i][j]);
}

#define FOR_TYPE(T, NAME)                                                                                              \
    KERNEL key_value_sums_##NAME(const T *qkv, float *sums, float *totals, unsigned tokens, unsigned heads,            \
                                 unsigned size) {                                                                      \
        outer_sums(qkv, 1, 3, Feature(), qkv, 2, 3, nullptr, sums, totals, {tokens, heads, size});                     \
    }                                                                                                                  \
    KERNEL attend_##NAME(const T *qkv, const float *sums, const float *totals, T *out, unsigned tokens,                \
                         unsigned heads, unsigned size) {                                                              \
        attend(qkv, sums, totals, out, {tokens, heads, size});                                                         \
    }                                                                                                                  \
    KERNEL grad_q_##NAME(const T *qkv, const float *sums, const float *totals, const T *grad, T *out, float *divided,  \
                         float *of_normaliser, unsigned tokens, unsigned heads, unsigned size) {                       \
        grad_q(qkv, sums, totals, grad, out, divided, of_normaliser, {tokens, heads, size});                           \
    }                                                                                                                  \
    KERNEL grad_sums_##NAME(const T *qkv, const float *divided, const float *of_normaliser, float *sums,               \
                            float *totals, unsigned tokens, unsigned heads, unsigned size) {                           \
        outer_sums(qkv, 0, 3, Feature(), divided, 0, 1, of_normaliser, sums, totals, {tokens, heads, size});           \
    }                                                                                                                  \
    KERNEL grad_kv_##NAME(const T *qkv, const float *sums, const float *totals, T *out, unsigned tokens,               \
                          unsigned heads, unsigned size) {                                                             \
        grad_kv(qkv, sums, totals, out, {tokens, heads, size});                                                        \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
