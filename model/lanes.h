// lanes: how many numbers the processor works on at once.
#ifndef LANES_H
#define LANES_H

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

// max = the larger of max and x, lane by lane; max where x is no number
static inline void keep_larger(Lanes *max, const Lanes *x)
{
    LaneMask is = *x > *max;
    *max = (Lanes)((is & (LaneMask)*x) | (~is & (LaneMask)*max));
}

#endif
