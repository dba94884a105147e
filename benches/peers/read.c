// How fast a thread reads: `repeats` times the `len` floats at `values`, which is aligned to 64 bytes; `len` is a multiple of 512.
// Four streams, as many as the prefetchers of current CPUs follow with ease, and four sums for each, so that no addition waits for another.

#include <stddef.h>

typedef float floats __attribute__((vector_size(64)));

enum { STREAMS = 4, SUMS = 2, LANES = 16 };

float read_all(const float *values, size_t len, size_t repeats) {
    const size_t part = len / (STREAMS * LANES);
    const floats *vectors = (const floats *)values;
    floats sums[STREAMS][SUMS] = {0};
    for (size_t repeat = 0; repeat < repeats; repeat++) {
        for (size_t i = 0; i < part; i += SUMS)
            for (int stream = 0; stream < STREAMS; stream++)
                for (int k = 0; k < SUMS; k++) sums[stream][k] += vectors[stream * part + i + k];
        __asm__ volatile("" ::: "memory"); // what was read has to be read again
    }
    float sum = 0;
    for (int stream = 0; stream < STREAMS; stream++)
        for (int k = 0; k < SUMS; k++)
            for (int lane = 0; lane < LANES; lane++) sum += sums[stream][k][lane];
    return sum;
}
