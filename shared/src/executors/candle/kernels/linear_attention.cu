// Linear attention with ELU + 1 (paper, section 3.3) and its gradients, with no matrix of tokens × tokens.
//
// qkv is packed [batch, tokens, 3, heads, size], size at most 64. A block processes a chunk of the tokens of one head of one photo,
// 64 at a time. It has 128 threads; each holds 8 x 4 values of a 64 x 64 matrix in registers, so that twelve values from shared
// memory are enough for 32 products.
//
// Sums over all tokens are stored as one sum per chunk. Their readers add them up in order.
#include "common.cuh"

const unsigned SIDE = 64, THREADS = 128, HIGH = 8, LONG = 4;
// Number of concurrent blocks per multiprocessor, which leaves 128 registers per thread.
const unsigned BLOCKS = 4;
// Distance between rows of a tile in values: a multiple of four, for aligned packs, but not of 32, so that the same column of
// neighbouring rows is in different banks.
const unsigned PITCH = SIDE + 4;

struct Extents {
    unsigned tokens, heads, size, chunk;
};

// WHOLE: a head's row has 64 values, aligned to 16 bytes, and is read and written in packs.
template <bool WHOLE> struct Shape : Extents {};

// Shared memory of all kernels.
struct Tiles {
    alignas(16) float rows[SIDE][PITCH], matrix[SIDE][PITCH];
    alignas(16) float vector[SIDE], half[SIDE];
};

// Work of a block: tokens from `begin` to before `end` of a head. `number` is the index of the chunk among all.
struct Work {
    unsigned number, chunks, head, begin, end;
};

__device__ inline Work work(const Extents &s, unsigned number) {
    unsigned chunks = (s.tokens + s.chunk - 1) / s.chunk, head = number / chunks, begin = number % chunks * s.chunk;
    return {number, chunks, head, begin, min(begin + s.chunk, s.tokens)};
}

// One part of a head's tokens in [batch, tokens, parts, heads, size].
template <class T> struct Part {
    T *first;
    unsigned stride;

    __device__ Part(T *from, const Extents &s, unsigned head, unsigned part, unsigned parts)
        : first(from + (((size_t)(head / s.heads) * s.tokens * parts + part) * s.heads + head % s.heads) * s.size),
          stride(parts * s.heads * s.size) {}

    __device__ T *row(unsigned token) const { return first + (size_t)token * stride; }
};

// Branch-free, because threads of a warp would diverge.
__device__ inline float feature(float x) {
    float e = expf(x);
    return x > 0 ? x + 1 : e;
}

// Derivative of `feature`, from its value.
__device__ inline float feature_slope(float of_x) { return fminf(of_x, 1.0f); }

// Functions applied to loaded values.
struct Same {
    __device__ float operator()(float x, unsigned) const { return x; }
};

struct Feature {
    __device__ float operator()(float x, unsigned) const { return feature(x); }
};

struct Scaled {
    const float *by;
    __device__ float operator()(float x, unsigned token) const { return x * by[token]; }
};

// Rows and columns of a 64 x 64 matrix that a thread holds: rows in two groups of four, columns adjacent.
__device__ inline unsigned row_of(unsigned i) { return threadIdx.x / 16 * 4 + i % 4 + i / 4 * 32; }
__device__ inline unsigned first_column() { return threadIdx.x % 16 * LONG; }

// Four values of a row from `column` on, zero beyond its end.
template <class T, bool WHOLE> __device__ inline Quad values(const T *row, unsigned column, const Shape<WHOLE> &s) {
    Quad out;
    if (WHOLE) {
        Pack<T, LONG> pack = read<Pack<T, LONG>>(row + column);
        for (unsigned j = 0; j < LONG; j++) out.at[j] = value(pack.at[j]);
    } else {
        for (unsigned j = 0; j < LONG; j++) out.at[j] = column + j < s.size ? value(row[column + j]) : 0.0f;
    }
    return out;
}

