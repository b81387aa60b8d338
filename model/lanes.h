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

// Two rows whose numbers take turns
static inline void take_turns(Chunk to[2], Chunk a, Chunk b)
{
    to[0] = SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    to[1] = SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// Transposes 8 x 8 numbers: three times, the numbers of each row take turns with those of the row four below it.
static inline void transpose_chunks(Chunk v[CHUNK])
{
    for (int round = 0; round < 3; round++) {
        Chunk w[CHUNK];
        for (size_t i = 0; i < CHUNK / 2; i++) take_turns(w + 2 * i, v[i], v[i + CHUNK / 2]);
        memcpy(v, w, sizeof w);
    }
}

// max = the larger of max and x, lane by lane; max where x is no number
static inline void keep_larger(Lanes *max, const Lanes *x)
{
    float *m = (float *)max;
#pragma omp simd
    for (size_t i = 0; i < LANES; i++) m[i] = (*x)[i] > m[i] ? (*x)[i] : m[i];
}

#endif
