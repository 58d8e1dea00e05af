// Dropout whose mask is not stored: it is computed from the ChaCha8 words that rand_chacha gives on the processor.
#include "common.cuh"

// The seed's 32 bytes.
struct Key {
    unsigned long long words[4];
};

__device__ inline unsigned rotate(unsigned x, unsigned by) { return x << by | x >> (32 - by); }

__device__ inline void quarter(unsigned &a, unsigned &b, unsigned &c, unsigned &d) {
    a += b, d = rotate(d ^ a, 16);
    c += d, b = rotate(b ^ c, 12);
    a += b, d = rotate(d ^ a, 8);
    c += d, b = rotate(b ^ c, 7);
}

// One block of ChaCha8: 16 words.
__device__ void chacha8(Key key, unsigned long long block, unsigned long long stream, unsigned *out) {
    unsigned start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (unsigned i = 0; i < 8; i++) start[4 + i] = (unsigned)(key.words[i / 2] >> 32 * (i % 2));
    start[12] = (unsigned)block, start[13] = (unsigned)(block >> 32);
    start[14] = (unsigned)stream, start[15] = (unsigned)(stream >> 32);
    for (unsigned i = 0; i < 16; i++) out[i] = start[i];
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 4; i++) quarter(out[i], out[4 + i], out[8 + i], out[12 + i]);
        for (unsigned i = 0; i < 4; i++)
            quarter(out[i], out[4 + (i + 1) % 4], out[8 + (i + 2) % 4], out[12 + (i + 3) % 4]);
    }
    for (unsigned i = 0; i < 16; i++) out[i] += start[i];
}

// A thread per block of 16 words; word `first` of the stream belongs to the first value. A word below `limit` drops its value,
// other values are multiplied by `kept`.
template <class T>
__device__ void drop(const T *x, T *out, unsigned count, Key key, unsigned long long stream, unsigned long long first,
                     unsigned limit, float kept) {
    // Number of words of the first block that belong to earlier values.
    unsigned skipped = first % 16;
    unsigned long long begin = (unsigned long long)thread_number() * 16, end = (unsigned long long)count + skipped;
    if (begin >= end) return;
    unsigned words[16];
    chacha8(key, first / 16 + begin / 16, stream, words);
    for (unsigned i = 0; i < 16; i++) {
        if (begin + i < skipped || begin + i >= end) continue;
        size_t at = begin + i - skipped;
        store(out + at, value(x[at]) * (words[i] < limit ? 0.0f : kept));
    }
}

KERNEL dropout_f32(const float *x, float *out, unsigned count, unsigned long long k0, unsigned long long k1,
                   unsigned long long k2, unsigned long long k3, unsigned long long stream, unsigned long long first,
                   unsigned limit, float kept) {
    drop(x, out, count, {{k0, k1, k2, k3}}, stream, first, limit, kept);
}

KERNEL dropout_bf16(const bf16 *x, bf16 *out, unsigned count, unsigned long long k0, unsigned long long k1,
                    unsigned long long k2, unsigned long long k3, unsigned long long stream, unsigned long long first,
                    unsigned limit, float kept) {
    drop(x, out, count, {{k0, k1, k2, k3}}, stream, first, limit, kept);
}
