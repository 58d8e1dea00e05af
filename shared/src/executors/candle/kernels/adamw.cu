// StableAdamW with AMSGrad over many tensors at once, gradients clipped by their norm together. Nothing is read back: whether
// the step counts is decided here.
//
// A block takes a piece of one tensor. `pieces` says which: tensor and first value, two numbers a block.
#include "common.cuh"

struct Tensor {
    float *parameter;
    const float *gradient;
    // Moments: the first, the second, the largest second so far.
    float *mean, *square, *largest;
    unsigned long long count;
    // Which blocks have its pieces.
    unsigned long long first_block, blocks;
};

// What `clip` finds: a factor on all gradients, and whether the step counts (0 or 1).
struct Decision {
    float factor, counts;
};

struct Piece {
    unsigned tensor, begin, end;
};

__device__ inline Piece piece(const Tensor *tensors, const unsigned *pieces, unsigned length) {
    unsigned tensor = pieces[2 * blockIdx.x], begin = pieces[2 * blockIdx.x + 1];
    return {tensor, begin, (unsigned)min((unsigned long long)begin + length, tensors[tensor].count)};
}

// Sum of squares of each piece of the gradients.
KERNEL gradient_squares(const Tensor *tensors, const unsigned *pieces, float *out, unsigned length) {
    Piece p = piece(tensors, pieces, length);
    const float *gradient = tensors[p.tensor].gradient;
    float sum = 0;
    for (unsigned i = p.begin + threadIdx.x; i < p.end; i += blockDim.x) sum += gradient[i] * gradient[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// One block: the norm of all gradients, and what follows from it. `record` gets loss and norm; `steps` counts the steps that
// counted. A step with a loss or gradient that is not a number is left out.
KERNEL clip(const float *squares, unsigned pieces, const float *loss, Decision *decision, unsigned *steps, float *record,
            float limit) {
    float sum = 0;
    for (unsigned i = threadIdx.x; i < pieces; i += blockDim.x) sum += squares[i];
    float norm = sqrtf(block_sum(sum));
    if (threadIdx.x > 0) return;
    bool counts = isfinite(norm) && isfinite(*loss);
    decision->factor = fminf(limit / (norm + 1e-6f), 1.0f);
    decision->counts = counts ? 1.0f : 0.0f;
    if (counts) *steps += 1;
    record[0] = *loss;
    record[1] = norm;
}

__device__ inline float denominator(float largest, float inverse_root, float eps) {
    return sqrtf(largest) * inverse_root + eps;
}

// 1 - beta^steps, exact to rounding for a beta near 1, of which the logarithm is given.
__device__ inline float correction(float log_beta, unsigned steps) { return -expm1f(log_beta * steps); }

// Moves the moments by `beta` and `rest`, which is 1 - beta; of each piece, the sum of squares of gradient / denominator.
KERNEL adamw_moments(const Tensor *tensors, const unsigned *pieces, const Decision *decision, const unsigned *steps,
                     float *out, unsigned length, float beta1, float rest1, float beta2, float rest2, float log_beta2,
                     float eps) {
    if (decision->counts == 0) return;
    Piece p = piece(tensors, pieces, length);
    const Tensor &t = tensors[p.tensor];
    float inverse_root = 1.0f / sqrtf(correction(log_beta2, *steps)), sum = 0;
    for (unsigned i = p.begin + threadIdx.x; i < p.end; i += blockDim.x) {
        float g = t.gradient[i] * decision->factor;
        t.mean[i] = beta1 * t.mean[i] + rest1 * g;
        t.square[i] = beta2 * t.square[i] + rest2 * g * g;
        t.largest[i] = fmaxf(t.largest[i], t.square[i]);
        float ratio = g / denominator(t.largest[i], inverse_root, eps);
        sum += ratio * ratio;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Moves the parameters, of which decay leaves the share `kept`: less where the root mean square of gradient / denominator of
// the whole tensor is above `threshold`.
KERNEL adamw_apply(const Tensor *tensors, const unsigned *pieces, const Decision *decision, const unsigned *steps,
                   const float *ratios, unsigned length, float log_beta1, float log_beta2, float eps, float rate,
                   float kept, float threshold) {
    if (decision->counts == 0) return;
    Piece p = piece(tensors, pieces, length);
    const Tensor &t = tensors[p.tensor];
    float sum = 0;
    for (unsigned i = threadIdx.x; i < t.blocks; i += blockDim.x) sum += ratios[t.first_block + i];
    float size = sqrtf(block_sum(sum) / t.count);
    float step = rate / correction(log_beta1, *steps) / fmaxf(size / threshold, 1.0f);
    float inverse_root = 1.0f / sqrtf(correction(log_beta2, *steps));
    for (unsigned i = p.begin + threadIdx.x; i < p.end; i += blockDim.x) {
        float direction = t.mean[i] / denominator(t.largest[i], inverse_root, eps);
        t.parameter[i] = t.parameter[i] * kept - step * direction;
    }
}
