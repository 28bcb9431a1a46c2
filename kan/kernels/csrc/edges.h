/* Sums over the edges of one input, and their derivatives, for the points of a tile. Included once for each number type.
 *
 * The weights of an input are R = n + 2 k + 1 rows of `stride` outputs: k rows of zeros, those of the n functions, k rows of zeros, and the
 * row of the base function. The local splines of a point then read k + 1 rows from its own row on, wherever it is. */

/* Outputs that are processed together: the lanes of the longest vector register. */
#ifdef KAN_DOUBLE
#define KAN_LANES 8
#else
#define KAN_LANES 16
#endif

/* Number of outputs with padding: a power of two or a multiple of the lanes. */
KAN_INLINE int NAME(padded)(int outputs) {
    if (outputs <= 2) return outputs;
    if (outputs <= 4) return 4;
    if (outputs <= 8) return 8;
    return (outputs + KAN_LANES - 1) / KAN_LANES * KAN_LANES;
}

/* The edges' values are added to `sums` (m, stride) and, if wanted, written to `edges` (m, stride). */
KAN_INLINE void NAME(forward_block)(const int k, const int width, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                    const int32_t *row, REAL *restrict edges, REAL *restrict sums) {
    for (int b = 0; b < m; b++) {
        REAL total[KAN_LANES];
        const REAL *w = weight + (ptrdiff_t)row[b] * stride, of_base = tile[KAN_BASE(k) + b];
        for (int j = 0; j < width; j++) total[j] = of_base * base[j];
        KAN_UNROLL
        for (int q = 0; q <= k; q++) {
            const REAL value = tile[(k + 1) * b + q];
            for (int j = 0; j < width; j++) total[j] += value * w[(ptrdiff_t)q * stride + j];
        }
        if (edges)
            for (int j = 0; j < width; j++) edges[(ptrdiff_t)b * stride + j] = total[j];
        for (int j = 0; j < width; j++) sums[(ptrdiff_t)b * stride + j] += total[j];
    }
}

/* The gradients of the points from those of the edges' values, `grad` (m, stride), are added to `below`, `apart` from one another. */
KAN_INLINE void NAME(pull_back_block)(const int k, const int width, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                      const int32_t *row, const REAL *restrict grad, REAL *restrict below, int apart) {
    for (int b = 0; b < m; b++) {
        const REAL *g = grad + (ptrdiff_t)b * stride, *w = weight + (ptrdiff_t)row[b] * stride;
        const REAL of_base = tile[KAN_BASE_SLOPE(k) + b];
        REAL slope[KAN_LANES], sum = 0;
        for (int j = 0; j < width; j++) slope[j] = of_base * base[j];
        KAN_UNROLL
        for (int q = 0; q <= k; q++) {
            const REAL value = tile[KAN_SLOPES(k) + (k + 1) * b + q];
            for (int j = 0; j < width; j++) slope[j] += value * w[(ptrdiff_t)q * stride + j];
        }
        for (int j = 0; j < width; j++) sum += slope[j] * g[j];
        below[(ptrdiff_t)b * apart] += sum;
    }
}

/* The gradients of the weights from those of the edges' values are added to `to_weight` and `to_base`. */
KAN_INLINE void NAME(backward_block)(const int k, const int width, int stride, int m, const REAL *tile, const int32_t *row,
                                     const REAL *restrict grad, REAL *restrict to_weight, REAL *restrict to_base) {
    REAL total[KAN_LANES] = {0};
    for (int b = 0; b < m; b++) {
        const REAL *g = grad + (ptrdiff_t)b * stride, of_base = tile[KAN_BASE(k) + b];
        REAL *to = to_weight + (ptrdiff_t)row[b] * stride;
        for (int j = 0; j < width; j++) total[j] += of_base * g[j];
        KAN_UNROLL
        for (int q = 0; q <= k; q++) {
            const REAL value = tile[(k + 1) * b + q];
            for (int j = 0; j < width; j++) to[(ptrdiff_t)q * stride + j] += value * g[j];
        }
    }
    for (int j = 0; j < width; j++) to_base[j] += total[j];
}

