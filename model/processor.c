// processor: see processor.h.
#include "processor.h"

#include <stdint.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

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
