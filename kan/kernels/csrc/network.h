/* A whole network: its outputs, and an objective with its gradient. Included once for each number type.
 *
 *     F = loss + lamb R,   R = sparsity of the scores V + terms of the coefficients
 *
 * The batch goes through all layers tile by tile. Let phi be the values of the edges, and sigma_ij their standard deviations over the batch,
 * rounded by the corner. The scores are V_ij = sigma_ij/(sigma_i + 0.1), with the deviation sigma_i of the input. The penalty adds to the
 * gradients of the edges' values
 *
 *     A_ij (phi_ij - mean_ij),   A_ij = lamb dR/dV_ij / ((sigma_i + 0.1) (sigma_ij + corner) (B - 1)),
 *
 * and to those of the inputs of hidden layers -(x_i - mean_i)/((B - 1) sigma_i) sum_j lamb dR/dV_ij V_ij/(sigma_i + 0.1); see
 * kan.training.objectives.closed_form. A first pass over the batch finds deviations and loss, a second one the gradients. What the first
 * one has computed is kept if it is little; otherwise the second computes it again, so that memory does not grow with the batch. */

typedef struct {
    NAME(grid) grid;
    int32_t sums, products;                 /* sub-nodes O, and multiplication nodes among the nodes above */
    const int32_t *arities;                 /* of the multiplication nodes; their sub-nodes follow those of the sum nodes */
    const REAL *parameters[KAN_PARAMETERS]; /* coef (I, O, n); scale_base, scale_sp, mask (I, O); maps (O), (N), or NULL for none */
    REAL *gradients[KAN_PARAMETERS];        /* of the same shapes, overwritten; NULL for those that are not wanted */
} NAME(layer);

typedef struct {
    int32_t depth, batch;                   /* layers, and samples B */
    const REAL *x, *y, *weight;             /* (B, I), (B, N), and (B) or NULL */
    double lamb, l1, entropy, coef, coefdiff, corner;
} NAME(problem);

/* What one layer keeps. Arrays over the batch hold all tiles, or a single one. */
typedef struct {
    int nodes, alone, stride, above, rows; /* N, sum nodes, padded outputs, padded nodes, R */
    int plain;                             /* whether the sums are the nodes: no products and no maps */
    REAL *weight, *to_weight, *spans;      /* (I, R, stride), and (I, 2, R, k + 1) for a single output */
    REAL *tiles; int32_t *row;             /* features of I inputs, a tile after another */
    REAL *edges;                           /* (I, tile, stride) for every tile */
    REAL *sums, *subnodes, *products, *values, *grad; /* (tile, stride or above) for every tile; the gradient of one tile alone */
    double *mean, *scatter, *steep;        /* (I, stride): of the edges; dR/dV, then A */
    double *input;                         /* (I, 3): means, scatters, and the factor of the inputs' gradient */
} NAME(work);

typedef struct {
    NAME(problem) problem;
    NAME(layer) *layers;
    NAME(work) *work;
    int tiles, kept, first_known, penalised; /* number of tiles; whether arrays hold all; features of the first layer; R of scores */
    REAL *scratch;                           /* (2, tile, widest) */
    double weights;                          /* sum of the samples' weights */
} NAME(network);

static void NAME(network_release)(NAME(network) *net) {
    if (!net) return;
    for (int l = 0; net->work && l < net->problem.depth; l++) {
        NAME(work) *w = net->work + l;
        void *all[] = {w->weight, w->to_weight, w->spans, w->tiles, w->row, w->edges, w->sums, w->grad, w->mean, w->scatter, w->steep, w->input,
                       w->plain ? NULL : w->subnodes, w->plain ? NULL : w->products, w->plain ? NULL : w->values};
        for (size_t a = 0; a < sizeof all / sizeof *all; a++) kan_release(all[a]);
    }
    kan_release(net->scratch);
    kan_release(net->work);
    kan_release(net->layers);
    kan_release(net);
}

KAN_EXPORT void NAME(network_free)(void *net) { NAME(network_release)(net); }

/* Take over other samples (as many), other grids, weights and parameters (of the same sizes). What they point at must live until the next
 * call of this function. */
