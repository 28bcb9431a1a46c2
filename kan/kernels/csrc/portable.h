/* What is not C99, and the constants of all kernels. GCC and clang (clang-cl on Windows) have what is needed. */
#ifndef KAN_PORTABLE_H
#define KAN_PORTABLE_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define KAN_EXPORT __declspec(dllexport)
#else
#define KAN_EXPORT __attribute__((visibility("default")))
#endif
#if defined(__GNUC__) || defined(__clang__)
#define KAN_INLINE static inline __attribute__((always_inline))
#else
#define KAN_INLINE static inline
#endif

/* Loops over the few local splines of a point are unrolled before anything else, so that the loops around them can use vectors. */
#if defined(__clang__)
#define KAN_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define KAN_UNROLL _Pragma("GCC unroll 8")
#else
#define KAN_UNROLL
#endif

/* W numbers at any address as one vector. GCC turns plain loops over the outputs of an edge into single numbers, spilled registers and
 * shuffles, and takes two to three times as long with them. */
#define KAN_VECTOR(type, W) type __attribute__((vector_size((W) * sizeof(type)), aligned(sizeof(type)), may_alias))

/* Points are processed in tiles of this many, whose values stay in the first-level cache. */
#define KAN_TILE 128
/* Up to this many knots of an input, those below a point are counted instead of searched. */
#define KAN_COUNTED 32
/* Memory is aligned to a cache line, which is also the longest vector register. */
#define KAN_ALIGN 64
/* Largest degree of the splines. */
#define KAN_MAX_DEGREE 5

/* Base functions. */
enum { KAN_ZERO, KAN_IDENTITY, KAN_SILU, KAN_TANH, KAN_GELU };

/* Parameters of a layer: of its edges, and of the affine maps of its sub-nodes and nodes. */
enum { KAN_COEF, KAN_SCALE_BASE, KAN_SCALE_SP, KAN_MASK, KAN_SUB_SCALE, KAN_SUB_BIAS, KAN_NODE_SCALE, KAN_NODE_BIAS, KAN_PARAMETERS };

/* A tile of points of one input: for every point its k + 1 local splines, for every point their slopes, and then, each for all points, the
 * base function, its slope, and the points themselves. */
#define KAN_SLOPES(k) (((k) + 1) * KAN_TILE)
#define KAN_BASE(k) (2 * ((k) + 1) * KAN_TILE)
#define KAN_BASE_SLOPE(k) (KAN_BASE(k) + KAN_TILE)
#define KAN_POINTS(k) (KAN_BASE(k) + 2 * KAN_TILE)
#define KAN_TILE_NUMBERS(k) (KAN_BASE(k) + 3 * KAN_TILE)

/* Rows of the weights of one input, see edges.h. */
#define KAN_PADDED_ROWS(n, k) ((n) + 2 * (k) + 1)

/* What the first pass of an objective computes is kept for the second up to this many numbers (16 MB in double precision). */
#define KAN_KEPT_NUMBERS ((size_t)1 << 21)
/* Where the numbers of a tile begin in an array with `numbers` for each tile. */
#define KAN_OF_TILE(array, numbers) ((array) + (net->kept ? (size_t)t * (numbers) : 0))

#define KAN_PASTE3(a, b, c) a##b##c
#define KAN_PASTE(a, b, c) KAN_PASTE3(a, b, c)
/* Every exported name carries the instruction set that it was compiled for. */
#define KAN_SET_NAME(name) KAN_PASTE(kan_##name, _, KAN_SET)

/* Aligned memory, zeroed, or NULL. The address that malloc gave is kept in front of it. */
KAN_INLINE void *kan_allocate(size_t count, size_t size) {
    if (size && count > (SIZE_MAX - 2 * KAN_ALIGN) / size) return NULL;
    char *block = calloc(1, count * size + 2 * KAN_ALIGN);
    if (!block) return NULL;
    char *start = block + KAN_ALIGN + (KAN_ALIGN - (uintptr_t)block % KAN_ALIGN) % KAN_ALIGN;
    memcpy(start - sizeof block, &block, sizeof block);
    return start;
}

KAN_INLINE void kan_release(void *start) {
    if (!start) return;
    void *block;
    memcpy(&block, (char *)start - sizeof block, sizeof block);
    free(block);
}

#endif
