// Runs CUDA kernels on a processor, as they stand: what of CUDA they use, in plain C++.
//
// The threads of a block are coroutines that take turns at every barrier, in order or in reverse as a generator of random bits
// says: most of what a missing barrier leaves to chance is then wrong, and always in the same place. Blocks run one after
// the other. Memory around every buffer is filled with NaN, so that a read beyond it shows, and checked after the run, so
// that a write does. Shared memory is zero at first and kept from block to block, not poisoned: a read of what the block did not
// write need not show.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

using std::isfinite;
using std::min;

struct bf16 {
    uint16_t bits;
};

inline float value(bf16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

// Rounds to nearest, ties to even, as __float2bfloat16 does.
inline void store(bf16 *to, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    to->bits = (x != x) ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// What packs of values are moved as.
struct __attribute__((may_alias, aligned(8))) uint2 {
    unsigned x, y;
};
struct __attribute__((may_alias, aligned(16))) uint4 {
    unsigned x, y, z, w;
};

template <class T> void __stwb(T *to, T x) { *to = x; }

struct Extent {
    unsigned x;
};

static Extent threadIdx, blockIdx, blockDim, gridDim;

enum State { READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE };

struct Coroutine {
    ucontext_t context;
    std::vector<char> stack;
    State state;
};

static std::vector<Coroutine> coroutines(1024);
static ucontext_t scheduler;
static std::function<void()> body;

[[noreturn]] inline void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

inline void leave(State state) {
    Coroutine &self = coroutines[threadIdx.x];
    self.state = state;
    swapcontext(&self.context, &scheduler);
}

inline void __syncthreads() { leave(AT_BLOCK_BARRIER); }

inline float __shfl_xor_sync(unsigned, float x, unsigned mask) {
    static float lanes[1024];
    unsigned self = threadIdx.x;
    lanes[self] = x;
    leave(AT_WARP_BARRIER);
    float other = lanes[self ^ mask];
    leave(AT_WARP_BARRIER);
    return other;
}

inline void atomicAdd(unsigned *to, unsigned by) { *to += by; }

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline void enter() {
    body();
    coroutines[threadIdx.x].state = DONE;
}

// Lets the threads from `first` on go on if each that is not done waits at this barrier.
inline bool release(unsigned first, unsigned count, State barrier) {
    unsigned waiting = 0;
    for (unsigned i = first; i < first + count; i++) {
        if (coroutines[i].state == barrier) waiting++;
        else if (coroutines[i].state != DONE) return false;
    }
    for (unsigned i = first; i < first + count; i++)
        if (coroutines[i].state == barrier) coroutines[i].state = READY;
    return waiting > 0;
}

inline void run_block() {
    for (unsigned i = 0; i < blockDim.x; i++) {
        Coroutine &c = coroutines[i];
        c.stack.resize(64 << 10);
        getcontext(&c.context);
        c.context.uc_stack.ss_sp = c.stack.data();
        c.context.uc_stack.ss_size = c.stack.size();
        c.context.uc_link = &scheduler;
        makecontext(&c.context, enter, 0);
        c.state = READY;
    }
    static uint32_t random = 1;
    for (bool ran = true; ran;) {
        random = random * 1664525 + 1013904223;
        bool reverse = random >> 31;
        for (unsigned turn = 0; turn < blockDim.x; turn++) {
            unsigned i = reverse ? blockDim.x - 1 - turn : turn;
            if (coroutines[i].state != READY) continue;
            threadIdx.x = i;
            swapcontext(&scheduler, &coroutines[i].context);
        }
        ran = release(0, blockDim.x, AT_BLOCK_BARRIER);
        for (unsigned first = 0; first < blockDim.x; first += 32) ran |= release(first, 32, AT_WARP_BARRIER);
    }
    for (unsigned i = 0; i < blockDim.x; i++)
        if (coroutines[i].state != DONE) fail("threads wait for others at different barriers");
}

// A kernel that takes its arguments as words of eight bytes.
typedef std::function<void(const std::vector<uint64_t> &)> Kernel;

template <class T> T argument(uint64_t word) {
    T value;
    memcpy(&value, &word, sizeof value);
    return value;
}

template <class... A, size_t... I>
Kernel kernel_of(void (*function)(A...), std::index_sequence<I...>) {
    return [function](const std::vector<uint64_t> &words) {
        if (words.size() != sizeof...(A)) fail("a kernel is called with another number of arguments");
        function(argument<A>(words[I])...);
    };
}

template <class... A> Kernel kernel(void (*function)(A...)) {
    return kernel_of(function, std::index_sequence_for<A...>());
}

inline uint64_t read_word() {
    uint64_t word;
    if (fread(&word, 8, 1, stdin) != 1) fail("the request ends early");
    return word;
}

struct Buffer {
    std::vector<unsigned char> bytes;
    size_t start, size;
};

// How far buffers lie from an aligned address, buffers and launches from standard input, the buffers after them to standard output.
inline int serve(const std::map<std::string, Kernel> &kernels) {
    const size_t GUARD = 4096, shift = read_word();
    std::vector<Buffer> buffers(read_word());
    std::vector<bool> tables;
    for (Buffer &buffer : buffers) {
        tables.push_back(read_word());
        buffer.start = GUARD + (tables.back() ? 0 : shift);
        buffer.size = read_word();
        buffer.bytes.assign(buffer.start + buffer.size + GUARD, 0xff);
        if (fread(buffer.bytes.data() + buffer.start, 1, buffer.size, stdin) != buffer.size) fail("a buffer ends early");
    }
    auto address = [&](uint64_t number) { return (uint64_t)(buffers.at(number).bytes.data() + buffers[number].start); };
    // In a table, words with the highest bit set are numbers of buffers.
    for (size_t i = 0; i < buffers.size(); i++) {
        for (size_t at = 0; tables[i] && at < buffers[i].size; at += 8) {
            uint64_t word;
            memcpy(&word, buffers[i].bytes.data() + buffers[i].start + at, 8);
            if (word >> 63) word = address(word & ~(1ull << 63));
            memcpy(buffers[i].bytes.data() + buffers[i].start + at, &word, 8);
        }
    }
    for (uint64_t launches = read_word(); launches > 0; launches--) {
        std::string name(read_word(), ' ');
        if (fread(&name[0], 1, name.size(), stdin) != name.size()) fail("a name ends early");
        gridDim.x = read_word();
        blockDim.x = read_word();
        std::vector<uint64_t> words(read_word());
        for (uint64_t &word : words) {
            bool pointer = read_word();
            word = read_word();
            if (pointer) word = address(word);
        }
        if (!kernels.count(name)) fail(("there is no kernel " + name).c_str());
        body = [&]() { kernels.at(name)(words); };
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block();
        for (Buffer &buffer : buffers)
            for (size_t i = 0; i < GUARD; i++)
                if (buffer.bytes[i] != 0xff || buffer.bytes[buffer.start + buffer.size + i] != 0xff)
                    fail((name + " writes beyond a buffer").c_str());
    }
    for (Buffer &buffer : buffers) fwrite(buffer.bytes.data() + buffer.start, 1, buffer.size, stdout);
    return 0;
}
