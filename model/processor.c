// processor: see processor.h.
#include "processor.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

Vectors processor_vectors(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return VECTORS_ANY;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") ? VECTORS_AVX512 : VECTORS_AVX2;
#else
    return VECTORS_ANY;
#endif
}

const char *vectors_name(Vectors v)
{
    static const char *const names[] = {"128-bit vectors", "AVX2", "AVX-512"};
    return names[v];
}

__attribute__((constructor)) static void check_vectors(void)
{
    Vectors has = processor_vectors();
    if (has >= processor_needs) return;
    fprintf(stderr, "this program was built for a processor with %s, and this one has %s: build it here (make clean, "
                    "make)\n", vectors_name(processor_needs), vectors_name(has));
    _exit(1);
}

// OpenBLAS's names of its kernels for x86. One that is not here, as those of other processors, is left alone.
static const struct { const char *kernel; Vectors vectors; } kernels[] = {
    {"SkylakeX", VECTORS_AVX512}, {"Cooperlake", VECTORS_AVX512}, {"Sapphirerapids", VECTORS_AVX512},
    {"Haswell", VECTORS_AVX2}, {"Zen", VECTORS_AVX2}, {"Excavator", VECTORS_AVX2},
    {"Sandybridge", VECTORS_ANY}, {"Nehalem", VECTORS_ANY}, {"Penryn", VECTORS_ANY}, {"Dunnington", VECTORS_ANY},
    {"Core2", VECTORS_ANY}, {"Prescott", VECTORS_ANY}, {"Atom", VECTORS_ANY}, {"Nano", VECTORS_ANY},
    {"Steamroller", VECTORS_ANY}, {"Piledriver", VECTORS_ANY}, {"Bulldozer", VECTORS_ANY}, {"Bobcat", VECTORS_ANY},
    {"Barcelona", VECTORS_ANY}, {"Opteron_SSE3", VECTORS_ANY}, {"Opteron", VECTORS_ANY}, {"Athlon", VECTORS_ANY},
};

const char *processor_coretype(const char *kernel, Vectors v, const char *wanted)
{
    if (!kernel || (wanted && *wanted)) return NULL;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (strcasecmp(kernel, kernels[i].kernel) == 0 && kernels[i].vectors < v)
            return v == VECTORS_AVX512 ? "SkylakeX" : "Haswell";
    return NULL;
}

void processor_flush_to_zero(void)
{
#if defined __SSE__
    _mm_setcsr(_mm_getcsr() | 0x8040);                     // FTZ for results, DAZ for operands
#elif defined __aarch64__
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | 1 << 24));        // FZ: for both
#endif
}