// Writes four values of a row from `column` on, up to its end.
template <class T, bool WHOLE>
__device__ inline void put(T *row, unsigned column, const float *x, const Shape<WHOLE> &s) {
    if (WHOLE) {
        Pack<T, LONG> pack;
        for (unsigned j = 0; j < LONG; j++) store(&pack.at[j], x[j]);
        write(row + column, pack);
    } else {
        for (unsigned j = 0; j < LONG && column + j < s.size; j++) store(row + column + j, x[j]);
    }
}

// Loads 64 rows from token `first` on, through `map`; zero from token `end` on and beyond `size`.
template <class T, class Map, bool WHOLE>
__device__ inline void load(float (*tile)[PITCH], Part<const T> from, const Shape<WHOLE> &s, unsigned first,
                            unsigned end, Map map) {
    if (!WHOLE) {
        for (unsigned i = threadIdx.x; i < SIDE * SIDE; i += THREADS) {
            unsigned r = i / SIDE, c = i % SIDE, token = first + r;
            tile[r][c] = token < end && c < s.size ? map(value(from.row(token)[c]), token) : 0.0f;
        }
        return;
    }
    typedef Pack<T> Taken;
    const unsigned OF_ROW = SIDE / Taken::COUNT, STEP = THREADS / OF_ROW, EACH = SIDE / STEP;
    unsigned r = threadIdx.x / OF_ROW, c = threadIdx.x % OF_ROW * Taken::COUNT;
    Taken taken[EACH] = {};
    // All loads are issued before the first is waited for.
#pragma unroll
    for (unsigned k = 0; k < EACH; k++)
        if (first + r + k * STEP < end) taken[k] = read<Taken>(from.row(first + r + k * STEP) + c);
#pragma unroll
    for (unsigned k = 0; k < EACH; k++) {
        unsigned row = r + k * STEP, token = first + row;
#pragma unroll
        for (unsigned j = 0; j < Taken::COUNT; j += Quad::COUNT) {
            Quad quad = {};
            for (unsigned i = 0; i < Quad::COUNT && token < end; i++) quad.at[i] = map(value(taken[k].at[j + i]), token);
            place(&tile[row][c + j], quad);
        }
    }
}

// A head's [size, size] matrix, transposed if `turned`, and [size] vector: the sums of all its chunks.
template <bool WHOLE>
__device__ inline void load_sums(Tiles &tiles, const float *sums, const float *totals, const Shape<WHOLE> &s, const Work &w, bool turned) {
    unsigned x = first_column();
    Quad sum[HIGH] = {};
    float total = 0;
    for (unsigned chunk = 0; chunk < w.chunks; chunk++) {
        size_t at = (size_t)(w.head * w.chunks + chunk) * s.size;
        Quad part[HIGH] = {};
#pragma unroll
        for (unsigned k = 0; k < HIGH; k++)
            if (row_of(k) < s.size) part[k] = values(sums + (at + row_of(k)) * s.size, x, s);
        if (threadIdx.x < s.size) total += totals[at + threadIdx.x];
#pragma unroll
        for (unsigned k = 0; k < HIGH; k++)
            for (unsigned j = 0; j < Quad::COUNT; j++) sum[k].at[j] += part[k].at[j];
    }
#pragma unroll
    for (unsigned k = 0; k < HIGH; k++) {
        if (turned)
            for (unsigned j = 0; j < Quad::COUNT; j++) tiles.matrix[x + j][row_of(k)] = sum[k].at[j];
        else
            place(&tiles.matrix[row_of(k)][x], sum[k]);
    }
    if (threadIdx.x < SIDE) tiles.vector[threadIdx.x] = total;
}

