// sha256_hex of base.h.
#include "base.h"

#include <math.h>
#include <string.h>

static inline uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void add_block(uint32_t sum[8], const uint32_t k[64], const unsigned char *p)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, sum, sizeof s);
#define S(n) s[((n) - i) & 7]                              // the words stay, and change their names in turn
    for (int i = 0; i < 64; i++) {
        uint32_t t = S(7) + (turn(S(4), 6) ^ turn(S(4), 11) ^ turn(S(4), 25)) + k[i] + w[i];
        t += (S(4) & S(5)) ^ (~S(4) & S(6));
        S(3) += t;
        S(7) = t + (turn(S(0), 2) ^ turn(S(0), 13) ^ turn(S(0), 22)) + ((S(0) & S(1)) ^ (S(0) & S(2)) ^ (S(1) & S(2)));
    }
    for (int i = 0; i < 8; i++) sum[i] += s[i];
}

static uint32_t fraction(double x) { return (uint32_t)((x - floor(x)) * 0x1p32); }

void sha256_hex(const void *bytes, size_t n, char out[65])
{
    uint32_t k[64], sum[8];                                // of the roots of the first primes, what is after the point
    for (int p = 2, i = 0, d; i < 64; p++) {
        for (d = 2; p % d;) d++;
        if (d < p) continue;
        if (i < 8) sum[i] = fraction(sqrt(p));
        k[i++] = fraction(cbrt(p));
    }
    const unsigned char *from = bytes;
    unsigned char tail[128] = {0};                         // the last bytes, a one bit, and the length in bits
    size_t left = n % 64, end = left < 56 ? 64 : 128;
    memcpy(tail, from + (n - left), left);
    tail[left] = 0x80;
    for (size_t i = 0; i < 8; i++) tail[end - 1 - i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i + 64 <= n; i += 64) add_block(sum, k, from + i);
    for (size_t i = 0; i < end; i += 64) add_block(sum, k, tail + i);
    for (size_t i = 0; i < 8; i++) snprintf(out + 8 * i, 9, "%08x", sum[i]);
}
