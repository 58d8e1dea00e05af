// StableAdamW over many tensors at once, with gradients clipped by their total norm. Nothing is read back: the
// decision whether a step counts is made here.
//
// A block processes a piece of one tensor. `pieces` holds two numbers per block: tensor and first value.
#include "common.cuh"

struct Tensor {
    float *parameter;
    const float *gradient;
    // First moment, second moment, and that of the denominator: with AMSGrad the largest second moment so far.
    float *mean, *square, *largest;
    unsigned long long count;
    // Range of blocks with its pieces.
    unsigned long long first_block, blocks;
    // Learning rate, and the share of the parameter that weight decay leaves.
    float rate, kept;
};

// Result of `clip`: a factor on all gradients, and whether the step counts (0 or 1).
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

// End of the part of a piece that is read in packs: empty if its tensor is not aligned to 16 bytes.
__device__ inline unsigned packs_end(Piece p, bool aligned) {
    return aligned ? p.end - (p.end - p.begin) % Quad::COUNT : p.begin;
}

// Sum of squares of each piece of the gradients.
KERNEL gradient_squares(const Tensor *tensors, const unsigned *pieces, float *out, unsigned length) {
    Piece p = piece(tensors, pieces, length);
    const float *gradient = tensors[p.tensor].gradient;
    unsigned end = packs_end(p, aligned(gradient));
    float sum = 0;
    for (unsigned i = p.begin + threadIdx.x * Quad::COUNT; i < end; i += blockDim.x * Quad::COUNT) {
        Quad g = read<Quad>(gradient + i);
        for (unsigned j = 0; j < Quad::COUNT; j++) sum += g.at[j] * g.at[j];
    }
    for (unsigned i = end + threadIdx.x; i < p.end; i += blockDim.x) sum += gradient[i] * gradient[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// One block: the norm of all gradients, and the decision. `record` receives loss and norm; `steps` is the number of steps that
// counted. A step whose loss or gradient is not finite is skipped.
KERNEL __launch_bounds__(MOST_THREADS) clip(const float *squares, unsigned pieces, const float *loss, Decision *decision,
                                            unsigned *steps, float *record, float limit) {
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

// 1 - beta^steps from the logarithm of beta, exact to rounding for a beta near 1.
__device__ inline float correction(float log_beta, unsigned steps) { return -expm1f(log_beta * steps); }

// Updates the moments by `beta` and `rest` = 1 - beta, and sums the squares of gradient / denominator over each piece.
KERNEL adamw_moments(const Tensor *tensors, const unsigned *pieces, const Decision *decision, const unsigned *steps,
                     float *out, unsigned length, unsigned amsgrad, float beta1, float rest1, float beta2, float rest2,
                     float log_beta2, float eps) {
    if (decision->counts == 0) return;
    Piece p = piece(tensors, pieces, length);
    // Local copies: the compiler must assume that writes change the originals, and would read them again for every value.
    Tensor t = tensors[p.tensor];
    float factor = decision->factor, inverse_root = 1.0f / sqrtf(correction(log_beta2, *steps)), sum = 0;
    auto move = [&](float gradient, float &mean, float &square, float &largest) {
        float g = gradient * factor;
        mean = beta1 * mean + rest1 * g;
        square = beta2 * square + rest2 * g * g;
        largest = amsgrad ? fmaxf(largest, square) : square;
        float ratio = g / denominator(largest, inverse_root, eps);
        sum += ratio * ratio;
    };
    unsigned end = packs_end(p, aligned(t.gradient) && aligned(t.mean, t.square, t.largest));
    for (unsigned i = p.begin + threadIdx.x * Quad::COUNT; i < end; i += blockDim.x * Quad::COUNT) {
        Quad g = read<Quad>(t.gradient + i), mean = read<Quad>(t.mean + i);
        Quad square = read<Quad>(t.square + i), largest = read<Quad>(t.largest + i);
        for (unsigned j = 0; j < Quad::COUNT; j++) move(g.at[j], mean.at[j], square.at[j], largest.at[j]);
        write(t.mean + i, mean);
        write(t.square + i, square);
        write(t.largest + i, largest);
    }
    for (unsigned i = end + threadIdx.x; i < p.end; i += blockDim.x)
        move(t.gradient[i], t.mean[i], t.square[i], t.largest[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Updates the parameters. The step is smaller if the root mean square of
// gradient / denominator over the whole tensor is above `threshold`.
KERNEL adamw_apply(const Tensor *tensors, const unsigned *pieces, const Decision *decision, const unsigned *steps,
                   const float *ratios, unsigned length, float log_beta1, float log_beta2, float eps, float threshold) {
    if (decision->counts == 0) return;
    Piece p = piece(tensors, pieces, length);
    Tensor t = tensors[p.tensor];
    float sum = 0;
    for (unsigned i = threadIdx.x; i < t.blocks; i += blockDim.x) sum += ratios[t.first_block + i];
    float size = sqrtf(block_sum(sum) / t.count);
    float step = t.rate / correction(log_beta1, *steps) / fmaxf(size / threshold, 1.0f);
    float inverse_root = 1.0f / sqrtf(correction(log_beta2, *steps));
    auto moved = [&](float parameter, float mean, float largest) {
        return parameter * t.kept - step * (mean / denominator(largest, inverse_root, eps));
    };
    unsigned end = packs_end(p, aligned(t.parameter, t.mean, t.largest));
    for (unsigned i = p.begin + threadIdx.x * Quad::COUNT; i < end; i += blockDim.x * Quad::COUNT) {
        Quad parameter = read<Quad>(t.parameter + i);
        Quad mean = read<Quad>(t.mean + i), largest = read<Quad>(t.largest + i);
        for (unsigned j = 0; j < Quad::COUNT; j++)
            parameter.at[j] = moved(parameter.at[j], mean.at[j], largest.at[j]);
        write(t.parameter + i, parameter);
    }
    for (unsigned i = end + threadIdx.x; i < p.end; i += blockDim.x)
        t.parameter[i] = moved(t.parameter[i], t.mean[i], t.largest[i]);
}