KAN_EXPORT void NAME(network_bind)(void *handle, const NAME(problem) *problem, const NAME(layer) *layers) {
    NAME(network) *net = handle;
    net->problem = *problem;
    memcpy(net->layers, layers, problem->depth * sizeof *layers);
    net->first_known = 0;
    net->penalised = problem->lamb != 0 && (problem->l1 != 0 || problem->entropy != 0);
    net->weights = problem->batch;
    if (problem->weight) {
        net->weights = 0;
        for (int b = 0; b < problem->batch; b++) net->weights += problem->weight[b];
    }
}

/* As network_bind, where samples, weights and first grid hold the same numbers as before: what is known of the first layer stays known. */
KAN_EXPORT void NAME(network_rebind)(void *handle, const NAME(problem) *problem, const NAME(layer) *layers) {
    const int known = ((NAME(network) *)handle)->first_known;
    NAME(network_bind)(handle, problem, layers);
    ((NAME(network) *)handle)->first_known = known;
}

/* A network on a batch, or NULL where there is no memory. */
KAN_EXPORT void *NAME(network_new)(const NAME(problem) *problem, const NAME(layer) *layers) {
    NAME(network) *net = kan_allocate(1, sizeof *net);
    if (!net) return NULL;
    const int depth = problem->depth;
    net->problem.depth = depth;
    net->layers = kan_allocate(depth, sizeof *net->layers);
    net->work = kan_allocate(depth, sizeof *net->work);
    if (!net->layers || !net->work) goto failed;
    net->tiles = (problem->batch + KAN_TILE - 1) / KAN_TILE;
    NAME(network_bind)(net, problem, layers);
    size_t numbers = 0, widest = 0;
    for (int l = 0; l < depth; l++) {
        const NAME(layer) *d = net->layers + l;
        NAME(work) *w = net->work + l;
        int factors = 0;
        for (int p = 0; p < d->products; p++) factors += d->arities[p];
        w->alone = d->sums - factors;
        w->nodes = w->alone + d->products;
        w->stride = NAME(padded)(d->sums);
        w->above = NAME(padded)(w->nodes);
        w->rows = KAN_PADDED_ROWS(d->grid.functions, d->grid.degree);
        w->plain = !d->products && !d->parameters[KAN_SUB_SCALE] && !d->parameters[KAN_NODE_SCALE];
        numbers += (size_t)net->tiles * (d->grid.inputs * (KAN_TILE_NUMBERS(d->grid.degree) + KAN_TILE * w->stride) + 2 * KAN_TILE * (w->stride + w->above));
        if ((size_t)w->stride > widest) widest = w->stride;
        if ((size_t)w->above > widest) widest = w->above;
    }
    net->kept = numbers <= KAN_KEPT_NUMBERS;
    const size_t held = net->kept && net->tiles ? net->tiles : 1;
    net->scratch = kan_allocate(2 * widest * KAN_TILE, sizeof(REAL));
    if (!net->scratch) goto failed;
    for (int l = 0; l < depth; l++) {
        const NAME(layer) *d = net->layers + l;
        NAME(work) *w = net->work + l;
        const size_t I = d->grid.inputs, weights = I * w->rows * w->stride;
        w->weight = kan_allocate(weights, sizeof(REAL));
        w->to_weight = kan_allocate(weights, sizeof(REAL));
        w->spans = kan_allocate(w->stride == 1 ? 2 * weights * (d->grid.degree + 1) : 1, sizeof(REAL));
        w->tiles = kan_allocate(held * I * KAN_TILE_NUMBERS(d->grid.degree), sizeof(REAL));
        w->row = kan_allocate(held * I * KAN_TILE, sizeof(int32_t));
        w->edges = kan_allocate(held * I * KAN_TILE * w->stride, sizeof(REAL));
        w->sums = kan_allocate(held * KAN_TILE * w->stride, sizeof(REAL));
        w->subnodes = w->plain ? w->sums : kan_allocate(held * KAN_TILE * w->stride, sizeof(REAL));
        w->products = w->plain ? w->sums : kan_allocate(held * KAN_TILE * w->above, sizeof(REAL));
        w->values = w->plain ? w->sums : kan_allocate(held * KAN_TILE * w->above, sizeof(REAL));
        w->grad = kan_allocate(KAN_TILE * w->above, sizeof(REAL));
        w->mean = kan_allocate(I * w->stride, sizeof(double));
        w->scatter = kan_allocate(I * w->stride, sizeof(double));
        w->steep = kan_allocate(I * w->stride, sizeof(double));
        w->input = kan_allocate(3 * I, sizeof(double));
        if (!w->weight || !w->to_weight || !w->spans || !w->tiles || !w->row || !w->edges || !w->sums || !w->subnodes || !w->products ||
            !w->values || !w->grad || !w->mean || !w->scatter || !w->steep || !w->input)
            goto failed;
    }
    return net;
failed:
    NAME(network_release)(net);
    return NULL;
}

