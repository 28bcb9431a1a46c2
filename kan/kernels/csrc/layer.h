/* A layer by itself: sums over the edges, or the values of all edges, and their gradients. Included once for each number type.
 *
 * The weights of a few inputs at a time are brought into the rows of edges.h, multiplied with their factors, so that they stay in the cache
 * for all points. Parts of the outputs or of the points can be computed by one thread each, and gradients of parts of the inputs, each with
 * a workspace of its own. */

typedef struct {
    NAME(grid) grid;
    int32_t outputs, batch;
    int32_t by_output, by_input;          /* number of the edge (i, j) is j * by_output + i * by_input */
    const REAL *weight, *scaler, *base;   /* of the edges: (n) numbers each, a factor of these, and that of the base function; NULL for none */
    const REAL *x;                        /* (B, I) */
} NAME(edges);

typedef struct {
    const REAL *y, *values;               /* gradients of the sums (B, O), and of the edges' values (I, B, O); one of them is NULL */
    REAL *weight, *scaler, *base, *x;     /* gradients that are wanted, in the same places as the numbers themselves */
} NAME(gradients);

/* Rows of points whose sums are kept in the workspace. */
#define KAN_BLOCK (16 * KAN_TILE)
/* Most inputs whose features are held at once, and most numbers of their weights, which are to stay in the second-level cache. */
#define KAN_INPUTS 8
#define KAN_FOLDED 65536
/* Most rows of weights among which the points of a tile are sorted. */
#define KAN_SORTED 64

typedef KAN_VECTOR(REAL, KAN_LANES) NAME(wide);
#define KAN_WIDE(at) (*(NAME(wide) *)(at))
#define KAN_SUM KAN_WIDEST(sum)

static int NAME(inputs_at_once)(const NAME(edges) *e, int stride) {
    const int k = e->grid.degree, most = (int)(KAN_FOLDED / ((ptrdiff_t)KAN_PADDED_ROWS(e->grid.functions, k) * stride));
    return most < 1 ? 1 : most > KAN_INPUTS ? KAN_INPUTS : most;
}

/* Bytes of the workspace of `layer_forward` and `layer_backward` for so many outputs. */
KAN_EXPORT int64_t NAME(layer_workspace)(const NAME(edges) *e, int outputs) {
    const int k = e->grid.degree, rows = KAN_PADDED_ROWS(e->grid.functions, k), stride = NAME(padded)(outputs);
    const int64_t many = NAME(inputs_at_once)(e, stride), block = e->batch < KAN_BLOCK ? (e->batch + KAN_TILE) / KAN_TILE * KAN_TILE : KAN_BLOCK;
    const int64_t weights = many * rows * stride, spans = stride == 1 ? 2 * many * rows * (k + 1) : 0;
    const int64_t numbers = 2 * weights + spans + many * KAN_TILE_NUMBERS(k) + (block + KAN_TILE) * stride + KAN_TILE;
    return numbers * (int64_t)sizeof(REAL) + (many + 1) * KAN_TILE * (int64_t)sizeof(int32_t) + 16 * KAN_ALIGN;
}

KAN_INLINE void *NAME(take)(char **workspace, ptrdiff_t count, size_t size) {
    char *found = *workspace + (KAN_ALIGN - (uintptr_t)*workspace % KAN_ALIGN) % KAN_ALIGN;
    *workspace = found + count * size;
    return found;
}

KAN_INLINE void NAME(transpose)(NAME(v4) *a, NAME(v4) *b, NAME(v4) *c, NAME(v4) *d) {
    const NAME(v4) p = __builtin_shufflevector(*a, *b, 0, 4, 1, 5), q = __builtin_shufflevector(*a, *b, 2, 6, 3, 7);
    const NAME(v4) r = __builtin_shufflevector(*c, *d, 0, 4, 1, 5), s = __builtin_shufflevector(*c, *d, 2, 6, 3, 7);
    *a = __builtin_shufflevector(p, r, 0, 1, 4, 5), *b = __builtin_shufflevector(p, r, 2, 3, 6, 7);
    *c = __builtin_shufflevector(q, s, 0, 1, 4, 5), *d = __builtin_shufflevector(q, s, 2, 3, 6, 7);
}

