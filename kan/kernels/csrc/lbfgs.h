/* L-BFGS on the objective of a network: the iterations of one step of kan.solvers.lbfgs, where the method is described. Included once for
 * each number type. The memory of curvature pairs belongs to the caller. */

#ifndef KAN_LBFGS_H
#define KAN_LBFGS_H
#define KAN_ARMIJO 1e-4
#define KAN_CURVATURE 0.9
#define KAN_MAX_RELATIVE_RISE 1e-6
#define KAN_MAX_LINE_SEARCH 25
#define KAN_MIN_COSINE 1e-12
#define KAN_BUFFERS 4

/* Where a parameter lies in the vector of all. */
typedef struct {
    int32_t layer, parameter;
    int64_t offset;
} kan_block;

/* A point on the line of a search, and the buffer that its gradient is in; -1 for the start. */
typedef struct {
    double t, loss, slope;
    int buffer;
} kan_point;

KAN_INLINE int kan_point_is_finite(kan_point p) { return isfinite(p.loss) && isfinite(p.slope); }

KAN_INLINE double kan_minimiser_of_cubic(kan_point a, kan_point b) {
    const double d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t), square = d1 * d1 - a.slope * b.slope;
    if (!(square >= 0)) return (a.t + b.t) / 2;
    const double d2 = copysign(sqrt(square), b.t - a.t), denominator = b.slope - a.slope + 2 * d2;
    return denominator == 0 ? (a.t + b.t) / 2 : b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator;
}
#endif

typedef struct {
    int64_t length;                          /* of the vector of all parameters */
    int32_t blocks, size, count, spare;      /* parameters; largest number of pairs, their number, and the row for the next one */
    int32_t max_iter, max_eval, line_search, known; /* known: whether loss and gradient are those of x already */
    double lr, tolerance_grad, tolerance_change, tolerance_ys, stalled; /* stalled: a loss from which there is no way down, or NaN */
    const kan_block *block;
    REAL *x, *grad, *pairs;                  /* (length); (length); (2, size + 1, length): steps, and changes of the gradient */
    double *r_inverse, *yy, *d;              /* (size, size), (size, size), (size) */
    int64_t *order;                          /* (size): rows of the pairs, the oldest first */
    double loss, first;                      /* at the end, and at the first evaluation */
    int32_t evaluations, iterations;
} NAME(lbfgs);

typedef struct {
    NAME(network) *net;
    NAME(lbfgs) *s;
    REAL *direction, *moved, *gradients;          /* (length), (length), (KAN_BUFFERS, length) */
    double *small;                           /* (4, size + 1); the first two rows are the products of all pairs with the gradient */
    int products;                            /* whether these are known */
} NAME(descent);

static double NAME(dot)(const REAL *a, const REAL *b, int64_t n) {
    double total = 0;
    for (int64_t j = 0; j < n; j++) total += (double)a[j] * (double)b[j];
    return total;
}

/* The inner products of a vector with two others, in one pass over its memory. */
static double NAME(dot_two)(const REAL *a, const REAL *b, const REAL *c, int64_t n, double *with_c) {
    double one = 0, other = 0;
    for (int64_t j = 0; j < n; j++) {
        one += (double)a[j] * (double)b[j];
        other += (double)a[j] * (double)c[j];
    }
    *with_c = other;
    return one;
}

static double NAME(largest)(const REAL *a, int64_t n) {
    double found = 0;
    for (int64_t j = 0; j < n; j++) {
        const double size = fabs((double)a[j]);
        found = size > found || size != size ? size : found;
    }
    return found;
}

static double NAME(evaluate)(NAME(descent) *at, REAL *x, REAL *grad) {
    double value[3];
    for (int p = 0; p < at->s->blocks; p++) {
        const kan_block *block = at->s->block + p;
        at->net->layers[block->layer].parameters[block->parameter] = x + block->offset;
        at->net->layers[block->layer].gradients[block->parameter] = grad + block->offset;
    }
    NAME(network_objective)(at->net, NULL, 1, NULL, value);
    at->s->evaluations++;
    return value[0];
}