static void NAME(fold)(const NAME(layer) *d, const NAME(work) *w) {
    const int I = d->grid.inputs, O = d->sums, n = d->grid.functions, k = d->grid.degree;
    for (int i = 0; i < I; i++)
        for (int j = 0; j < O; j++) {
            const size_t e = (size_t)i * O + j;
            const REAL mask = d->parameters[KAN_MASK][e], scale = mask * d->parameters[KAN_SCALE_SP][e];
            const REAL *coef = d->parameters[KAN_COEF] + e * n;
            REAL *to = w->weight + ((size_t)i * w->rows + k) * w->stride + j;
            for (int f = 0; f < n; f++) to[(size_t)f * w->stride] = scale * coef[f];
            to[(size_t)(n + k) * w->stride] = mask * d->parameters[KAN_SCALE_BASE][e];
        }
}

/* Means and scatters of columns of a tile are joined with those of `before` earlier samples. */
KAN_INLINE void NAME(join)(int before, int m, double mean, double scatter, double *total_mean, double *total_scatter) {
    const double away = mean - *total_mean, share = (double)m / (before + m);
    *total_mean += away * share;
    *total_scatter += scatter + away * away * before * share;
}

/* Means and scatters of the edges of one input, in a tile, for `width` outputs. */
KAN_INLINE void NAME(edge_statistics)(const int width, int stride, int before, int m, const REAL *edges, double *means, double *scatters) {
    REAL mean[KAN_LANES] = {0}, scatter[KAN_LANES] = {0};
    for (int b = 0; b < m; b++)
        for (int j = 0; j < width; j++) mean[j] += edges[(size_t)b * stride + j];
    for (int j = 0; j < width; j++) mean[j] /= m;
    for (int b = 0; b < m; b++)
        for (int j = 0; j < width; j++) {
            const REAL away = edges[(size_t)b * stride + j] - mean[j];
            scatter[j] += away * away;
        }
    for (int j = 0; j < width; j++) NAME(join)(before, m, mean[j], scatter[j], means + j, scatters + j);
}

/* Add to the gradients of the sums what the penalty adds to those of the edges. */
KAN_INLINE void NAME(add_penalty)(const int width, int stride, int m, const REAL *grad, const REAL *edges, const double *steep,
                                  const double *mean, REAL *restrict own) {
    REAL rate[KAN_LANES], shift[KAN_LANES];
    for (int j = 0; j < width; j++) rate[j] = (REAL)steep[j], shift[j] = (REAL)mean[j];
    for (int b = 0; b < m; b++)
        for (int j = 0; j < width; j++) {
            const size_t at = (size_t)b * stride + j;
            own[at] = grad[at] + rate[j] * (edges[at] - shift[j]);
        }
}

static void NAME(all_edge_statistics)(const NAME(work) *w, int i, int before, int m, const REAL *edges) {
    double *mean = w->mean + (size_t)i * w->stride, *scatter = w->scatter + (size_t)i * w->stride;
    switch (w->stride) {
    case 1: NAME(edge_statistics)(1, 1, before, m, edges, mean, scatter); break;
    case 2: NAME(edge_statistics)(2, 2, before, m, edges, mean, scatter); break;
    case 4: NAME(edge_statistics)(4, 4, before, m, edges, mean, scatter); break;
    case 8: NAME(edge_statistics)(8, 8, before, m, edges, mean, scatter); break;
    default:
        for (int j = 0; j < w->stride; j += KAN_LANES)
            NAME(edge_statistics)(KAN_LANES, w->stride, before, m, edges + j, mean + j, scatter + j);
    }
}