/* The weights of the edges from the inputs `first`... to the outputs `from`...`to` as rows (count, R, stride). */
static void NAME(fold_edges)(const NAME(edges) *e, int first, int count, int from, int to, int stride, REAL *restrict rows) {
    const int k = e->grid.degree, n = e->grid.functions, R = KAN_PADDED_ROWS(n, k), outputs = to - from;
    const ptrdiff_t apart = (ptrdiff_t)e->by_output * n;
    for (int c = 0; c < count; c++) {
        REAL *all = rows + (ptrdiff_t)c * R * stride;
        if (stride != outputs || !e->base)
            memset(all, 0, sizeof(REAL) * R * stride);
        else {
            memset(all, 0, sizeof(REAL) * k * stride);
            memset(all + (ptrdiff_t)(n + k) * stride, 0, sizeof(REAL) * k * stride);
        }
    }
    for (int block = 0; block < outputs; block += 16)
        for (int c = 0; c < count; c++) {
            const int end = block + 16 < outputs ? block + 16 : outputs;
            REAL *own = rows + ((ptrdiff_t)c * R + k) * stride;
            const ptrdiff_t edge = (ptrdiff_t)from * e->by_output + (ptrdiff_t)(first + c) * e->by_input;
            int j = block;
            for (; j + 4 <= end; j += 4) {
                const ptrdiff_t at = edge + (ptrdiff_t)j * e->by_output;
                const REAL *w = e->weight + at * n, *s = e->scaler ? e->scaler + at : NULL;
                const REAL s0 = s ? s[0] : 1, s1 = s ? s[e->by_output] : 1, s2 = s ? s[2 * (ptrdiff_t)e->by_output] : 1,
                           s3 = s ? s[3 * (ptrdiff_t)e->by_output] : 1;
                int f = 0;
                for (; f + 4 <= n; f += 4) {
                    NAME(v4) p = KAN_LOAD(4, w + f) * s0, q = KAN_LOAD(4, w + apart + f) * s1;
                    NAME(v4) r = KAN_LOAD(4, w + 2 * apart + f) * s2, t = KAN_LOAD(4, w + 3 * apart + f) * s3;
                    NAME(transpose)(&p, &q, &r, &t);
                    REAL *to_row = own + (ptrdiff_t)f * stride + j;
                    KAN_AT(4, to_row) = p, KAN_AT(4, to_row + stride) = q;
                    KAN_AT(4, to_row + 2 * (ptrdiff_t)stride) = r, KAN_AT(4, to_row + 3 * (ptrdiff_t)stride) = t;
                }
                for (; f < n; f++) {
                    REAL *to_row = own + (ptrdiff_t)f * stride + j;
                    to_row[0] = w[f] * s0, to_row[1] = w[apart + f] * s1, to_row[2] = w[2 * apart + f] * s2, to_row[3] = w[3 * apart + f] * s3;
                }
            }
            for (; j < end; j++) {
                const ptrdiff_t at = edge + (ptrdiff_t)j * e->by_output;
                const REAL *w = e->weight + at * n, s = e->scaler ? e->scaler[at] : 1;
                for (int f = 0; f < n; f++) own[(ptrdiff_t)f * stride + j] = w[f] * s;
            }
            if (e->base)
                for (j = block; j < end; j++) own[(ptrdiff_t)(n + k) * stride + j] = e->base[edge + (ptrdiff_t)j * e->by_output];
        }
}