// Sums over the tokens of a head's chunk: left' x right [size, size], and left' x weights [size]; weights are 1 if null.
template <class T, class Map, bool WHOLE>
__device__ inline void outer_sums(Part<const T> left, Part<const T> right, Map map, const float *weights, float *sums,
                                  float *totals, const Shape<WHOLE> &s, const Work &w, Tiles &tiles) {
    float(*a)[PITCH] = tiles.rows, (*b)[PITCH] = tiles.matrix;
    unsigned x = first_column(), column = threadIdx.x % SIDE, second = threadIdx.x / SIDE;
    float sum[HIGH][LONG] = {}, total = 0;
    for (unsigned first = w.begin; first < w.end; first += SIDE) {
        // Waits until all threads have used the previous tile.
        __syncthreads();
        load(a, left, s, first, w.end, Feature());
        load(b, right, s, first, w.end, map);
        if (threadIdx.x < SIDE) {
            unsigned token = first + threadIdx.x;
            tiles.vector[threadIdx.x] = token >= w.end ? 0.0f : weights ? weights[token] : 1.0f;
        }
        __syncthreads();
#pragma unroll 2
        for (unsigned t = 0; t < SIDE; t++) {
            Quad top = read<Quad>(&a[t][row_of(0)]), bottom = read<Quad>(&a[t][row_of(4)]), r = read<Quad>(&b[t][x]);
            for (unsigned i = 0; i < 4; i++)
                for (unsigned j = 0; j < LONG; j++) {
                    sum[i][j] += top.at[i] * r.at[j];
                    sum[4 + i][j] += bottom.at[i] * r.at[j];
                }
        }
        // Half of the threads process the first half of the tokens, half the second.
        for (unsigned t = second * SIDE / 2; t < (second + 1) * SIDE / 2; t++) total += a[t][column] * tiles.vector[t];
    }
    sums += (size_t)w.number * s.size * s.size;
#pragma unroll
    for (unsigned i = 0; i < HIGH; i++)
        if (row_of(i) < s.size) put(sums + row_of(i) * s.size, x, sum[i], s);
    if (second) tiles.half[column] = total;
    __syncthreads();
    if (threadIdx.x < s.size) totals[(size_t)w.number * s.size + threadIdx.x] = total + tiles.half[threadIdx.x];
}

template <class T, bool WHOLE>
__device__ inline void key_value_sums(const T *qkv, float *sums, float *totals, const Shape<WHOLE> &s, Tiles &tiles) {
    Work w = work(s, blockIdx.x);
    Part<const T> key(qkv, s, w.head, 1, 3), v(qkv, s, w.head, 2, 3);
    outer_sums(key, v, Same(), nullptr, sums, totals, s, w, tiles);
}

// Gradients of sums and totals.
template <class T, bool WHOLE>
__device__ inline void grad_sums(const T *qkv, const T *grad, const float *inverses, const float *slopes, float *sums,
                                 float *totals, const Shape<WHOLE> &s, Tiles &tiles) {
    Work w = work(s, blockIdx.x);
    Part<const T> q(qkv, s, w.head, 0, 3), of_result(grad, s, w.head, 0, 1);
    size_t first = (size_t)w.head * s.tokens;
    outer_sums(q, of_result, Scaled{inverses + first}, slopes + first, sums, totals, s, w, tiles);
}

// out[i][j] = sum over k of left[row i][k] * matrix[k][column j].
__device__ inline void product(const float (*left)[PITCH], const float (*matrix)[PITCH], float (*out)[LONG]) {
    unsigned x = first_column();
    for (unsigned i = 0; i < HIGH; i++)
        for (unsigned j = 0; j < LONG; j++) out[i][j] = 0;
#pragma unroll 1
    for (unsigned k = 0; k < SIDE; k += Quad::COUNT) {
        Quad right[Quad::COUNT];
        for (unsigned n = 0; n < Quad::COUNT; n++) right[n] = read<Quad>(&matrix[k + n][x]);
#pragma unroll
        for (unsigned i = 0; i < HIGH; i++) {
            Quad of_row = read<Quad>(&left[row_of(i)][k]);
            for (unsigned n = 0; n < Quad::COUNT; n++)
                for (unsigned j = 0; j < LONG; j++) out[i][j] += of_row.at[n] * right[n].at[j];
        }
    }
}