static void NAME(add_all_penalties)(const NAME(work) *w, int i, int m, const REAL *grad, const REAL *edges, REAL *own) {
    const double *steep = w->steep + (size_t)i * w->stride, *mean = w->mean + (size_t)i * w->stride;
    switch (w->stride) {
    case 1: NAME(add_penalty)(1, 1, m, grad, edges, steep, mean, own); break;
    case 2: NAME(add_penalty)(2, 2, m, grad, edges, steep, mean, own); break;
    case 4: NAME(add_penalty)(4, 4, m, grad, edges, steep, mean, own); break;
    case 8: NAME(add_penalty)(8, 8, m, grad, edges, steep, mean, own); break;
    default:
        for (int j = 0; j < w->stride; j += KAN_LANES)
            NAME(add_penalty)(KAN_LANES, w->stride, m, grad + j, edges + j, steep + j, mean + j, own + j);
    }
}

static void NAME(input_statistics)(double *input, int before, int m, const REAL *x) {
    REAL mean = 0, scatter = 0;
    for (int b = 0; b < m; b++) mean += x[b];
    mean /= m;
    for (int b = 0; b < m; b++) scatter += (x[b] - mean) * (x[b] - mean);
    NAME(join)(before, m, mean, scatter, input, input + 1);
}

/* One tile through one layer. With `statistics`, means and scatters are updated. */
static void NAME(forward_layer)(NAME(network) *net, int l, int t, int m, int statistics) {
    const NAME(layer) *d = net->layers + l;
    const NAME(work) *w = net->work + l;
    const int I = d->grid.inputs, k = d->grid.degree, n = d->grid.functions, stride = w->stride, above = w->above, before = t * KAN_TILE;
    const ptrdiff_t apart = l ? net->work[l - 1].above : I;
    const REAL *x = l ? KAN_OF_TILE(net->work[l - 1].values, (size_t)KAN_TILE * apart) : net->problem.x + (size_t)before * I;
    REAL *tiles = KAN_OF_TILE(w->tiles, (size_t)I * KAN_TILE_NUMBERS(k)), *sums = KAN_OF_TILE(w->sums, (size_t)KAN_TILE * stride);
    int32_t *row = KAN_OF_TILE(w->row, (size_t)I * KAN_TILE);
    memset(sums, 0, sizeof(REAL) * m * stride);
    for (int i = 0; i < I; i++) {
        REAL *tile = tiles + (size_t)i * KAN_TILE_NUMBERS(k), *edges = NULL;
        if (l || !net->first_known) NAME(features)(&d->grid, i, m, x + i, apart, tile, row + i * KAN_TILE);
        if (net->penalised) edges = KAN_OF_TILE(w->edges, (size_t)I * KAN_TILE * stride) + (size_t)i * KAN_TILE * stride;
        NAME(forward_edges)(k, n, d->sums, stride, m, w->weight + (size_t)i * w->rows * stride, tile, row + i * KAN_TILE, edges, sums);
        if (statistics) {
            NAME(all_edge_statistics)(w, i, before, m, edges);
            if (l || !net->first_known) NAME(input_statistics)(w->input + 3 * i, before, m, tile + KAN_POINTS(k));
        }
    }
    if (w->plain) return;
    REAL *subnodes = KAN_OF_TILE(w->subnodes, (size_t)KAN_TILE * stride), *products = KAN_OF_TILE(w->products, (size_t)KAN_TILE * above);
    REAL *values = KAN_OF_TILE(w->values, (size_t)KAN_TILE * above);
    const REAL *const *p = d->parameters;
    for (int b = 0; b < m; b++) {
        const REAL *s = sums + (size_t)b * stride;
        REAL *sub = subnodes + (size_t)b * stride, *product = products + (size_t)b * above, *value = values + (size_t)b * above;
        for (int j = 0; j < d->sums; j++) sub[j] = p[KAN_SUB_SCALE] ? p[KAN_SUB_SCALE][j] * s[j] + p[KAN_SUB_BIAS][j] : s[j];
        for (int j = 0; j < w->alone; j++) product[j] = sub[j];
        for (int q = 0, j = w->alone; q < d->products; q++) {
            REAL one = 1;
            for (int a = 0; a < d->arities[q]; a++) one *= sub[j++];
            product[w->alone + q] = one;
        }
        for (int j = 0; j < w->nodes; j++) value[j] = p[KAN_NODE_SCALE] ? p[KAN_NODE_SCALE][j] * product[j] + p[KAN_NODE_BIAS][j] : product[j];
    }
}

