// exp: the exponential of every softmax and sigmoid.
#ifndef EXP_H
#define EXP_H

#include <stdint.h>

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, and exp(r) by its series up to r^7 (error below 2e-9).
// Only arithmetic, no branch, no call: the compiler turns a loop over it into vector code.
static inline float exp_inline(float x)
{
    const float shift = 12582912.0f;                       // 1.5 * 2^23: adding it rounds to a whole number
    x = x > 88.0f ? 88.0f : x;                             // both comparisons let a NaN pass
    float low = x < -87.3f ? 0.0f : 1.0f;
    x = x < -87.3f ? -87.3f : x;
    float rounded = x * 1.44269504f + shift, n = rounded - shift;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f; // ln 2 in two parts, the first exact in a product with n
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union { float f; uint32_t u; } bits = {rounded}, scale;
    scale.u = (bits.u + 127) << 23;                        // rounded's low bits are n; n + 127 is the exponent of 2^n
    return p * scale.f * low;
}

#endif
