/* Features at points: the base function and the splines that are not zero there, with slopes. Included once for each number type.
 *
 * Splines are polynomials in u = (x - t_s)/(t_{s+1} - t_s) on the span s; `piece` holds for each of the spans
 * -1 ... P-1 of an input the left knot, 1/width and the coefficients [power][function], as made by kan.bases.spline_table. */

/* Outputs that are processed together: the lanes of the longest vector register. */
#ifdef KAN_DOUBLE
#define KAN_LANES 8
#else
#define KAN_LANES 16
#endif

typedef KAN_VECTOR(REAL, 2) NAME(v2);
typedef KAN_VECTOR(REAL, 4) NAME(v4);
typedef KAN_VECTOR(REAL, 8) NAME(v8);
typedef KAN_VECTOR(REAL, KAN_LANES) NAME(lanes);
#define KAN_LOAD(W, at) (*(const NAME(v##W) *)(at))
#define KAN_AT(W, at) (*(NAME(v##W) *)(at))

typedef struct {
    int32_t inputs, functions, degree, base; /* I, n, k, and the base function */
    int32_t uniform;                         /* whether knots are equidistant; functions fade to zero outside then */
    const REAL *knots;                       /* (I, P) with P = n + k + 1 */
    const REAL *piece;                       /* (I, P + 1, 2 + (k + 1)^2) */
} NAME(grid);

/* exp(x), to one or two units in the last place; x is moved to where a number can hold the result. */
KAN_INLINE REAL NAME(exp)(REAL x) {
#ifdef KAN_DOUBLE
    union { REAL number; uint64_t bits; } power;
    x = x > 708 ? 708 : x;
    x = x < -708 ? -708 : x;
    const REAL scaled = x * 1.4426950408889634;
    const int32_t whole = x == x ? (int32_t)(scaled + (scaled > 0 ? 0.5 : -0.5)) : 0;
    const REAL r = (x - whole * 6.93145751953125e-1) - whole * 1.42860682030941723212e-6;
    power.bits = (uint64_t)(int64_t)(whole + 1023) << 52;
    REAL p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    return (p * r + 1.0) * power.number;
#else
    union { REAL number; uint32_t bits; } power;
    x = x > 87 ? 87 : x;
    x = x < -87 ? -87 : x;
    const REAL scaled = x * 1.44269504f;
    const int32_t whole = x == x ? (int32_t)(scaled + (scaled > 0 ? 0.5f : -0.5f)) : 0;
    const REAL r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    power.bits = (uint32_t)(whole + 127) << 23;
    REAL p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    return (p * r + 1.0f) * power.number;
#endif
}

/* The base function and its slope at m points. Products with zero let NaN and infinity through. */
static void NAME(base)(int base, int m, const REAL *x, REAL *restrict value, REAL *restrict slope) {
    switch (base) {
    case KAN_ZERO:
        for (int b = 0; b < m; b++) value[b] = x[b] * 0, slope[b] = 0;
        break;
    case KAN_IDENTITY:
        for (int b = 0; b < m; b++) value[b] = x[b], slope[b] = 1;
        break;
    case KAN_SILU:
        for (int b = 0; b < m; b++) {
            const REAL sigmoid = 1 / (1 + NAME(exp)(-x[b]));
            value[b] = x[b] * sigmoid;
            slope[b] = sigmoid + value[b] * (1 - sigmoid);
        }
        break;
    case KAN_TANH:
        for (int b = 0; b < m; b++) {
            const REAL t = 1 - 2 / (1 + NAME(exp)(2 * x[b]));
            value[b] = t;
            slope[b] = (1 - t) * (1 + t);
        }
        break;
    default:
        for (int b = 0; b < m; b++) {
            const REAL below = (REAL)(0.5 * erfc(-(double)x[b] * 0.70710678118654752440)); /* the normal distribution function */
            value[b] = x[b] * below;
            slope[b] = below + x[b] * (REAL)0.39894228040143267794 * NAME(exp)(-x[b] * x[b] / 2);
        }
    }
}

/* For each point the number of knots at or below it; for a constant function (degree 0) the last interval is closed. */
KAN_INLINE void NAME(search)(const int k, int m, const REAL *x, const REAL *knots, int count, int32_t *restrict position) {
    for (int b = 0; b < m; b++) position[b] = 0;
    if (count <= KAN_COUNTED)
        for (int j = 0; j < count; j++)
            for (int b = 0; b < m; b++) position[b] += knots[j] <= x[b];
    else {
        for (int length = count; length > 1;) {
            const int half = length >> 1;
            for (int b = 0; b < m; b++) position[b] += knots[position[b] + half - 1] <= x[b] ? half : 0;
            length -= half;
        }
        for (int b = 0; b < m; b++) position[b] += knots[position[b]] <= x[b];
    }
    if (k == 0)
        for (int b = 0; b < m; b++) position[b] -= x[b] == knots[count - 1];
}