/* Gradients of one point's sub-nodes `sub` from those of its products, `node`: of sum nodes they are the same, and of the factors of a product
 * they have the other factors in them. */
KAN_INLINE void NAME(to_subnodes)(const NAME(layer) *d, const NAME(work) *w, const REAL *node, const REAL *sub, REAL *to) {
    for (int j = 0; j < w->alone; j++) to[j] = node[j];
    for (int q = 0, j = w->alone; q < d->products; j += d->arities[q++])
        for (int a = 0; a < d->arities[q]; a++) {
            REAL others = node[w->alone + q];
            for (int c = 0; c < d->arities[q]; c++)
                if (c != a) others *= sub[j + c];
            to[j + a] = others;
        }
}

/* Gradients of one layer at one tile, from w->grad of its nodes; those of the nodes below are written into their w->grad. */
static void NAME(backward_layer)(NAME(network) *net, int l, int t, int m) {
    const NAME(layer) *d = net->layers + l;
    const NAME(work) *w = net->work + l;
    const int I = d->grid.inputs, k = d->grid.degree, n = d->grid.functions, stride = w->stride, above = w->above;
    const REAL *sums = KAN_OF_TILE(w->sums, (size_t)KAN_TILE * stride), *subnodes = KAN_OF_TILE(w->subnodes, (size_t)KAN_TILE * stride);
    const REAL *products = KAN_OF_TILE(w->products, (size_t)KAN_TILE * above);
    const REAL *const *p = d->parameters;
    REAL *const *g = d->gradients;
    REAL *grad = w->plain ? w->grad : net->scratch;
    for (int b = 0; b < m && !w->plain; b++) {
        REAL *node = w->grad + (size_t)b * above, *to = grad + (size_t)b * stride;
        const REAL *sub = subnodes + (size_t)b * stride, *s = sums + (size_t)b * stride;
        for (int j = 0; j < w->nodes; j++) {
            if (g[KAN_NODE_SCALE]) g[KAN_NODE_SCALE][j] += node[j] * products[(size_t)b * above + j];
            if (g[KAN_NODE_BIAS]) g[KAN_NODE_BIAS][j] += node[j];
            if (p[KAN_NODE_SCALE]) node[j] *= p[KAN_NODE_SCALE][j];
        }
        NAME(to_subnodes)(d, w, node, sub, to);
        for (int j = 0; j < d->sums; j++) {
            if (g[KAN_SUB_SCALE]) g[KAN_SUB_SCALE][j] += to[j] * s[j];
            if (g[KAN_SUB_BIAS]) g[KAN_SUB_BIAS][j] += to[j];
            if (p[KAN_SUB_SCALE]) to[j] *= p[KAN_SUB_SCALE][j];
        }
        for (int j = d->sums; j < stride; j++) to[j] = 0;
    }
    const int apart = l ? net->work[l - 1].above : 0;
    REAL *below = l ? net->work[l - 1].grad : NULL, *own = NULL;
    if (below) memset(below, 0, sizeof(REAL) * KAN_TILE * apart);
    const REAL *x = l ? KAN_OF_TILE(net->work[l - 1].values, (size_t)KAN_TILE * apart) : NULL;
    if (net->penalised) own = net->scratch + (size_t)KAN_TILE * stride;
    for (int i = 0; i < I; i++) {
        const REAL *tile = KAN_OF_TILE(w->tiles, (size_t)I * KAN_TILE_NUMBERS(k)) + (size_t)i * KAN_TILE_NUMBERS(k), *of_edges = grad;
        const int32_t *row = KAN_OF_TILE(w->row, (size_t)I * KAN_TILE) + i * KAN_TILE;
        if (own) {
            const REAL *edges = KAN_OF_TILE(w->edges, (size_t)I * KAN_TILE * stride) + (size_t)i * KAN_TILE * stride;
            NAME(add_all_penalties)(w, i, m, grad, edges, own);
            of_edges = own;
        }
        const size_t at = (size_t)i * w->rows * stride;
        NAME(backward_edges)(k, n, d->sums, stride, m, tile, row, of_edges, w->to_weight + at, w->spans + (stride == 1 ? 2 * at * (k + 1) : 0));
        if (below) NAME(pull_back_edges)(k, n, d->sums, stride, m, w->weight + at, tile, row, of_edges, below + i, apart);
        if (below && own) {
            const REAL factor = (REAL)w->input[3 * i + 2], mean = (REAL)w->input[3 * i];
            for (int b = 0; b < m; b++) below[(size_t)b * apart + i] += factor * (x[(size_t)b * apart + i] - mean);
        }
    }
}