static const REAL *NAME(gradient_of)(const NAME(descent) *at, kan_point p) {
    return p.buffer < 0 ? at->s->grad : at->gradients + p.buffer * at->s->length;
}

/* The point at the step length t. Its gradient takes a buffer that none of the points a and b has. */
static kan_point NAME(along)(NAME(descent) *at, double t, kan_point a, kan_point b) {
    const int64_t n = at->s->length;
    kan_point p = {t, 0, 0, 0};
    while (p.buffer == a.buffer || p.buffer == b.buffer) p.buffer++;
    for (int64_t j = 0; j < n; j++) at->moved[j] = at->s->x[j] + (REAL)t * at->direction[j];
    p.loss = NAME(evaluate)(at, at->moved, at->gradients + p.buffer * n);
    p.slope = NAME(dot)(at->gradients + p.buffer * n, at->direction, n);
    return p;
}

static int NAME(is_low)(kan_point p, kan_point start) { return p.loss <= start.loss + KAN_ARMIJO * p.t * start.slope; }

static int NAME(is_accepted)(kan_point p, kan_point start) {
    if (fabs(p.slope) > -KAN_CURVATURE * start.slope || !kan_point_is_finite(p)) return 0;
    return NAME(is_low)(p, start) || (p.loss <= start.loss + KAN_MAX_RELATIVE_RISE * fabs(start.loss) &&
                                      p.slope <= (2 * KAN_ARMIJO - 1) * start.slope);
}

/* A point that satisfies the strong Wolfe conditions, or else the best one evaluated. */
static kan_point NAME(strong_wolfe)(NAME(descent) *at, kan_point start, double t) {
    kan_point previous = start, low, high;
    int budget = KAN_MAX_LINE_SEARCH;
    for (;;) {
        const kan_point p = NAME(along)(at, t, previous, start);
        budget--;
        if (NAME(is_accepted)(p, start)) return p;
        if (!kan_point_is_finite(p) || !NAME(is_low)(p, start) || (previous.t > 0 && p.loss >= previous.loss)) {
            low = previous;
            high = p;
            break;
        }
        if (p.slope >= 0) {
            low = p;
            high = previous;
            break;
        }
        if (!budget) return p;
        const double cubic = kan_minimiser_of_cubic(previous, p), least = p.t + 0.01 * (p.t - previous.t);
        t = cubic > least ? cubic : least;
        t = t < 10 * p.t ? t : 10 * p.t;
        previous = p;
    }
    while (budget > 0 && fabs(high.t - low.t) * fabs(start.slope) > 1e-12 * fabs(start.loss)) {
        const double width = fabs(high.t - low.t), left = low.t < high.t ? low.t : high.t;
        t = kan_point_is_finite(high) ? kan_minimiser_of_cubic(low, high) : (low.t + high.t) / 2;
        t = t > left + 0.1 * width ? t : left + 0.1 * width;
        t = t < left + 0.9 * width ? t : left + 0.9 * width;
        const kan_point p = NAME(along)(at, t, low, high);
        budget--;
        if (NAME(is_accepted)(p, start)) return p;
        if (!kan_point_is_finite(p) || !NAME(is_low)(p, start) || p.loss >= low.loss)
            high = p;
        else {
            if (p.slope * (high.t - low.t) >= 0) high = low;
            low = p;
        }
    }
    return low;
}

