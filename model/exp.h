// exp: the exponential of every softmax and sigmoid.
#ifndef EXP_H
#define EXP_H

#include "lanes.h"

#include <stdint.h>

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2. exp(r) is 1 + r + r^2 q(r), with the q of degree 4 whose
// largest error is the smallest (3e-9; it follows from a fit by least squares whose weights grow where the error is
// large). For -88 <= x <= 88; below -87.7, n is -127 and the result 0. Only arithmetic, no branch, no call: for one
// float, and for a vector.
#define DEFINE_EXP(NAME, FLOAT, UNSIGNED)                                                                        \
    static inline FLOAT NAME(FLOAT x)                                                                            \
    {                                                                                                            \
        const float shift = 12582912.0f + 127;             /* adding 1.5 * 2^23 rounds to a whole number */     \
        FLOAT rounded = x * 1.44269504f + shift, n = rounded - shift;                                            \
        FLOAT r = (x - n * 0.693145752f) - n * 1.42860677e-6f;     /* ln 2 in two parts, n times the first is exact */ \
        FLOAT p = 1.38145988e-3f * r + 8.36871658e-3f;                                                           \
        p = p * r + 4.16683890e-2f;                                                                              \
        p = p * r + 1.66665211e-1f;                                                                              \
        p = p * r + 4.99999940e-1f;                                                                              \
        p = p * r + 1.0f;                                                                                        \
        p = p * r + 1.0f;                                                                                        \
        union { FLOAT f; UNSIGNED u; } bits = {rounded}, scale;                                                  \
        scale.u = bits.u * (1u << 23);                     /* its low bits are n + 127: the exponent of 2^n */  \
        return p * scale.f;                                                                                      \
    }
DEFINE_EXP(exp_float, float, uint32_t)
DEFINE_EXP(exp_vector, Lanes, LaneBits)
#undef DEFINE_EXP

// For any x; both comparisons let a NaN pass. The compiler turns a loop over it into vector code.
static inline float exp_inline(float x)
{
    x = x > 88.0f ? 88.0f : x;
    return exp_float(x < -88.0f ? -88.0f : x);
}

// For x <= 88. Below -88 it is 0; a NaN passes.
static inline Lanes exp_lanes(Lanes x)
{
    LaneMask low = x < (Lanes){0} - 88.0f;
    return (Lanes)(~low & (LaneMask)exp_vector(x));
}

#endif