/* Gradients of the edges' weights, factors and base weights from those of the rows. */
static void NAME(unfold_edges)(const NAME(edges) *e, const NAME(gradients) *to, int first, int count, int stride, const REAL *rows) {
    const int k = e->grid.degree, n = e->grid.functions, R = KAN_PADDED_ROWS(n, k), O = e->outputs;
    const ptrdiff_t step = e->by_output;
    for (int block = 0; block < O; block += 16)
        for (int c = 0; c < count; c++) {
            const int end = block + 16 < O ? block + 16 : O;
            const REAL *own = rows + ((ptrdiff_t)c * R + k) * stride;
            const ptrdiff_t edge = (ptrdiff_t)(first + c) * e->by_input;
            int j = to->weight || to->scaler ? block : end;
            for (; j < end; j += 4) {
                const int some = end - j < 4 ? end - j : 4;
                const ptrdiff_t at = edge + j * step;
                REAL factor[4] = {1, 1, 1, 1}, total[4] = {0};
                for (int a = 0; a < some && e->scaler; a++) factor[a] = e->scaler[at + a * step];
                int f = 0;
                if (some == 4) {
                    NAME(v4) sum[4] = {{0}};
                    for (; f + 4 <= n; f += 4) {
                        const REAL *g = own + (ptrdiff_t)f * stride + j;
                        NAME(v4) part[4] = {KAN_LOAD(4, g), KAN_LOAD(4, g + stride), KAN_LOAD(4, g + 2 * (ptrdiff_t)stride), KAN_LOAD(4, g + 3 * (ptrdiff_t)stride)};
                        NAME(transpose)(part, part + 1, part + 2, part + 3);
                        KAN_UNROLL
                        for (int a = 0; a < 4; a++) {
                            const ptrdiff_t place = (at + a * step) * n + f;
                            if (to->scaler) sum[a] += part[a] * KAN_LOAD(4, e->weight + place);
                            if (to->weight) KAN_AT(4, to->weight + place) = part[a] * factor[a];
                        }
                    }
                    KAN_UNROLL
                    for (int a = 0; a < 4; a++) total[a] = NAME(sum_4)(sum[a]);
                }
                for (; f < n; f++)
                    for (int a = 0; a < some; a++) {
                        const ptrdiff_t place = (at + a * step) * n + f;
                        const REAL g = own[(ptrdiff_t)f * stride + j + a];
                        total[a] += g * e->weight[place];
                        if (to->weight) to->weight[place] = g * factor[a];
                    }
                for (int a = 0; a < some && to->scaler; a++) to->scaler[at + a * step] = total[a];
            }
            if (to->base)
                for (j = block; j < end; j++) to->base[edge + j * step] = own[(ptrdiff_t)(n + k) * stride + j];
        }
}

/* Sums over `inputs` inputs for `vectors` times KAN_LANES outputs, which stay in registers. */
KAN_INLINE void NAME(sum_inputs)(const int k, const int vectors, int stride, int rows, int inputs, int m, const REAL *weight,
                                 const REAL *tiles, const int32_t *row, REAL *sums) {
    for (int b = 0; b < m; b++) {
        REAL *to = sums + (ptrdiff_t)b * stride;
        NAME(wide) total[4];
        KAN_UNROLL
        for (int v = 0; v < vectors; v++) total[v] = KAN_WIDE(to + v * KAN_LANES);
        for (int c = 0; c < inputs; c++) {
            const REAL *tile = tiles + (ptrdiff_t)c * KAN_TILE_NUMBERS(k), *value = tile + (k + 1) * b;
            const REAL *w = weight + ((ptrdiff_t)c * rows + row[c * KAN_TILE + b]) * stride;
            const REAL *base = weight + ((ptrdiff_t)(c + 1) * rows - 1) * stride, of_base = tile[KAN_BASE(k) + b];
            KAN_UNROLL
            for (int v = 0; v < vectors; v++) {
                NAME(wide) one = of_base * KAN_WIDE(base + v * KAN_LANES);
                KAN_UNROLL
                for (int q = 0; q <= k; q++) one += value[q] * KAN_WIDE(w + (ptrdiff_t)q * stride + v * KAN_LANES);
                total[v] += one;
            }
        }
        KAN_UNROLL
        for (int v = 0; v < vectors; v++) KAN_WIDE(to + v * KAN_LANES) = total[v];
    }
}

