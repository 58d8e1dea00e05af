// Common code of all kernels: element types, sums over a warp and a block. All computation is f32, for every storage type.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
typedef __nv_bfloat16 bf16;
__device__ inline float value(bf16 x) { return __bfloat162float(x); }
__device__ inline void store(bf16 *to, float x) { *to = __float2bfloat16(x); }
#endif

__device__ inline float value(float x) { return x; }
__device__ inline void store(float *to, float x) { *to = x; }

// N values that are read and written at once, by default 16 bytes, aligned to their size.
template <class T, unsigned N = 16 / sizeof(T)> struct alignas(N * sizeof(T)) Pack {
    static const unsigned COUNT = N;
    T at[N];
};

typedef Pack<float> Quad;

// Type that a pack is moved as.
template <unsigned BYTES> struct Word;
template <> struct Word<8> {
    typedef uint2 Type;
};
template <> struct Word<16> {
    typedef uint4 Type;
};

template <class P, class T> __device__ inline P read(const T *from) {
    auto word = *(const typename Word<sizeof(P)>::Type *)from;
    P pack;
    memcpy(&pack, &word, sizeof pack);
    return pack;
}

// Writes to global memory by one instruction. The compiler splits plain assignments at variable strides.
template <class T, unsigned N> __device__ inline void write(T *to, const Pack<T, N> &pack) {
    typename Word<sizeof pack>::Type word;
    memcpy(&word, &pack, sizeof pack);
    __stwb((decltype(word) *)to, word);
}

// Writes to shared memory.
__device__ inline void place(float *to, const Quad &quad) {
    uint4 word;
    memcpy(&word, &quad, sizeof word);
    *(uint4 *)to = word;
}

// Whether all pointers are aligned for packs.
template <class... T> __device__ inline bool aligned(const T *...pointers) {
    return ((size_t)0 | ... | (size_t)pointers) % 16 == 0;
}

#define KERNEL extern "C" __global__ void

const unsigned WARP = 32;
// Largest number of threads per block of these kernels.
const unsigned MOST_THREADS = 1024;

// Sum over the warp, returned to every thread. The order of additions is the same in every run.
__device__ inline float warp_sum(float x) {
    for (unsigned step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
    return x;
}

// Sum over the block, like warp_sum. All threads of the block must call it.
__device__ inline float block_sum(float x) {
    __shared__ float sums[MOST_THREADS / WARP];
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
    __syncthreads();
    float total = 0;
    for (unsigned i = 0; i < blockDim.x / WARP; i++) total += sums[i];
    return total;
}

// Index of this thread, and of this warp, in the launch.
__device__ inline unsigned thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline unsigned warp_number() { return thread_number() / WARP; }
__device__ inline unsigned lane() { return threadIdx.x % WARP; }
