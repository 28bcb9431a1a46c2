/* Normal equations of the residuals of a network, J'J and J'r, with r = (output - label) times the root of its share in the mean squared
 * error. Included once for each number type.
 *
 * The derivative of a residual with respect to a weight of edge (i, j) is delta_j psi_im, with the sensitivity delta_j of the residual to
 * the sum j, and only k + 2 of the features psi of a point are not zero. J'J is therefore added up from blocks of k + 2 by k + 2 for every
 * pair of edges, without the Jacobian: O(E^2 k^2) operations for E edges and a point, whatever the number of functions. */

/* The weights of one edge that a point reaches: their derivatives (the base function's last), and the place of the first function. */
typedef struct {
    REAL value[KAN_MAX_DEGREE + 2];
    int64_t first;
} NAME(reach);

/* Sensitivities of output n of a tile to the sums of all layers; those of layer l go into w->grad, padded as its sums are. */
static void NAME(sensitivities)(NAME(network) *net, int t, int m, int n, REAL *all) {
    for (int l = net->problem.depth - 1; l >= 0; l--) {
        const NAME(layer) *d = net->layers + l;
        const NAME(work) *w = net->work + l;
        const int I = d->grid.inputs, k = d->grid.degree, stride = w->stride, above = w->above;
        const REAL *subnodes = KAN_OF_TILE(w->subnodes, (size_t)KAN_TILE * stride);
        const REAL *const *p = d->parameters;
        if (l == net->problem.depth - 1) {
            memset(w->grad, 0, sizeof(REAL) * KAN_TILE * above);
            for (int b = 0; b < m; b++) {
                const double share = net->problem.weight ? net->problem.weight[(size_t)t * KAN_TILE + b] : 1;
                w->grad[(size_t)b * above + n] = (REAL)sqrt(share / (net->weights * w->nodes));
            }
        }
        REAL *grad = all;
        for (int b = 0; b < m; b++) {
            REAL *node = w->grad + (size_t)b * above, *to = grad + (size_t)b * stride;
            const REAL *sub = subnodes + (size_t)b * stride;
            for (int j = 0; j < w->nodes; j++)
                if (p[KAN_NODE_SCALE]) node[j] *= p[KAN_NODE_SCALE][j];
            NAME(to_subnodes)(d, w, node, sub, to);
            for (int j = d->sums; j < stride; j++) to[j] = 0;
            if (p[KAN_SUB_SCALE])
                for (int j = 0; j < d->sums; j++) to[j] *= p[KAN_SUB_SCALE][j];
        }
        if (l) {
            const int apart = net->work[l - 1].above;
            memset(net->work[l - 1].grad, 0, sizeof(REAL) * KAN_TILE * apart);
            for (int i = 0; i < I; i++)
                NAME(pull_back_edges)(k, d->grid.functions, d->sums, stride, m, w->weight + (size_t)i * w->rows * stride,
                                      KAN_OF_TILE(w->tiles, (size_t)I * KAN_TILE_NUMBERS(k)) + (size_t)i * KAN_TILE_NUMBERS(k),
                                      KAN_OF_TILE(w->row, (size_t)I * KAN_TILE) + i * KAN_TILE, grad, net->work[l - 1].grad + i, apart);
        }
        all += (size_t)KAN_TILE * stride;
    }
}

/* Blocks of all pairs of edges at one point. Products of functions with functions go into `gram` (F, F), those of functions and, below
 * them, base functions with base functions into `mixed` (F + E, padded), where one point reaches whole rows. `bases` (padded) are the
 * derivatives with respect to the weights of the base functions. */
KAN_INLINE void NAME(add_products)(const int k, int edges, int padded, const NAME(reach) *reach, const REAL *bases, REAL residual, int64_t size,
                                   REAL *restrict gram, REAL *restrict mixed, REAL *restrict total) {
    for (int e = 0; e < edges; e++) {
        REAL own[KAN_MAX_DEGREE + 2];
        for (int q = 0; q <= k + 1; q++) own[q] = reach[e].value[q];
        REAL *to = total + reach[e].first, *rows = gram + reach[e].first * size, *row_of_base = mixed + (size + e) * padded;
        for (int q = 0; q <= k; q++) to[q] += own[q] * residual;
        total[size + e] += own[k + 1] * residual;
        for (int c = 0; c < padded; c += KAN_LANES) {
            REAL *of_functions = mixed + reach[e].first * padded + c;
            KAN_UNROLL
            for (int q = 0; q <= k; q++) *(NAME(lanes) *)(of_functions + (int64_t)q * padded) += own[q] * *(const NAME(lanes) *)(bases + c);
            *(NAME(lanes) *)(row_of_base + c) += own[k + 1] * *(const NAME(lanes) *)(bases + c);
        }
        for (int f = 0; f <= e; f++) {
            const REAL *value = reach[f].value;
            const int64_t first = reach[f].first;
            if (k == 3) {
                const NAME(v4) four = *(const NAME(v4) *)value;
                KAN_UNROLL
                for (int q = 0; q <= k; q++) *(NAME(v4) *)(rows + q * size + first) += own[q] * four;
                continue;
            }
            for (int q = 0; q <= k; q++)
                for (int c = 0; c <= k; c++) rows[q * size + first + c] += own[q] * value[c];
        }
    }
}

/* J'J (size, size) and J'r (size) in the columns that are asked for, and the mean squared error in value[1]. `base` and `functions` (I, O)
 * of every layer are the columns of its weights: that of the base function, and the first one of the functions; -1 where these are not
 * trained. Returns 0, or 1 where there is no memory. */
