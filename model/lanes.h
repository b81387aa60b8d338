// lanes: how many numbers the processor works on at once.
#ifndef LANES_H
#define LANES_H

#include <string.h>

// A vector has LANES floats. Its eight sums, and what is added to them, stay in the processor's registers:
//   AVX-512   32 registers of 16 floats     AVX2   16 of 8     arm64   32 of 4, two for each vector
// Such types are GCC's and clang's own, and compile for any processor.
//
// "omp simd" stands before each loop that the compiler should turn into vectors; `make tools` names those of which it
// does not.
#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
#define VECTOR(type, n) type __attribute__((vector_size((n) * sizeof(type)), aligned(4), may_alias))
typedef VECTOR(float, LANES) Lanes;
typedef VECTOR(int, LANES) LaneMask;
typedef VECTOR(unsigned, LANES) LaneBits;

enum { CHUNK = 8 };
typedef VECTOR(float, CHUNK) Chunk;                        // eight neighbours in a row
typedef VECTOR(int, CHUNK) ChunkMask;

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ChunkMask){__VA_ARGS__})
#endif

// Transposes 8 x 8 numbers, in three rounds: neighbours take turns, then pairs of numbers do, then halves of rows.
static inline void transpose_chunks(Chunk v[CHUNK])
{
    Chunk w[CHUNK];
    for (size_t i = 0; i < CHUNK; i += 2) {
        w[i] = SHUFFLE(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        w[i + 1] = SHUFFLE(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (size_t i = 0; i < CHUNK; i++) {
        const Chunk *x = w + i / 4 * 4 + i % 4 / 2;
        v[i] = i % 2 ? SHUFFLE(x[0], x[2], 2, 3, 10, 11, 6, 7, 14, 15) : SHUFFLE(x[0], x[2], 0, 1, 8, 9, 4, 5, 12, 13);
    }
    for (size_t i = 0; i < CHUNK / 2; i++) {
        w[i] = SHUFFLE(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        w[i + 4] = SHUFFLE(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    memcpy(v, w, sizeof w);
}

// max = the larger of max and x, lane by lane; max where x is no number
static inline void keep_larger(Lanes *max, const Lanes *x)
{
    float *m = (float *)max;
#pragma omp simd
    for (size_t i = 0; i < LANES; i++) m[i] = (*x)[i] > m[i] ? (*x)[i] : m[i];
}

#endif