KAN_INLINE void NAME(sum_all_outputs)(const int k, int stride, int rows, int inputs, int m, const REAL *weight, const REAL *tiles,
                                      const int32_t *row, REAL *sums) {
    int j = 0;
    for (; j + 4 * KAN_LANES <= stride; j += 4 * KAN_LANES) NAME(sum_inputs)(k, 4, stride, rows, inputs, m, weight + j, tiles, row, sums + j);
    for (; j + 2 * KAN_LANES <= stride; j += 2 * KAN_LANES) NAME(sum_inputs)(k, 2, stride, rows, inputs, m, weight + j, tiles, row, sums + j);
    for (; j < stride; j += KAN_LANES) NAME(sum_inputs)(k, 1, stride, rows, inputs, m, weight + j, tiles, row, sums + j);
}

/* Add the gradients of the rows of one input, for `vectors` times KAN_LANES outputs. Points are taken in such an `order` that those of a span
 * follow one another, and its k + 1 rows stay in registers. */
KAN_INLINE void NAME(add_to_rows)(const int k, const int vectors, int stride, int m, const REAL *tile, const int32_t *row,
                                  const int32_t *order, const REAL *grad, REAL *to_weight, REAL *to_base) {
    NAME(wide) base[2], total[2 * (KAN_MAX_DEGREE + 1)];
    KAN_UNROLL
    for (int v = 0; v < vectors; v++) base[v] = KAN_WIDE(to_base + v * KAN_LANES);
    for (int at = 0; at < m;) {
        const int here = row[order[at]];
        REAL *to = to_weight + (ptrdiff_t)here * stride;
        KAN_UNROLL
        for (int q = 0; q <= k; q++)
            KAN_UNROLL
            for (int v = 0; v < vectors; v++) total[2 * q + v] = KAN_WIDE(to + (ptrdiff_t)q * stride + v * KAN_LANES);
        for (; at < m && row[order[at]] == here; at++) {
            const int b = order[at];
            const REAL *value = tile + (k + 1) * b, of_base = tile[KAN_BASE(k) + b];
            KAN_UNROLL
            for (int v = 0; v < vectors; v++) {
                const NAME(wide) g = KAN_WIDE(grad + (ptrdiff_t)b * stride + v * KAN_LANES);
                base[v] += of_base * g;
                KAN_UNROLL
                for (int q = 0; q <= k; q++) total[2 * q + v] += value[q] * g;
            }
        }
        KAN_UNROLL
        for (int q = 0; q <= k; q++)
            KAN_UNROLL
            for (int v = 0; v < vectors; v++) KAN_WIDE(to + (ptrdiff_t)q * stride + v * KAN_LANES) = total[2 * q + v];
    }
    KAN_UNROLL
    for (int v = 0; v < vectors; v++) KAN_WIDE(to_base + v * KAN_LANES) = base[v];
}

KAN_INLINE void NAME(add_to_all_rows)(const int k, int stride, int m, const REAL *tile, const int32_t *row, const int32_t *order,
                                      const REAL *grad, REAL *to_weight, REAL *to_base) {
    int j = 0;
    for (; j + 2 * KAN_LANES <= stride; j += 2 * KAN_LANES)
        NAME(add_to_rows)(k, 2, stride, m, tile, row, order, grad + j, to_weight + j, to_base + j);
    for (; j < stride; j += KAN_LANES) NAME(add_to_rows)(k, 1, stride, m, tile, row, order, grad + j, to_weight + j, to_base + j);
}

/* Gradients of the points of one input, for any multiple of KAN_LANES outputs. */
KAN_INLINE void NAME(pull_back_wide)(const int k, int stride, int m, const REAL *weight, const REAL *base, const REAL *tile,
                                     const int32_t *row, const REAL *grad, REAL *below) {
    for (int b = 0; b < m; b++) {
        const REAL *w = weight + (ptrdiff_t)row[b] * stride, *g = grad + (ptrdiff_t)b * stride, *value = tile + KAN_SLOPES(k) + (k + 1) * b;
        const REAL of_base = tile[KAN_BASE_SLOPE(k) + b];
        NAME(wide) total = {0};
        for (int j = 0; j < stride; j += KAN_LANES) {
            NAME(wide) slope = of_base * KAN_WIDE(base + j);
            KAN_UNROLL
            for (int q = 0; q <= k; q++) slope += value[q] * KAN_WIDE(w + (ptrdiff_t)q * stride + j);
            total += slope * KAN_WIDE(g + j);
        }
        below[b] += KAN_SUM(total);
    }
}

