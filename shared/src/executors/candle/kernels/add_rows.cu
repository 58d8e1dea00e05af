// The last step of sums over rows that were cut into chunks.
#include "common.cuh"

// A thread a column: the sum of its chunks, in their order.
KERNEL add_rows(const float *chunks, float *out, unsigned count, unsigned width) {
    unsigned column = thread_number();
    if (column >= width) return;
    float sum = 0;
    for (unsigned i = 0; i < count; i++) sum += chunks[(size_t)i * width + column];
    out[column] = sum;
}