/* A single output. The windows of neighbouring spans overlap, and a processor waits where it reads what it has just written in part. The
 * gradients are therefore added up for every span by itself, in `spans` (2, R, k + 1) for even and odd points; see NAME(join_spans). */
KAN_INLINE void NAME(backward_single)(const int k, int rows, int m, const REAL *tile, const int32_t *row, const REAL *restrict grad,
                                      REAL *restrict spans, REAL *to_base) {
    REAL total = 0, *restrict odd = spans + (ptrdiff_t)rows * (k + 1);
    for (int b = 0; b < m; b++) total += tile[KAN_BASE(k) + b] * grad[b];
    *to_base += total;
    int b = 0;
    for (; b + 1 < m; b += 2) {
        REAL *to = spans + (ptrdiff_t)row[b] * (k + 1), *other = odd + (ptrdiff_t)row[b + 1] * (k + 1);
        for (int q = 0; q <= k; q++) to[q] += tile[(k + 1) * b + q] * grad[b];
        for (int q = 0; q <= k; q++) other[q] += tile[(k + 1) * (b + 1) + q] * grad[b + 1];
    }
    for (; b < m; b++)
        for (int q = 0; q <= k; q++) spans[(ptrdiff_t)row[b] * (k + 1) + q] += tile[(k + 1) * b + q] * grad[b];
}

/* Add the gradients of all spans to those of the weights (R). */
static void NAME(join_spans)(int k, int rows, const REAL *spans, REAL *to_weight) {
    for (int row = 0; row + k < rows - 1; row++)
        for (int q = 0; q <= k; q++)
            to_weight[row + q] += spans[(ptrdiff_t)row * (k + 1) + q] + spans[(ptrdiff_t)(rows + row) * (k + 1) + q];
}

KAN_INLINE void NAME(forward_any)(const int k, int outputs, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                  const int32_t *row, REAL *edges, REAL *sums) {
    switch (stride) {
    case 1: NAME(forward_block)(k, 1, 1, m, weight, base, tile, row, edges, sums); break;
    case 2: NAME(forward_block)(k, 2, 2, m, weight, base, tile, row, edges, sums); break;
    case 4: NAME(forward_block)(k, 4, 4, m, weight, base, tile, row, edges, sums); break;
    case 8: NAME(forward_block)(k, 8, 8, m, weight, base, tile, row, edges, sums); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            NAME(forward_block)(k, KAN_LANES, stride, m, weight + j, base + j, tile, row, edges ? edges + j : NULL, sums + j);
    }
}

KAN_INLINE void NAME(backward_any)(const int k, int rows, int outputs, int stride, int m, const REAL *tile, const int32_t *row,
                                   const REAL *grad, REAL *to_weight, REAL *spans, REAL *to_base) {
    switch (stride) {
    case 1: NAME(backward_single)(k, rows, m, tile, row, grad, spans, to_base); break;
    case 2: NAME(backward_block)(k, 2, 2, m, tile, row, grad, to_weight, to_base); break;
    case 4: NAME(backward_block)(k, 4, 4, m, tile, row, grad, to_weight, to_base); break;
    case 8: NAME(backward_block)(k, 8, 8, m, tile, row, grad, to_weight, to_base); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            NAME(backward_block)(k, KAN_LANES, stride, m, tile, row, grad + j, to_weight + j, to_base + j);
    }
}

KAN_INLINE void NAME(pull_back_any)(const int k, int outputs, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                    const int32_t *row, const REAL *grad, REAL *below, int apart) {
    switch (stride) {
    case 1: NAME(pull_back_block)(k, 1, 1, m, weight, base, tile, row, grad, below, apart); break;
    case 2: NAME(pull_back_block)(k, 2, 2, m, weight, base, tile, row, grad, below, apart); break;
    case 4: NAME(pull_back_block)(k, 4, 4, m, weight, base, tile, row, grad, below, apart); break;
    case 8: NAME(pull_back_block)(k, 8, 8, m, weight, base, tile, row, grad, below, apart); break;
    default:
        for (int j = 0; j < outputs; j += KAN_LANES)
            NAME(pull_back_block)(k, KAN_LANES, stride, m, weight + j, base + j, tile, row, grad + j, below, apart);
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