/* The points of a tile in the order of their rows. */
static void NAME(sort)(int rows, int m, const int32_t *row, int32_t *order) {
    int32_t count[KAN_SORTED + 1] = {0};
    if (rows > KAN_SORTED) {
        for (int b = 0; b < m; b++) order[b] = b;
        return;
    }
    for (int b = 0; b < m; b++) count[row[b] + 1]++;
    for (int r = 0; r < rows; r++) count[r + 1] += count[r];
    for (int b = 0; b < m; b++) order[count[row[b]]++] = b;
}

/* The sums y (B, O) of the edges to the outputs `from`...`to` at the points `start`...`stop`; or, if `y` is NULL, the values (I, B, O) of
 * all edges at these points. */
KAN_EXPORT void NAME(layer_forward)(const NAME(edges) *e, int start, int stop, int from, int to, char *workspace, REAL *y, REAL *values) {
    const int I = e->grid.inputs, k = e->grid.degree, n = e->grid.functions, rows = KAN_PADDED_ROWS(n, k);
    const int outputs = to - from, stride = NAME(padded)(outputs), many = NAME(inputs_at_once)(e, stride);
    REAL *weight = NAME(take)(&workspace, (ptrdiff_t)many * rows * stride, sizeof(REAL));
    REAL *tiles = NAME(take)(&workspace, (ptrdiff_t)many * KAN_TILE_NUMBERS(k), sizeof(REAL));
    int32_t *row = NAME(take)(&workspace, (ptrdiff_t)many * KAN_TILE, sizeof(int32_t));
    REAL *sums = (REAL *)NAME(take)(&workspace, 0, sizeof(REAL));
    for (int first = start; first < stop; first += KAN_BLOCK) {
        const int last = first + KAN_BLOCK < stop ? first + KAN_BLOCK : stop;
        memset(sums, 0, sizeof(REAL) * (last - first) * stride);
        for (int i = 0; i < I; i += many) {
            const int count = I - i < many ? I - i : many;
            NAME(fold_edges)(e, i, count, from, to, stride, weight);
            for (int t = first; t < last; t += KAN_TILE) {
                const int m = last - t < KAN_TILE ? last - t : KAN_TILE;
                REAL *of_tile = sums + (ptrdiff_t)(t - first) * stride;
                for (int c = 0; c < count; c++)
                    NAME(features_and)(0, &e->grid, i + c, m, e->x + (ptrdiff_t)t * I + i + c, I, tiles + (ptrdiff_t)c * KAN_TILE_NUMBERS(k), row + c * KAN_TILE);
                if (y && stride % KAN_LANES == 0) {
                    if (k == 3)
                        NAME(sum_all_outputs)(3, stride, rows, count, m, weight, tiles, row, of_tile);
                    else
                        NAME(sum_all_outputs)(k, stride, rows, count, m, weight, tiles, row, of_tile);
                    continue;
                }
                for (int c = 0; c < count; c++) {
                    if (!y) memset(of_tile, 0, sizeof(REAL) * m * stride);
                    NAME(forward_edges)(k, n, outputs, stride, m, weight + (ptrdiff_t)c * rows * stride, tiles + (ptrdiff_t)c * KAN_TILE_NUMBERS(k),
                                        row + c * KAN_TILE, NULL, of_tile);
                    for (int b = 0; b < m && !y; b++)
                        memcpy(values + (((ptrdiff_t)(i + c) * e->batch + t + b) * e->outputs + from), of_tile + (ptrdiff_t)b * stride, sizeof(REAL) * outputs);
                }
            }
        }
        for (int b = first; b < last && y; b++)
            memcpy(y + (ptrdiff_t)b * e->outputs + from, sums + (ptrdiff_t)(b - first) * stride, sizeof(REAL) * outputs);
    }
}