/* On equidistant knots, whose pieces are the same on all spans, the span of each point. Outside of the knots all functions are 0. */
KAN_INLINE void NAME(locate)(int m, const REAL *x, const REAL *knots, int count, REAL inverse, int32_t *restrict row, REAL *restrict inside,
                             REAL *restrict u) {
    const REAL first = knots[0], last = knots[count - 1], top = (REAL)(count - 2);
    for (int b = 0; b < m; b++) {
        REAL place = (x[b] - first) * inverse;
        place = place > 0 ? place : 0; /* of NaN, too */
        place = place < top ? place : top;
        row[b] = (int32_t)place;
    }
    for (int b = 0; b < m; b++) {
        inside[b] = x[b] < first ? 0 : x[b] >= last ? 0 : 1; /* NaN counts as inside */
        u[b] = inside[b] != 0 ? (x[b] - knots[row[b]]) * inverse : 0;
    }
}

/* The local splines of one point and their slopes, from u in its span and the coefficients [power][function] there. */
KAN_INLINE void NAME(horner)(const int k, const int sloped, REAL u, REAL inverse, REAL factor, const REAL *c, REAL *restrict values,
                             REAL *restrict slopes) {
    if (k == 3) {
        const NAME(v4) first = KAN_LOAD(4, c + 12), second = first * u + KAN_LOAD(4, c + 8), third = second * u + KAN_LOAD(4, c + 4);
        KAN_AT(4, values) = (third * u + KAN_LOAD(4, c)) * factor;
        if (sloped) KAN_AT(4, slopes) = ((first * u + second) * u + third) * (inverse * factor);
        return;
    }
    REAL value[KAN_MAX_DEGREE + 1], slope[KAN_MAX_DEGREE + 1];
    for (int q = 0; q <= k; q++) value[q] = c[k * (k + 1) + q], slope[q] = 0;
    KAN_UNROLL
    for (int power = k - 1; power >= 0; power--) {
        for (int q = 0; q <= k; q++) slope[q] = slope[q] * u + value[q];
        for (int q = 0; q <= k; q++) value[q] = value[q] * u + c[power * (k + 1) + q];
    }
    for (int q = 0; q <= k; q++) values[q] = value[q] * factor;
    for (int q = 0; q <= k && sloped; q++) slopes[q] = slope[q] * (inverse * factor);
}

KAN_INLINE void NAME(splines)(const int k, const int sloped, const NAME(grid) *grid, int i, int m, const REAL *x, REAL *restrict tile,
                              int32_t *restrict row) {
    const int count = grid->functions + k + 1, stride = 2 + (k + 1) * (k + 1), last = grid->functions - (k + 1);
    const REAL *knots = grid->knots + (size_t)i * count, *pieces = grid->piece + (size_t)i * (count + 1) * stride;
    REAL u[KAN_TILE], inside[KAN_TILE];
    if (grid->uniform) {
        const REAL *c = pieces + (size_t)(k + 1) * stride, inverse = c[1];
        NAME(locate)(m, x, knots, count, inverse, row, inside, u);
        for (int b = 0; b < m; b++)
            NAME(horner)(k, sloped, u[b], inverse, inside[b], c + 2, tile + (k + 1) * b, tile + KAN_SLOPES(k) + (k + 1) * b);
        return;
    }
    NAME(search)(k, m, x, knots, count, row);
    for (int b = 0; b < m; b++) {
        const REAL *c = pieces + row[b] * stride;
        NAME(horner)(k, sloped, (x[b] - c[0]) * c[1], c[1], 1, c + 2, tile + (k + 1) * b, tile + KAN_SLOPES(k) + (k + 1) * b);
    }
    for (int b = 0; b < m; b++) { /* the window's first function, behind k rows of zeros */
        const int first = row[b] - (k + 1), inside = first < 0 ? 0 : first;
        row[b] = (inside > last ? last : inside) + k;
    }
}

/* The features of input i at m points that are `apart` numbers from one another, with slopes of the splines or without. `row` gets the first
 * row of every point's splines in weights that have k rows of zeros in front of those of the functions, k behind them, and the row of the
 * base function at the end. */
static void NAME(features_and)(int sloped, const NAME(grid) *grid, int i, int m, const REAL *from, ptrdiff_t apart, REAL *tile, int32_t *row) {
    const int k = grid->degree;
    REAL *x = tile + KAN_POINTS(k);
    for (int b = 0; b < m; b++) x[b] = from[b * apart];
    if (k == 3 && sloped)
        NAME(splines)(3, 1, grid, i, m, x, tile, row);
    else if (k == 3)
        NAME(splines)(3, 0, grid, i, m, x, tile, row);
    else
        NAME(splines)(k, 1, grid, i, m, x, tile, row);
    NAME(base)(grid->base, m, x, tile + KAN_BASE(k), tile + KAN_BASE_SLOPE(k));
}

static void NAME(features)(const NAME(grid) *grid, int i, int m, const REAL *from, ptrdiff_t apart, REAL *tile, int32_t *row) {
    NAME(features_and)(1, grid, i, m, from, apart, tile, row);
}
