/* Sums over the edges of one input, and their derivatives, for the points of a tile. Included once for each number type.
 *
 * The weights of an input are R = n + 2 k + 1 rows of `stride` outputs: k rows of zeros, those of the n functions, k rows of zeros, and the
 * row of the base function. The local splines of a point then read k + 1 rows from its own row on, wherever it is. */

/* Number of outputs with padding: a power of two or a multiple of the lanes. */
KAN_INLINE int NAME(padded)(int outputs) {
    if (outputs <= 2) return outputs;
    if (outputs <= 4) return 4;
    if (outputs <= 8) return 8;
    return (outputs + KAN_LANES - 1) / KAN_LANES * KAN_LANES;
}

KAN_INLINE REAL NAME(sum_2)(NAME(v2) v) { return v[0] + v[1]; }
KAN_INLINE REAL NAME(sum_4)(NAME(v4) v) {
    union { NAME(v4) whole; NAME(v2) half[2]; } parts = {v};
    return NAME(sum_2)(parts.half[0] + parts.half[1]);
}
KAN_INLINE REAL NAME(sum_8)(NAME(v8) v) {
    union { NAME(v8) whole; NAME(v4) half[2]; } parts = {v};
    return NAME(sum_4)(parts.half[0] + parts.half[1]);
}
#ifndef KAN_DOUBLE
typedef KAN_VECTOR(REAL, 16) NAME(v16);
KAN_INLINE REAL NAME(sum_16)(NAME(v16) v) {
    union { NAME(v16) whole; NAME(v8) half[2]; } parts = {v};
    return NAME(sum_8)(parts.half[0] + parts.half[1]);
}
#endif

/* For W outputs of one input:
 * forward: the edges' values are added to `sums` (m, stride) and, if wanted, written to `edges` (m, stride).
 * backward: from the gradients `grad` (m, stride) of the edges' values, those of the weights are added to `to_weight` and `to_base`.
 * pull_back: likewise those of the points are added to `below`, `apart` from one another. */