// Dot product of two rows, of which 16 adjacent threads hold four values each; returned to all of them.
__device__ inline float dot(const float *a, const float *b) {
    float sum = 0;
    for (unsigned j = 0; j < LONG; j++) sum += a[j] * b[j];
    for (unsigned step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    return sum;
}

template <class T, bool WHOLE>
__device__ inline void attend(const T *qkv, const float *sums, const float *totals, T *out, float eps, const Shape<WHOLE> &s,
                              Tiles &tiles) {
    Work w = work(s, blockIdx.x);
    Part<const T> from(qkv, s, w.head, 0, 3);
    Part<T> to(out, s, w.head, 0, 1);
    unsigned x = first_column();
    load_sums(tiles, sums, totals, s, w, false);
    for (unsigned first = w.begin; first < w.end; first += SIDE) {
        // Waits until all threads have used the previous tile.
        __syncthreads();
        load(tiles.rows, from, s, first, w.end, Feature());
        __syncthreads();
        float above[HIGH][LONG];
        product(tiles.rows, tiles.matrix, above);
#pragma unroll
        for (unsigned i = 0; i < HIGH; i++) {
            float inverse = 1 / (dot(&tiles.rows[row_of(i)][x], tiles.vector + x) + eps);
            for (unsigned j = 0; j < LONG; j++) above[i][j] *= inverse;
            unsigned token = first + row_of(i);
            if (token < w.end) put(to.row(token), x, above[i], s);
        }
    }
}

// Gradient of q, and two inputs to those of k and v, both [batch * heads, tokens]: inverse of each token's normaliser, and
// gradient of the normaliser.
template <class T, bool WHOLE>
__device__ inline void grad_q(const T *qkv, const float *sums, const float *totals, const T *grad, T *out, float *inverses,
                              float *slopes, float eps, const Shape<WHOLE> &s, Tiles &tiles) {
    Work w = work(s, blockIdx.x);
    Part<const T> from(qkv, s, w.head, 0, 3), of_result(grad, s, w.head, 0, 1);
    Part<T> to(out, s, w.head, 0, 3);
    inverses += (size_t)w.head * s.tokens;
    slopes += (size_t)w.head * s.tokens;
    unsigned x = first_column();
    load_sums(tiles, sums, totals, s, w, true);
    for (unsigned first = w.begin; first < w.end; first += SIDE) {
        // Waits until all threads have used the previous tile.
        __syncthreads();
        load(tiles.rows, of_result, s, first, w.end, Same());
        __syncthreads();
        float of_q[HIGH][LONG];
        product(tiles.rows, tiles.matrix, of_q);
#pragma unroll
        for (unsigned i = 0; i < HIGH; i++) {
            unsigned token = first + row_of(i);
            Quad q = {};
            if (token < w.end) q = values(from.row(token), x, s);
            for (unsigned j = 0; j < LONG; j++) q.at[j] = feature(q.at[j]);
            float inverse = 1 / (dot(q.at, tiles.vector + x) + eps);
            // The normaliser's gradient needs gradient times output, which is q . (matrix gradient) / normaliser.
            float slope = -dot(q.at, of_q[i]) * inverse * inverse;
            for (unsigned j = 0; j < LONG; j++)
                of_q[i][j] = (of_q[i][j] * inverse + tiles.vector[x + j] * slope) * feature_slope(q.at[j]);
            if (token < w.end) {
                put(to.row(token), x, of_q[i], s);
                if (x == 0) inverses[token] = inverse, slopes[token] = slope;
            }
        }
    }
}

// Gradients of k, by blocks of even index, and of v, by the others, from those of sums and totals.
template <class T, bool WHOLE>
__device__ inline void grad_kv(const T *qkv, const float *sums, const float *totals, T *out, const Shape<WHOLE> &s, Tiles &tiles) {
    bool of_k = blockIdx.x % 2 == 0;
    Work w = work(s, blockIdx.x / 2);
    Part<const T> key(qkv, s, w.head, 1, 3), v(qkv, s, w.head, 2, 3);
    Part<T> to(out, s, w.head, of_k ? 1 : 2, 3);
    unsigned x = first_column();
    load_sums(tiles, sums, totals, s, w, of_k);
    for (unsigned first = w.begin; first < w.end; first += SIDE) {
        // Waits until all threads have used the previous tile.
        __syncthreads();
        if (of_k)
            load(tiles.rows, v, s, first, w.end, Same());
        else
            load(tiles.rows, key, s, first, w.end, Feature());
        __syncthreads();
        float grad[HIGH][LONG];
        product(tiles.rows, tiles.matrix, grad);
#pragma unroll
        for (unsigned i = 0; i < HIGH; i++) {
            unsigned token = first + row_of(i);
            if (token >= w.end) continue;
            if (of_k) {
                Quad raw = values(key.row(token), x, s);
                for (unsigned j = 0; j < LONG; j++)
                    grad[i][j] = (grad[i][j] + tiles.vector[x + j]) * feature_slope(feature(raw.at[j]));
            }
            put(to.row(token), x, grad[i], s);
        }
    }
}

// Calls `act` with the shape; `whole` if rows may be read and written in packs.
template <class Do> __device__ inline void in_shape(bool whole, Extents e, Do act) {
    if (whole && e.size == SIDE)
        act(Shape<true>{{e.tokens, e.heads, SIDE, e.chunk}});
    else
        act(Shape<false>{e});
}

#define FOR_TYPE(T, NAME)                                                                                              \
    KERNEL __launch_bounds__(THREADS, BLOCKS) key_value_sums_##NAME(const T *qkv, float *sums, float *totals,          \
        unsigned tokens, unsigned heads, unsigned size, unsigned chunk) {                                              \
        __shared__ Tiles tiles;                                                                                        \
        in_shape(aligned(qkv) && aligned(sums), {tokens, heads, size, chunk},                                          \
                 [&](auto s) { key_value_sums(qkv, sums, totals, s, tiles); });                                        \
    }                                                                                                                  \
    KERNEL __launch_bounds__(THREADS, BLOCKS) attend_##NAME(const T *qkv, const float *sums, const float *totals,      \
        T *out, unsigned tokens, unsigned heads, unsigned size, unsigned chunk, float eps) {                           \
        __shared__ Tiles tiles;                                                                                        \
        in_shape(aligned(qkv, out) && aligned(sums), {tokens, heads, size, chunk},                                     \
                 [&](auto s) { attend(qkv, sums, totals, out, eps, s, tiles); });                                      \
    }                                                                                                                  \
    KERNEL __launch_bounds__(THREADS, BLOCKS) grad_q_##NAME(const T *qkv, const float *sums, const float *totals,      \
        const T *grad, T *out, float *inverses, float *slopes, unsigned tokens, unsigned heads, unsigned size,         \
        unsigned chunk, float eps) {                                                                                   \
        __shared__ Tiles tiles;                                                                                        \
        in_shape(aligned(qkv, grad, out) && aligned(sums), {tokens, heads, size, chunk},                               \
                 [&](auto s) { grad_q(qkv, sums, totals, grad, out, inverses, slopes, eps, s, tiles); });              \
    }                                                                                                                  \
    KERNEL __launch_bounds__(THREADS, BLOCKS) grad_sums_##NAME(const T *qkv, const T *grad, const float *inverses,     \
        const float *slopes, float *sums, float *totals, unsigned tokens, unsigned heads, unsigned size,               \
        unsigned chunk) {                                                                                              \
        __shared__ Tiles tiles;                                                                                        \
        in_shape(aligned(qkv, grad) && aligned(sums), {tokens, heads, size, chunk},                                    \
                 [&](auto s) { grad_sums(qkv, grad, inverses, slopes, sums, totals, s, tiles); });                     \
    }                                                                                                                  \
    KERNEL __launch_bounds__(THREADS, BLOCKS) grad_kv_##NAME(const T *qkv, const float *sums, const float *totals,     \
        T *out, unsigned tokens, unsigned heads, unsigned size, unsigned chunk) {                                      \
        __shared__ Tiles tiles;                                                                                        \
        in_shape(aligned(qkv, out) && aligned(sums), {tokens, heads, size, chunk},                                     \
                 [&](auto s) { grad_kv(qkv, sums, totals, out, s, tiles); });                                          \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
