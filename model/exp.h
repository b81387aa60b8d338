// exp: the exponential of every softmax and sigmoid.
#ifndef EXP_H
#define EXP_H

#include "lanes.h"

#include <stdint.h>

// How many vectors at a time: a step waits for the one before it, and steps of the other vectors fill the time.
enum { EXPS = LANES == 16 ? 2 : 4 };

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2. exp(r) is 1 + r + r^2 q(r), with the q of degree 4 whose
// largest error is the smallest (3e-9; it follows from a fit by least squares whose weights grow where the error is
// large). For -88 <= x <= 88; below -87.7, n is -127 and the result 0. Only arithmetic, no branch, no call: for N
// floats or vectors, in place.
#define DEFINE_EXP(NAME, FLOAT, UNSIGNED, N)                                                                        \
    static inline void NAME(FLOAT x[N])                                                                             \
    {                                                                                                               \
        const float shift = 12582912.0f + 127;             /* adding 1.5 * 2^23 rounds to a whole number */         \
        FLOAT rounded[N], n[N], r[N], p[N];                                                                         \
        for (int i = 0; i < (N); i++) rounded[i] = x[i] * 1.44269504f + shift, n[i] = rounded[i] - shift;           \
        for (int i = 0; i < (N); i++) r[i] = x[i] - n[i] * 0.693145752f;   /* exact; ln 2 is in two parts */        \
        for (int i = 0; i < (N); i++) r[i] -= n[i] * 1.42860677e-6f;                                                \
        for (int i = 0; i < (N); i++) p[i] = 1.38145988e-3f * r[i] + 8.36871658e-3f;                                \
        for (int i = 0; i < (N); i++) p[i] = (p[i] * r[i] + 4.16683890e-2f) * r[i] + 1.66665211e-1f;                \
        for (int i = 0; i < (N); i++) p[i] = (p[i] * r[i] + 4.99999940e-1f) * r[i] + 1.0f;                          \
        for (int i = 0; i < (N); i++) {                                                                             \
            union { FLOAT f; UNSIGNED u; } bits = {rounded[i]}, scale;                                              \
            scale.u = bits.u * (1u << 23);                 /* its low bits are n + 127: the exponent of 2^n */      \
            x[i] = (p[i] * r[i] + 1.0f) * scale.f;                                                                  \
        }                                                                                                           \
    }
DEFINE_EXP(exp_float, float, uint32_t, 1)
DEFINE_EXP(exp_vectors, Lanes, LaneBits, EXPS)
#undef DEFINE_EXP

// For any x; both comparisons let a NaN pass. The compiler turns a loop over it into vector code.
static inline float exp_inline(float x)
{
    float y = x > 88.0f ? 88.0f : x < -88.0f ? -88.0f : x;
    exp_float(&y);
    return y;
}

// In place, for x <= 88. Below -88 it is 0; a NaN passes.
static inline void exp_lanes(Lanes x[EXPS])
{
    LaneMask low[EXPS];
    for (int i = 0; i < EXPS; i++) low[i] = x[i] < (Lanes){0} - 88.0f;
    exp_vectors(x);
    for (int i = 0; i < EXPS; i++) x[i] = (Lanes)(~low[i] & (LaneMask)x[i]);
}

#endif