/* The direction -H g from the compact form of H. */
static void NAME(find_direction)(NAME(descent) *at) {
    NAME(lbfgs) *s = at->s;
    const int64_t n = s->length;
    const int count = s->count, size = s->size;
    if (!count) {
        for (int64_t j = 0; j < n; j++) at->direction[j] = -s->grad[j];
        return;
    }
    double *p = at->small, *q = p + size + 1, *v = q + size + 1, *u = v + size + 1;
    const double gamma = s->d[count - 1] / s->yy[(size_t)(count - 1) * size + count - 1];
    for (int a = 0; a < count && !at->products; a++) {
        p[a] = NAME(dot)(s->pairs + s->order[a] * n, s->grad, n);
        q[a] = NAME(dot)(s->pairs + (size + 1 + s->order[a]) * n, s->grad, n);
    }
    for (int a = 0; a < count; a++) {
        v[a] = 0;
        for (int b = a; b < count; b++) v[a] += s->r_inverse[(size_t)a * size + b] * p[b];
    }
    for (int a = 0; a < count; a++) {
        double sum = 0;
        for (int b = 0; b < count; b++) sum += s->yy[(size_t)a * size + b] * v[b];
        u[a] = s->d[a] * v[a] + gamma * (sum - q[a]);
    }
    for (int64_t j = 0; j < n; j++) at->direction[j] = (REAL)-gamma * s->grad[j];
    for (int a = 0; a < count; a++) {
        double w = 0;
        for (int b = 0; b <= a; b++) w += u[b] * s->r_inverse[(size_t)b * size + a];
        const REAL *step = s->pairs + s->order[a] * n, *change = s->pairs + (size + 1 + s->order[a]) * n;
        const REAL of_step = (REAL)-w, of_change = (REAL)(gamma * v[a]);
        for (int64_t j = 0; j < n; j++) at->direction[j] += of_step * step[j] + of_change * change[j];
    }
}

/* Add the pair that is in the spare row, if its curvature is above the least and round-off. On the way the products with the new gradient
 * are found. */
static void NAME(remember)(NAME(descent) *at) {
    NAME(lbfgs) *s = at->s;
    const int64_t n = s->length;
    const int size = s->size;
    REAL *step = s->pairs + (int64_t)s->spare * n, *change = s->pairs + (int64_t)(size + 1 + s->spare) * n;
    const double ss = NAME(dot)(step, step, n), sy = NAME(dot)(step, change, n), yy = NAME(dot)(change, change, n);
    if (!(sy > s->tolerance_ys && sy > KAN_MIN_COSINE * sqrt(ss * yy)) || !isfinite(yy)) {
        memset(step, 0, n * sizeof *step); /* its weight in a direction is zero, but zero times infinity is NaN */
        memset(change, 0, n * sizeof *change);
        at->products = 0;
        return;
    }
    if (s->count == size) {
        s->count--;
        memmove(s->order, s->order + 1, s->count * sizeof *s->order);
        memmove(s->d, s->d + 1, s->count * sizeof *s->d);
        for (int a = 0; a < s->count; a++) {
            memmove(s->r_inverse + (size_t)a * size, s->r_inverse + (size_t)(a + 1) * size + 1, s->count * sizeof(double));
            memmove(s->yy + (size_t)a * size, s->yy + (size_t)(a + 1) * size + 1, s->count * sizeof(double));
        }
    }
    const int count = s->count;
    double *p = at->small, *q = p + size + 1, *s_y = q + size + 1;
    for (int a = 0; a < count; a++) {
        s_y[a] = NAME(dot_two)(s->pairs + s->order[a] * n, change, s->grad, n, p + a);
        s->yy[(size_t)a * size + count] = s->yy[(size_t)count * size + a] =
            NAME(dot_two)(s->pairs + (size + 1 + s->order[a]) * n, change, s->grad, n, q + a);
    }
    p[count] = NAME(dot)(step, s->grad, n);
    q[count] = NAME(dot)(change, s->grad, n);
    at->products = 1;
    for (int a = 0; a < count; a++) {
        double sum = 0;
        for (int b = a; b < count; b++) sum += s->r_inverse[(size_t)a * size + b] * s_y[b];
        s->r_inverse[(size_t)a * size + count] = -sum / sy;
        s->r_inverse[(size_t)count * size + a] = 0;
    }
    s->r_inverse[(size_t)count * size + count] = 1 / sy;
    s->yy[(size_t)count * size + count] = yy;
    s->d[count] = sy;
    s->order[s->count++] = s->spare;
    s->spare = (s->spare + 1) % (size + 1);
}

