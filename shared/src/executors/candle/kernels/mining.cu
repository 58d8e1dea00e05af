// Hard-mining cosine loss of one group, between encoded and decoded features [photos, first + patches, channels] in f32. The
// `first` tokens of a photo do not count. A point is a patch of a photo.
//
// All kernels share `stats`: a · b, |a|², |b|² of every point [points, 3], the same of every photo [photos, 3], and the k-th
// largest distance of a point [1].
#include "common.cuh"

// Each norm is at least 1e-8, as in torch.cosine_similarity.
__device__ inline float cosine(const float *sums) {
    return sums[0] / (sqrtf(fmaxf(sums[1], 1e-16f)) * sqrtf(fmaxf(sums[2], 1e-16f)));
}

// One warp per point.
KERNEL point_sums(const float *encoded, const float *decoded, float *stats, unsigned points, unsigned first, unsigned patches,
                  unsigned channels) {
    unsigned point = warp_number();
    if (point >= points) return;
    size_t token = point + (size_t)(point / patches + 1) * first;
    encoded += token * channels;
    decoded += token * channels;
    float product = 0, a = 0, b = 0;
    for (unsigned i = lane(); i < channels; i += WARP) {
        product += encoded[i] * decoded[i];
        a += encoded[i] * encoded[i];
        b += decoded[i] * decoded[i];
    }
    product = warp_sum(product);
    a = warp_sum(a);
    b = warp_sum(b);
    if (lane() == 0) {
        stats[3 * point] = product;
        stats[3 * point + 1] = a;
        stats[3 * point + 2] = b;
    }
}

// One block per photo.
KERNEL photo_sums(float *stats, unsigned photos, unsigned patches) {
    const float *of_points = stats + (size_t)3 * blockIdx.x * patches;
    float *out = stats + (size_t)3 * (photos * patches + blockIdx.x);
    for (unsigned part = 0; part < 3; part++) {
        float sum = 0;
        for (unsigned i = threadIdx.x; i < patches; i += blockDim.x) sum += of_points[3 * i + part];
        sum = block_sum(sum);
        if (threadIdx.x == 0) out[part] = sum;
    }
}

// Integer of the same order as the float.
__device__ inline unsigned ordered(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float from_ordered(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ inline unsigned distance_key(const float *sums, unsigned point) {
    return ordered(1 - cosine(sums + (size_t)3 * point));
}

const unsigned SEARCHERS = 1024;
// Number of points per thread that are kept in registers: a batch of 16 photos of 28 x 28 patches has 13.
const unsigned KEPT = 16;

// One block: writes the k-th largest distance (k from 1) of the points of `sums` to `out[at]`, found eight bits at a time from
// the highest.
KERNEL __launch_bounds__(SEARCHERS) kth_distance(const float *sums, float *out, unsigned at, unsigned points, unsigned k) {
    __shared__ unsigned counts[256];
    __shared__ unsigned chosen, remaining;
    unsigned prefix = 0, kept[KEPT];
#pragma unroll
    for (unsigned n = 0; n < KEPT; n++) {
        unsigned point = n * SEARCHERS + threadIdx.x;
        kept[n] = point < points ? distance_key(sums, point) : 0;
    }
    if (threadIdx.x == 0) remaining = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (unsigned i = threadIdx.x; i < 256; i += SEARCHERS) counts[i] = 0;
        __syncthreads();
        auto count = [&](unsigned key) {
            // Two shifts, because one by 32 bits would be undefined.
            if ((key >> shift >> 8) == (prefix >> shift >> 8)) atomicAdd(&counts[key >> shift & 255], 1u);
        };
#pragma unroll
        for (unsigned n = 0; n < KEPT; n++)
            if (n * SEARCHERS + threadIdx.x < points) count(kept[n]);
        for (unsigned i = KEPT * SEARCHERS + threadIdx.x; i < points; i += SEARCHERS) count(distance_key(sums, i));
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned digit = 255;
            while (digit > 0 && counts[digit] < remaining) remaining -= counts[digit--];
            chosen = prefix | digit << shift;
        }
        __syncthreads();
        prefix = chosen;
    }
    if (threadIdx.x == 0) out[at] = from_ordered(prefix);
}

// Cosine distance of every photo.
KERNEL photo_losses(const float *stats, float *out, unsigned photos, unsigned patches) {
    unsigned photo = thread_number();
    if (photo < photos) out[photo] = 1 - cosine(stats + (size_t)3 * (photos * patches + photo));
}

// One warp per token: its gradient, scaled by `factor` if its distance is below the k-th largest, zero if the token does not
// count. `grad [photos]` is the gradient of photo_losses.
KERNEL mining_grad(const float *encoded, const float *decoded, const float *stats, const float *grad, float *out,
                   unsigned photos, unsigned first, unsigned patches, unsigned channels, float factor) {
    unsigned points = photos * patches, token = warp_number();
    if (token >= photos * (first + patches)) return;
    unsigned photo = token / (first + patches), place = token % (first + patches), point = photo * patches + place - first;
    encoded += (size_t)token * channels;
    decoded += (size_t)token * channels;
    out += (size_t)token * channels;
    if (place < first) {
        for (unsigned i = lane(); i < channels; i += WARP) out[i] = 0;
        return;
    }
    const float *sums = stats + (size_t)3 * (points + photo);
    bool easy = 1 - cosine(stats + (size_t)3 * point) < stats[(size_t)3 * (points + photos)];
    float norms = sqrtf(fmaxf(sums[1], 1e-16f)) * sqrtf(fmaxf(sums[2], 1e-16f));
    float scale = -grad[photo] * (easy ? factor : 1.0f) / norms;
    // A clamped norm is a constant.
    float back = sums[2] < 1e-16f ? 0.0f : sums[0] / sums[2];
    for (unsigned i = lane(); i < channels; i += WARP) out[i] = scale * (encoded[i] - back * decoded[i]);
}