/* Gradients of a layer's parameters from those of the folded weights. */
static void NAME(unfold)(const NAME(problem) *problem, const NAME(layer) *d, const NAME(work) *w) {
    const int I = d->grid.inputs, O = d->sums, n = d->grid.functions, k = d->grid.degree;
    REAL *const *g = d->gradients;
    const REAL on_size = (REAL)(problem->lamb * problem->coef / O), on_rise = (REAL)(problem->lamb * problem->coefdiff / O);
    if (w->stride == 1)
        for (int i = 0; i < I; i++)
            NAME(join_spans)(k, w->rows, w->spans + (size_t)i * 2 * w->rows * (k + 1), w->to_weight + (size_t)i * w->rows);
    for (int i = 0; i < I; i++)
        for (int j = 0; j < O; j++) {
            const size_t e = (size_t)i * O + j, first = ((size_t)i * w->rows + k) * w->stride + j;
            const REAL *coef = d->parameters[KAN_COEF] + e * n, *from = w->to_weight + first;
            const REAL mask = d->parameters[KAN_MASK][e], scale = d->parameters[KAN_SCALE_SP][e];
            REAL along = 0;
            for (int f = 0; f < n; f++) {
                const REAL one = from[(size_t)f * w->stride];
                along += one * coef[f];
                if (g[KAN_COEF]) {
                    REAL to = one * (mask * scale);
                    if (on_size != 0) to += on_size * ((coef[f] > 0) - (coef[f] < 0));
                    if (on_rise != 0) {
                        if (f > 0) to += on_rise * ((coef[f] > coef[f - 1]) - (coef[f] < coef[f - 1]));
                        if (f < n - 1) to -= on_rise * ((coef[f + 1] > coef[f]) - (coef[f + 1] < coef[f]));
                    }
                    g[KAN_COEF][e * n + f] = to;
                }
            }
            const REAL base = from[(size_t)(n + k) * w->stride];
            if (g[KAN_SCALE_BASE]) g[KAN_SCALE_BASE][e] = base * mask;
            if (g[KAN_SCALE_SP]) g[KAN_SCALE_SP][e] = along * mask;
            if (g[KAN_MASK]) g[KAN_MASK][e] = base * d->parameters[KAN_SCALE_BASE][e] + along * scale;
        }
}

/* The sparsity of a layer's scores; w->steep becomes the factor A of the module's formula, and w->input the factor of the inputs. */
static double NAME(layer_sparsity)(const NAME(problem) *problem, const NAME(layer) *d, const NAME(work) *w) {
    const int I = d->grid.inputs, O = d->sums, stride = w->stride, degrees = problem->batch > 1 ? problem->batch - 1 : 1;
    const double corner = problem->corner, floor_of_shares = 1e-4, entropy = problem->entropy, inverse_log = 1.4426950408889634;
    double value = 0, *scores = w->steep; /* V until its slopes take its place */
    for (int i = 0; i < I; i++) {
        const double per_input = 1 / (sqrt(w->input[3 * i + 1] / degrees) + 0.1);
        for (int j = 0; j < O; j++) {
            const size_t e = (size_t)i * stride + j;
            const double variance = w->scatter[e] / degrees;
            w->scatter[e] = corner > 0 ? sqrt((variance > 0 || variance != variance ? variance : 0) + corner * corner) - corner : sqrt(variance);
            scores[e] = w->scatter[e] * per_input;
            value += problem->l1 * scores[e];
        }
    }
    /* With P = V/(sum + 1): d/dV of -mean sum P log2(P + floor) along rows, then along columns. */
    double *slope = kan_allocate((size_t)I * stride, sizeof(double));
    if (!slope) return NAN;
    for (int side = 0; side < 2; side++) {
        const int lines = side ? I : O, places = side ? O : I;
        for (int line = 0; line < lines; line++) {
            const size_t start = side ? (size_t)line * stride : (size_t)line, step = side ? 1 : (size_t)stride;
            double sum = 1, along = 0;
            for (int c = 0; c < places; c++) sum += scores[start + c * step];
            for (int c = 0; c < places; c++) {
                const double share = scores[start + c * step] / sum, shifted = share + floor_of_shares, logarithm = log2(shifted);
                const double rate = (logarithm + share / shifted * inverse_log) * (entropy / lines);
                value -= share * logarithm * (entropy / lines);
                along += share * rate;
                slope[start + c * step] -= rate / sum;
            }
            for (int c = 0; c < places; c++) slope[start + c * step] += along / sum;
        }
    }
    for (int i = 0; i < I; i++) {
        const double deviation = sqrt(w->input[3 * i + 1] / degrees), per_input = 1 / (deviation + 0.1);
        double to_input = 0;
        for (int j = 0; j < O; j++) {
            const size_t e = (size_t)i * stride + j;
            const double rate = problem->lamb * (slope[e] + problem->l1), divisor = w->scatter[e] + corner;
            to_input += rate * scores[e] * per_input;
            w->steep[e] = w->scatter[e] > 0 || corner > 0 || w->scatter[e] != w->scatter[e] ? rate * per_input / divisor / degrees : 0;
        }
        for (int j = O; j < stride; j++) w->steep[(size_t)i * stride + j] = 0;
        w->input[3 * i + 2] = deviation != 0 ? -to_input / deviation / degrees : 0;
    }
    kan_release(slope);
    return value;
}

