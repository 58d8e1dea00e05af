// What all kernels share: element types, sums over a warp and a block. Everything is computed in f32, whatever is stored.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
typedef __nv_bfloat16 bf16;
__device__ inline float value(bf16 x) { return __bfloat162float(x); }
__device__ inline void store(bf16 *to, float x) { *to = __float2bfloat16(x); }
#endif

__device__ inline float value(float x) { return x; }
__device__ inline void store(float *to, float x) { *to = x; }

#define KERNEL extern "C" __global__ void

const unsigned WARP = 32;
// Most threads that a block of these kernels has.
const unsigned MOST_THREADS = 1024;

// Every thread of the warp gets the sum; the order of additions does not change from run to run.
__device__ inline float warp_sum(float x) {
    for (unsigned step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
    return x;
}

// As warp_sum, for all threads of the block, which must all ask.
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

// The number of this thread, and of this warp, among all of the launch.
__device__ inline unsigned thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline unsigned warp_number() { return thread_number() / WARP; }
__device__ inline unsigned lane() { return threadIdx.x % WARP; }
