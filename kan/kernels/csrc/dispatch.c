/* Which of the instruction sets that the kernels were compiled for this processor has, and what they were compiled from. */
#include "portable.h"

#ifndef KAN_SETS
#define KAN_SETS 1
#endif
/* Fingerprint of the sources, or nothing where whoever compiled them did not say. */
#ifndef KAN_SOURCES
#define KAN_SOURCES ""
#endif

#if KAN_SETS > 1
/* Whether the processor has an instruction set, and the operating system saves its registers. */
#if defined(_WIN32)
#include <intrin.h>
#define KAN_BIT(number, bit) ((number) >> (bit) & 1)

static void find_sets(int *avx2, int *avx512) {
    int largest[4], first[4], seventh[4];
    __cpuid(largest, 0);
    __cpuid(first, 1);
    *avx2 = *avx512 = 0;
    if (largest[0] < 7 || !KAN_BIT(first[2], 27)) return;
    __cpuidex(seventh, 7, 0);
    const unsigned long long saved = _xgetbv(0);
    *avx2 = (saved & 0x06) == 0x06 && KAN_BIT(seventh[1], 5) && KAN_BIT(first[2], 12);
    *avx512 = (saved & 0xe6) == 0xe6 && KAN_BIT(seventh[1], 16) && KAN_BIT(seventh[1], 17) && KAN_BIT(seventh[1], 28) &&
              KAN_BIT(seventh[1], 30) && KAN_BIT(seventh[1], 31);
}
#else
static void find_sets(int *avx2, int *avx512) {
    __builtin_cpu_init();
    *avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    *avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd");
}
#endif
#endif

/* The name that the exported functions end with. */
KAN_EXPORT const char *kan_instruction_set(void) {
#if KAN_SETS > 1
    int avx2, avx512;
    find_sets(&avx2, &avx512);
    if (avx2 && avx512) return "avx512";
    if (avx2) return "avx2";
#endif
    return "base";
}

KAN_EXPORT const char *kan_sources(void) { return KAN_SOURCES; }