static double NAME(of_coefficients)(const NAME(problem) *problem, const NAME(layer) *d) {
    const int O = d->sums, n = d->grid.functions;
    double size = 0, rise = 0;
    for (int e = 0; e < d->grid.inputs * O; e++) {
        const REAL *coef = d->parameters[KAN_COEF] + (size_t)e * n;
        for (int f = 0; f < n; f++) size += fabs((double)coef[f]);
        for (int f = 1; f < n; f++) rise += fabs((double)coef[f] - coef[f - 1]);
    }
    return (problem->coef * size + problem->coefdiff * rise) / O;
}

static void NAME(forward_tile)(NAME(network) *net, int t, int statistics) {
    const int left = net->problem.batch - t * KAN_TILE, m = left < KAN_TILE ? left : KAN_TILE;
    for (int l = 0; l < net->problem.depth; l++) NAME(forward_layer)(net, l, t, m, statistics);
}

/* The sum of squared errors of a tile, each with the weight of its sample; the gradient of the mean is left at the last nodes. */
static double NAME(squared_error)(NAME(network) *net, int t) {
    const NAME(work) *w = net->work + net->problem.depth - 1;
    const int left = net->problem.batch - t * KAN_TILE, m = left < KAN_TILE ? left : KAN_TILE, N = w->nodes, above = w->above;
    const REAL *values = KAN_OF_TILE(w->values, (size_t)KAN_TILE * above);
    double total = 0;
    for (int b = 0; b < m; b++) {
        const size_t sample = (size_t)t * KAN_TILE + b;
        const REAL weight = net->problem.weight ? net->problem.weight[sample] : 1, factor = (REAL)(2 / (net->weights * N)) * weight;
        REAL sum = 0;
        for (int n = 0; n < N; n++) {
            const REAL error = values[(size_t)b * above + n] - net->problem.y[sample * N + n];
            sum += error * error;
            w->grad[(size_t)b * above + n] = factor * error;
        }
        total += (double)sum * weight;
    }
    return total;
}

static void NAME(prepare)(NAME(network) *net, const NAME(layer) *layers) {
    for (int l = 0; l < net->problem.depth; l++) {
        if (layers) {
            memcpy(net->layers[l].parameters, layers[l].parameters, sizeof layers[l].parameters);
            memcpy(net->layers[l].gradients, layers[l].gradients, sizeof layers[l].gradients);
        }
        NAME(fold)(net->layers + l, net->work + l);
    }
}

static void NAME(clear_gradients)(NAME(network) *net) {
    for (int l = 0; l < net->problem.depth; l++) {
        const NAME(layer) *d = net->layers + l;
        const NAME(work) *w = net->work + l;
        const size_t weights = sizeof(REAL) * d->grid.inputs * w->rows * w->stride;
        memset(w->to_weight, 0, weights);
        if (w->stride == 1) memset(w->spans, 0, 2 * weights * (d->grid.degree + 1));
        for (int p = KAN_SUB_SCALE; p < KAN_PARAMETERS; p++)
            if (d->gradients[p]) memset(d->gradients[p], 0, sizeof(REAL) * (p < KAN_NODE_SCALE ? d->sums : w->nodes));
    }
}

