/* Which of the instruction sets that the kernels were compiled for this processor has. */
#include "portable.h"

#ifndef KAN_SETS
#define KAN_SETS 1
#endif

/* The name that the exported functions end with. */
KAN_EXPORT const char *kan_instruction_set(void) {
#if KAN_SETS > 1 && (defined(__x86_64__) || defined(_M_X64))
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "base";
}