/* Gradients for the inputs `first`...`last`. */
KAN_EXPORT void NAME(layer_backward)(const NAME(edges) *e, const NAME(gradients) *to, int first, int last, char *workspace) {
    const int I = e->grid.inputs, B = e->batch, O = e->outputs, k = e->grid.degree, n = e->grid.functions, rows = KAN_PADDED_ROWS(n, k);
    const int stride = NAME(padded)(O), many = NAME(inputs_at_once)(e, stride), weighs = to->weight || to->scaler || to->base;
    const ptrdiff_t each = (ptrdiff_t)rows * stride, each_spans = stride == 1 ? 2 * (ptrdiff_t)rows * (k + 1) : 0;
    REAL *weight = NAME(take)(&workspace, many * each, sizeof(REAL)), *to_weight = NAME(take)(&workspace, many * each, sizeof(REAL));
    REAL *spans = NAME(take)(&workspace, many * each_spans, sizeof(REAL)), *grad = NAME(take)(&workspace, (ptrdiff_t)KAN_TILE * stride, sizeof(REAL));
    REAL *tile = NAME(take)(&workspace, KAN_TILE_NUMBERS(k), sizeof(REAL)), *below = NAME(take)(&workspace, KAN_TILE, sizeof(REAL));
    int32_t *row = NAME(take)(&workspace, KAN_TILE, sizeof(int32_t)), *order = NAME(take)(&workspace, KAN_TILE, sizeof(int32_t));
    for (int i = first; i < last; i += many) {
        const int count = last - i < many ? last - i : many;
        if (to->x) NAME(fold_edges)(e, i, count, 0, O, stride, weight);
        if (weighs) {
            memset(to_weight, 0, sizeof(REAL) * count * each);
            memset(spans, 0, sizeof(REAL) * count * each_spans);
        }
        for (int t = 0; t < B; t += KAN_TILE) {
            const int m = B - t < KAN_TILE ? B - t : KAN_TILE;
            for (int c = 0; c < count; c++) {
                const REAL *g = to->y ? to->y + (ptrdiff_t)t * O : to->values + ((ptrdiff_t)(i + c) * B + t) * O;
                if (stride != O && (c == 0 || !to->y))
                    for (int b = 0; b < m; b++) {
                        memcpy(grad + (ptrdiff_t)b * stride, g + (ptrdiff_t)b * O, sizeof(REAL) * O);
                        memset(grad + (ptrdiff_t)b * stride + O, 0, sizeof(REAL) * (stride - O));
                    }
                if (stride != O) g = grad;
                NAME(features_and)(to->x != NULL, &e->grid, i + c, m, e->x + (ptrdiff_t)t * I + i + c, I, tile, row);
                REAL *own = to_weight + c * each;
                const REAL *w = weight + c * each;
                const int wide = stride % KAN_LANES == 0;
                if (weighs && wide) {
                    NAME(sort)(rows, m, row, order);
                    if (k == 3)
                        NAME(add_to_all_rows)(3, stride, m, tile, row, order, g, own, own + each - stride);
                    else
                        NAME(add_to_all_rows)(k, stride, m, tile, row, order, g, own, own + each - stride);
                } else if (weighs)
                    NAME(backward_edges)(k, n, O, stride, m, tile, row, g, own, spans + c * each_spans);
                if (!to->x) continue;
                memset(below, 0, sizeof(REAL) * m);
                if (wide && k == 3)
                    NAME(pull_back_wide)(3, stride, m, w, w + each - stride, tile, row, g, below);
                else if (wide)
                    NAME(pull_back_wide)(k, stride, m, w, w + each - stride, tile, row, g, below);
                else
                    NAME(pull_back_edges)(k, n, O, stride, m, w, tile, row, g, below, 1);
                for (int b = 0; b < m; b++) to->x[(ptrdiff_t)(t + b) * I + i + c] = below[b];
            }
        }
        if (!weighs) continue;
        if (stride == 1)
            for (int c = 0; c < count; c++) NAME(join_spans)(k, rows, spans + c * each_spans, to_weight + c * each);
        NAME(unfold_edges)(e, to, i, count, stride, to_weight);
    }
}
#undef KAN_WIDE
#undef KAN_SUM