static void NAME(clear_statistics)(NAME(network) *net) {
    for (int l = 0; l < net->problem.depth; l++) {
        const NAME(work) *w = net->work + l;
        const size_t edges = sizeof(double) * net->layers[l].grid.inputs * w->stride;
        memset(w->mean, 0, edges);
        memset(w->scatter, 0, edges);
        if (l || !net->first_known) memset(w->input, 0, sizeof(double) * 3 * net->layers[l].grid.inputs);
    }
}

/* The outputs (B, N) at the present parameters. */
KAN_EXPORT void NAME(network_nodes)(void *handle, const NAME(layer) *layers, REAL *out) {
    NAME(network) *net = handle;
    const int penalised = net->penalised;
    net->penalised = 0;
    NAME(prepare)(net, layers);
    const NAME(work) *w = net->work + net->problem.depth - 1;
    for (int t = 0; t < net->tiles; t++) {
        const int left = net->problem.batch - t * KAN_TILE, m = left < KAN_TILE ? left : KAN_TILE;
        NAME(forward_tile)(net, t, 0);
        const REAL *values = KAN_OF_TILE(w->values, (size_t)KAN_TILE * w->above);
        for (int b = 0; b < m; b++)
            memcpy(out + ((size_t)t * KAN_TILE + b) * w->nodes, values + (size_t)b * w->above, sizeof(REAL) * w->nodes);
    }
    net->penalised = penalised;
    net->first_known = net->kept && !penalised; /* a penalty needs statistics of the inputs, too */
}

/* Objective, loss and penalty into value[0..2]. `layers` gives parameters and gradients, or is NULL for those of before. Without
 * `gradients`, none are computed. If `out_grad` (B, N) is given, it is the gradient of the loss, which is value[1] then. */
KAN_EXPORT void NAME(network_objective)(void *handle, const NAME(layer) *layers, int gradients, const REAL *out_grad, double *value) {
    NAME(network) *net = handle;
    const NAME(problem) *problem = &net->problem;
    const int depth = problem->depth, two_passes = net->penalised;
    const NAME(work) *last = net->work + depth - 1;
    double squares = 0, penalty = 0;
    NAME(prepare)(net, layers);
    if (gradients) NAME(clear_gradients)(net);
    if (two_passes) {
        NAME(clear_statistics)(net);
        for (int t = 0; t < net->tiles; t++) {
            NAME(forward_tile)(net, t, 1);
            if (!out_grad) squares += NAME(squared_error)(net, t);
        }
        for (int l = 0; l < depth; l++) penalty += NAME(layer_sparsity)(problem, net->layers + l, net->work + l);
        net->first_known = net->kept;
    }
    if (gradients || !two_passes)
        for (int t = 0; t < net->tiles; t++) {
            const int left = problem->batch - t * KAN_TILE, m = left < KAN_TILE ? left : KAN_TILE;
            if (!two_passes || !net->kept) NAME(forward_tile)(net, t, 0);
            if (out_grad)
                for (int b = 0; b < m; b++)
                    memcpy(last->grad + (size_t)b * last->above, out_grad + ((size_t)t * KAN_TILE + b) * last->nodes, sizeof(REAL) * last->nodes);
            else {
                const double found = NAME(squared_error)(net, t);
                if (!two_passes) squares += found;
            }
            if (gradients)
                for (int l = depth - 1; l >= 0; l--) NAME(backward_layer)(net, l, t, m);
        }
    net->first_known = net->kept;
    if (problem->lamb != 0 && (problem->coef != 0 || problem->coefdiff != 0))
        for (int l = 0; l < depth; l++) penalty += NAME(of_coefficients)(problem, net->layers + l);
    if (gradients)
        for (int l = 0; l < depth; l++) NAME(unfold)(problem, net->layers + l, net->work + l);
    if (!out_grad) value[1] = squares / (net->weights * last->nodes);
    value[2] = penalty;
    value[0] = value[1] + problem->lamb * penalty;
}