#define KAN_EDGES(W)                                                                                                                       \
    KAN_INLINE void NAME(forward_##W)(const int k, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,              \
                                      const int32_t *row, REAL *edges, REAL *sums) {                                                       \
        const NAME(v##W) of_base = KAN_LOAD(W, base);                                                                                      \
        for (int b = 0; b < m; b++) {                                                                                                      \
            const REAL *w = weight + (ptrdiff_t)row[b] * stride, *value = tile + (k + 1) * b;                                              \
            NAME(v##W) total = tile[KAN_BASE(k) + b] * of_base;                                                                            \
            KAN_UNROLL                                                                                                                     \
            for (int q = 0; q <= k; q++) total += value[q] * KAN_LOAD(W, w + (ptrdiff_t)q * stride);                                       \
            if (edges) KAN_AT(W, edges + (ptrdiff_t)b * stride) = total;                                                                   \
            KAN_AT(W, sums + (ptrdiff_t)b * stride) += total;                                                                              \
        }                                                                                                                                  \
    }                                                                                                                                      \
    KAN_INLINE void NAME(backward_##W)(const int k, int stride, int m, const REAL *tile, const int32_t *row, const REAL *grad,             \
                                       REAL *to_weight, REAL *to_base) {                                                                   \
        NAME(v##W) total = KAN_LOAD(W, to_base);                                                                                           \
        for (int b = 0; b < m; b++) {                                                                                                      \
            const NAME(v##W) g = KAN_LOAD(W, grad + (ptrdiff_t)b * stride);                                                                \
            const REAL *value = tile + (k + 1) * b;                                                                                        \
            REAL *to = to_weight + (ptrdiff_t)row[b] * stride;                                                                             \
            total += tile[KAN_BASE(k) + b] * g;                                                                                            \
            KAN_UNROLL                                                                                                                     \
            for (int q = 0; q <= k; q++) KAN_AT(W, to + (ptrdiff_t)q * stride) += value[q] * g;                                            \
        }                                                                                                                                  \
        KAN_AT(W, to_base) = total;                                                                                                        \
    }                                                                                                                                      \
    KAN_INLINE void NAME(pull_back_##W)(const int k, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,            \
                                        const int32_t *row, const REAL *grad, REAL *below, int apart) {                                    \
        const NAME(v##W) of_base = KAN_LOAD(W, base);                                                                                      \
        for (int b = 0; b < m; b++) {                                                                                                      \
            const REAL *w = weight + (ptrdiff_t)row[b] * stride, *value = tile + KAN_SLOPES(k) + (k + 1) * b;                              \
            NAME(v##W) slope = tile[KAN_BASE_SLOPE(k) + b] * of_base;                                                                      \
            KAN_UNROLL                                                                                                                     \
            for (int q = 0; q <= k; q++) slope += value[q] * KAN_LOAD(W, w + (ptrdiff_t)q * stride);                                       \
            below[(ptrdiff_t)b * apart] += NAME(sum_##W)(slope * KAN_LOAD(W, grad + (ptrdiff_t)b * stride));                               \
        }                                                                                                                                  \
    }
KAN_EDGES(2)
KAN_EDGES(4)
KAN_EDGES(8)
#ifndef KAN_DOUBLE
KAN_EDGES(16)
#endif

/* A single output: sum of the products of k + 1 weights and local splines (or slopes) of a point. */
KAN_INLINE REAL NAME(product)(const int k, const REAL *weight, const REAL *value) {
    if (k == 3) return NAME(sum_4)(KAN_LOAD(4, weight) * KAN_LOAD(4, value));
    REAL total = 0;
    for (int q = 0; q <= k; q++) total += weight[q] * value[q];
    return total;
}

KAN_INLINE void NAME(forward_1)(const int k, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile, const int32_t *row,
                                REAL *edges, REAL *sums) {
    (void)stride;
    for (int b = 0; b < m; b++) {
        const REAL total = tile[KAN_BASE(k) + b] * *base + NAME(product)(k, weight + row[b], tile + (k + 1) * b);
        if (edges) edges[b] = total;
        sums[b] += total;
    }
}

KAN_INLINE void NAME(pull_back_1)(const int k, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                  const int32_t *row, const REAL *grad, REAL *below, int apart) {
    (void)stride;
    for (int b = 0; b < m; b++) {
        const REAL slope = tile[KAN_BASE_SLOPE(k) + b] * *base + NAME(product)(k, weight + row[b], tile + KAN_SLOPES(k) + (k + 1) * b);
        below[(ptrdiff_t)b * apart] += slope * grad[b];
    }
}

/* The windows of neighbouring spans overlap, and a processor waits where it reads what it has just written in part. The gradients for a
 * single output are therefore added up for every span by itself, in `spans` (2, R, k + 1) for even and odd points; see NAME(join_spans). */
KAN_INLINE void NAME(backward_single)(const int k, int rows, int m, const REAL *tile, const int32_t *row, const REAL *grad, REAL *spans,
                                      REAL *to_base) {
    REAL total = 0;
    for (int b = 0; b < m; b++) total += tile[KAN_BASE(k) + b] * grad[b];
    *to_base += total;
    for (int b = 0; b < m; b++) {
        REAL *to = spans + (ptrdiff_t)((b & 1) * rows + row[b]) * (k + 1);
        const REAL *value = tile + (k + 1) * b;
        if (k == 3)
            KAN_AT(4, to) += grad[b] * KAN_LOAD(4, value);
        else
            for (int q = 0; q <= k; q++) to[q] += value[q] * grad[b];
    }
}

/* Add the gradients of all spans to those of the weights (R). */
static void NAME(join_spans)(int k, int rows, const REAL *spans, REAL *to_weight) {
    for (int row = 0; row + k < rows - 1; row++)
        for (int q = 0; q <= k; q++)
            to_weight[row + q] += spans[(ptrdiff_t)row * (k + 1) + q] + spans[(ptrdiff_t)(rows + row) * (k + 1) + q];
}

/* One case for each width; wider layers take KAN_LANES outputs at a time. */
#ifdef KAN_DOUBLE
#define KAN_WIDEST(name) NAME(name##_8)
#else
#define KAN_WIDEST(name) NAME(name##_16)
#endif

KAN_INLINE void NAME(forward_any)(const int k, int outputs, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                  const int32_t *row, REAL *edges, REAL *sums) {
    switch (stride) {
    case 1: NAME(forward_1)(k, 1, m, weight, base, tile, row, edges, sums); break;
    case 2: NAME(forward_2)(k, 2, m, weight, base, tile, row, edges, sums); break;
    case 4: NAME(forward_4)(k, 4, m, weight, base, tile, row, edges, sums); break;
    case 8: NAME(forward_8)(k, 8, m, weight, base, tile, row, edges, sums); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            KAN_WIDEST(forward)(k, stride, m, weight + j, base + j, tile, row, edges ? edges + j : NULL, sums + j);
    }
}

KAN_INLINE void NAME(backward_any)(const int k, int rows, int outputs, int stride, int m, const REAL *tile, const int32_t *row,
                                   const REAL *grad, REAL *to_weight, REAL *spans, REAL *to_base) {
    switch (stride) {
    case 1: NAME(backward_single)(k, rows, m, tile, row, grad, spans, to_base); break;
    case 2: NAME(backward_2)(k, 2, m, tile, row, grad, to_weight, to_base); break;
    case 4: NAME(backward_4)(k, 4, m, tile, row, grad, to_weight, to_base); break;
    case 8: NAME(backward_8)(k, 8, m, tile, row, grad, to_weight, to_base); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            KAN_WIDEST(backward)(k, stride, m, tile, row, grad + j, to_weight + j, to_base + j);
    }
}

KAN_INLINE void NAME(pull_back_any)(const int k, int outputs, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                    const int32_t *row, const REAL *grad, REAL *below, int apart) {
    switch (stride) {
    case 1: NAME(pull_back_1)(k, 1, m, weight, base, tile, row, grad, below, apart); break;
    case 2: NAME(pull_back_2)(k, 2, m, weight, base, tile, row, grad, below, apart); break;
    case 4: NAME(pull_back_4)(k, 4, m, weight, base, tile, row, grad, below, apart); break;
    case 8: NAME(pull_back_8)(k, 8, m, weight, base, tile, row, grad, below, apart); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            KAN_WIDEST(pull_back)(k, stride, m, weight + j, base + j, tile, row, grad + j, below, apart);
    }
}

/* The values of one input's edges. `weight` (R, stride) holds its padded rows. */
static void NAME(forward_edges)(int k, int functions, int outputs, int stride, int m, const REAL *weight, const REAL *tile, const int32_t *row,
                                REAL *edges, REAL *sums) {
    const REAL *base = weight + (ptrdiff_t)(KAN_PADDED_ROWS(functions, k) - 1) * stride;
    if (k == 3)
        NAME(forward_any)(3, outputs, stride, m, weight, base, tile, row, edges, sums);
    else
        NAME(forward_any)(k, outputs, stride, m, weight, base, tile, row, edges, sums);
}

/* Gradients of the weights. Where there is a single output, those of the splines' weights go into `spans`, see NAME(backward_single). */
static void NAME(backward_edges)(int k, int functions, int outputs, int stride, int m, const REAL *tile, const int32_t *row,
                                 const REAL *grad, REAL *to_weight, REAL *spans) {
    const int rows = KAN_PADDED_ROWS(functions, k);
    REAL *to_base = to_weight + (ptrdiff_t)(rows - 1) * stride;
    if (k == 3)
        NAME(backward_any)(3, rows, outputs, stride, m, tile, row, grad, to_weight, spans, to_base);
    else
        NAME(backward_any)(k, rows, outputs, stride, m, tile, row, grad, to_weight, spans, to_base);
}

/* Gradients of the points. */
static void NAME(pull_back_edges)(int k, int functions, int outputs, int stride, int m, const REAL *weight, const REAL *tile,
                                  const int32_t *row, const REAL *grad, REAL *below, int apart) {
    const REAL *base = weight + (ptrdiff_t)(KAN_PADDED_ROWS(functions, k) - 1) * stride;
    if (k == 3)
        NAME(pull_back_any)(3, outputs, stride, m, weight, base, tile, row, grad, below, apart);
    else
        NAME(pull_back_any)(k, outputs, stride, m, weight, base, tile, row, grad, below, apart);
}