KAN_EXPORT int NAME(network_normal)(void *handle, const NAME(layer) *layers, const int32_t *const *base, const int32_t *const *functions,
                                    int64_t size, REAL *gram, REAL *total, double *value) {
    NAME(network) *net = handle;
    const int depth = net->problem.depth, penalised = net->penalised, N = net->work[depth - 1].nodes;
    int64_t edges = 0, width = 0;
    size_t sums = 0;
    for (int l = 0; l < depth; l++) {
        edges += (int64_t)net->layers[l].grid.inputs * net->layers[l].sums;
        width += (int64_t)net->layers[l].grid.inputs * net->layers[l].sums * net->layers[l].grid.functions;
        sums += (size_t)KAN_TILE * net->work[l].stride;
    }
    const int64_t rows = width + edges, padded = (edges + KAN_LANES - 1) / KAN_LANES * KAN_LANES;
    REAL *all = kan_allocate(sums, sizeof(REAL)), *matrix = kan_allocate(width * width, sizeof(REAL)), *vector = kan_allocate(rows, sizeof(REAL));
    REAL *mixed = kan_allocate(rows * padded, sizeof(REAL)), *bases = kan_allocate(padded, sizeof(REAL));
    NAME(reach) *reach = kan_allocate(edges, sizeof *reach);
    int64_t *column = kan_allocate(rows, sizeof *column);
    const int failed = !all || !matrix || !vector || !mixed || !bases || !reach || !column;
    if (failed) goto done;
    net->penalised = 0;
    NAME(prepare)(net, layers);
    double squares = 0;
    int cubic = 1;
    for (int l = 0; l < depth; l++) cubic = cubic && net->layers[l].grid.degree == 3;
    const int degree = net->layers[0].grid.degree;
    for (int t = 0; t < net->tiles; t++) {
        const int left = net->problem.batch - t * KAN_TILE, m = left < KAN_TILE ? left : KAN_TILE;
        NAME(forward_tile)(net, t, 0);
        for (int n = 0; n < N; n++) {
            NAME(sensitivities)(net, t, m, n, all);
            for (int b = 0; b < m; b++) {
                int64_t place = 0;
                int e = 0;
                for (int l = 0; l < depth; l++) {
                    const NAME(layer) *d = net->layers + l;
                    const NAME(work) *w = net->work + l;
                    const int I = d->grid.inputs, k = d->grid.degree, f = d->grid.functions;
                    const REAL *tiles = KAN_OF_TILE(w->tiles, (size_t)I * KAN_TILE_NUMBERS(k));
                    const int32_t *row = KAN_OF_TILE(w->row, (size_t)I * KAN_TILE);
                    const REAL *delta = all;
                    for (int above = depth - 1; above > l; above--) delta += (size_t)KAN_TILE * net->work[above].stride;
                    delta += (size_t)b * w->stride;
                    for (int i = 0; i < I; i++) {
                        const REAL *tile = tiles + (size_t)i * KAN_TILE_NUMBERS(k);
                        int first = row[i * KAN_TILE + b] - k, shift = 0;
                        /* A window that reaches over the ends of the functions is moved inside; what it loses is zero. */
                        if (first < 0) shift = -first;
                        if (first > f - 1 - k) shift = f - 1 - k - first;
                        for (int j = 0; j < d->sums; j++, e++, place += f) {
                            NAME(reach) *r = reach + e;
                            for (int q = 0; q <= k; q++) {
                                const int from = q + shift;
                                r->value[q] = from >= 0 && from <= k ? delta[j] * tile[(k + 1) * b + from] : 0;
                            }
                            r->value[k + 1] = bases[e] = delta[j] * tile[KAN_BASE(k) + b];
                            r->first = place + first + shift;
                        }
                    }
                }
                const NAME(work) *last = net->work + depth - 1;
                const size_t sample = (size_t)t * KAN_TILE + b;
                const double share = net->problem.weight ? net->problem.weight[sample] : 1;
                const REAL out = KAN_OF_TILE(last->values, (size_t)KAN_TILE * last->above)[(size_t)b * last->above + n];
                const REAL residual = (out - net->problem.y[sample * N + n]) * (REAL)sqrt(share / (net->weights * N));
                squares += (double)residual * residual;
                if (cubic)
                    NAME(add_products)(3, (int)edges, (int)padded, reach, bases, residual, width, matrix, mixed, vector);
                else
                    NAME(add_products)(degree, (int)edges, (int)padded, reach, bases, residual, width, matrix, mixed, vector);
            }
        }
    }
    net->penalised = penalised;
    net->first_known = net->kept && !penalised;
    value[1] = squares;
    int64_t place = 0, place_of_base = width;
    for (int l = 0; l < depth; l++)
        for (int e = 0; e < net->layers[l].grid.inputs * net->layers[l].sums; e++) {
            for (int q = 0; q < net->layers[l].grid.functions; q++) column[place++] = functions[l][e] < 0 ? -1 : functions[l][e] + q;
            column[place_of_base++] = base[l][e];
        }
    for (int64_t a = 0; a < rows; a++) {
        if (column[a] < 0) continue;
        total[column[a]] = vector[a];
        for (int64_t b = 0; a < width && b <= a; b++) /* of an edge's own block both triangles have been filled */
            if (column[b] >= 0) gram[column[a] * size + column[b]] = gram[column[b] * size + column[a]] = matrix[a * width + b];
        for (int64_t b = 0; b < edges; b++)
            if (column[width + b] >= 0)
                gram[column[a] * size + column[width + b]] = gram[column[width + b] * size + column[a]] = mixed[a * padded + b];
    }
done:
    kan_release(all);
    kan_release(matrix);
    kan_release(vector);
    kan_release(mixed);
    kan_release(bases);
    kan_release(reach);
    kan_release(column);
    return failed;
}