static void NAME(iterate)(NAME(descent) *at) {
    NAME(lbfgs) *s = at->s;
    const int64_t n = s->length;
    for (int iteration = 0; iteration < s->max_iter; iteration++) {
        int fresh = s->count == 0;
        NAME(find_direction)(at);
        double slope = NAME(dot)(s->grad, at->direction, n);
        if (!fresh && !(slope < 0)) {
            s->count = 0;
            fresh = 1;
            NAME(find_direction)(at);
            slope = NAME(dot)(s->grad, at->direction, n);
        }
        if (!(slope < 0)) return;
        s->iterations++;
        double t = s->lr;
        if (fresh) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++) sum += fabs((double)s->grad[j]);
            t *= sum > 1 ? 1 / sum : 1;
        }
        const kan_point start = {0, s->loss, slope, -1};
        const kan_point new = s->line_search ? NAME(strong_wolfe)(at, start, t) : NAME(along)(at, t, start, start);
        const REAL *grad = NAME(gradient_of)(at, new);
        const double change = fabs(new.loss - s->loss);
        const int idle = change < s->tolerance_change && NAME(dot)(grad, grad, n) >= NAME(dot)(s->grad, s->grad, n);
        if (!kan_point_is_finite(new) || new.t == 0 || idle) { /* there is no better point on this line */
            if (fresh) {
                s->stalled = s->loss;
                return;
            }
            s->count = 0;
            continue;
        }
        REAL *step = s->pairs + (int64_t)s->spare * n, *of_grad = s->pairs + (int64_t)(s->size + 1 + s->spare) * n;
        double longest = 0;
        for (int64_t j = 0; j < n; j++) {
            step[j] = at->direction[j] * (REAL)new.t;
            of_grad[j] = grad[j] - s->grad[j];
            s->x[j] += step[j];
            longest = fabs((double)step[j]) > longest ? fabs((double)step[j]) : longest;
        }
        memcpy(s->grad, grad, n * sizeof *grad);
        s->loss = new.loss;
        NAME(remember)(at);
        if (s->evaluations >= s->max_eval || change < s->tolerance_change ||
            (s->tolerance_grad > 0 && NAME(largest)(s->grad, n) <= s->tolerance_grad) ||
            (s->tolerance_change > 0 && longest <= s->tolerance_change))
            return;
    }
}

/* Iterations of one step. `layers` gives the parameters that are not in x. Returns 0, or 1 where there is no memory. */
KAN_EXPORT int NAME(lbfgs_step)(void *network, const NAME(layer) *layers, NAME(lbfgs) *s) {
    NAME(descent) at = {network, s, NULL, NULL, NULL, NULL, 0};
    const size_t n = s->length;
    REAL *numbers = kan_allocate((2 + KAN_BUFFERS) * n, sizeof(REAL));
    at.small = kan_allocate(4 * ((size_t)s->size + 1), sizeof(double));
    int failed = !numbers || !at.small;
    if (!failed) {
        at.direction = numbers;
        at.moved = numbers + n;
        at.gradients = numbers + 2 * n;
        for (int l = 0; l < at.net->problem.depth; l++) at.net->layers[l] = layers[l];
        s->evaluations = s->iterations = 0;
        if (!s->known) s->loss = NAME(evaluate)(&at, s->x, s->grad);
        s->first = s->loss;
        if (s->loss != s->stalled && isfinite(s->loss) && !(NAME(largest)(s->grad, n) <= s->tolerance_grad)) NAME(iterate)(&at);
    }
    kan_release(numbers);
    kan_release(at.small);
    return failed;
}
