/* Values of splines, and their best approximations on other knots, as kan.bases.projection describes them. Included once for each number
 * type. `piece` holds the rows of polynomials of kan.bases.spline_table; see points.h. */

typedef struct {
    int32_t count, degree; /* knots P of each input, and k */
    const REAL *knots, *piece;
} NAME(table);

/* The local splines of input i at m points: into `tile`, and the first function of each point into `first`. */
static void NAME(local)(const NAME(table) *table, int i, int m, const REAL *x, REAL *tile, int32_t *first) {
    const int k = table->degree;
    const NAME(grid) grid = {0, table->count - k - 1, k, KAN_ZERO, 0, table->knots, table->piece};
    if (k == 3)
        NAME(splines)(3, 0, &grid, i, m, x, tile, first);
    else
        NAME(splines)(k, 0, &grid, i, m, x, tile, first);
    for (int b = 0; b < m; b++) first[b] -= k;
}

/* Values (I, B, O) of splines with coefficients (I, O, n) at x (I, B). */
KAN_EXPORT void NAME(values)(int inputs, int outputs, int batch, const NAME(table) *table, const REAL *coef, const REAL *x, REAL *out) {
    REAL tile[2 * (KAN_MAX_DEGREE + 1) * KAN_TILE];
    int32_t first[KAN_TILE];
    const int k = table->degree, n = table->count - k - 1;
    for (int i = 0; i < inputs; i++)
        for (int start = 0; start < batch; start += KAN_TILE) {
            const int m = batch - start < KAN_TILE ? batch - start : KAN_TILE;
            NAME(local)(table, i, m, x + (size_t)i * batch + start, tile, first);
            for (int b = 0; b < m; b++)
                for (int o = 0; o < outputs; o++) {
                    const REAL *own = coef + ((size_t)i * outputs + o) * n + first[b];
                    REAL sum = 0;
                    for (int q = 0; q <= k; q++) sum += own[q] * tile[(k + 1) * b + q];
                    out[((size_t)i * batch + start + b) * outputs + o] = sum;
                }
        }
}

/* Solves with the symmetric band matrix (n, k + 1) of rows' entries at and before the diagonal, for `columns` right-hand sides (n, columns),
 * by Cholesky factors, in place. Returns whether it is not positive definite. */
static int NAME(solve_band)(int n, int k, int columns, REAL *band, REAL *right) {
    for (int r = 0; r < n; r++) {
        REAL *row = band + (size_t)r * (k + 1) + k; /* row[-d] belongs to column r - d */
        for (int d = r < k ? r : k; d >= 0; d--) {
            REAL *other = band + (size_t)(r - d) * (k + 1) + k, sum = row[-d];
            for (int e = d + 1; e <= k && e <= r; e++) sum -= row[-e] * other[d - e];
            if (d > 0)
                row[-d] = sum / other[0];
            else if (sum > 0)
                row[0] = (REAL)sqrt((double)sum);
            else
                return 1;
        }
        for (int c = 0; c < columns; c++) {
            REAL sum = right[(size_t)r * columns + c];
            for (int d = 1; d <= k && d <= r; d++) sum -= row[-d] * right[(size_t)(r - d) * columns + c];
            right[(size_t)r * columns + c] = sum / row[0];
        }
    }
    for (int r = n - 1; r >= 0; r--) {
        const REAL *row = band + (size_t)r * (k + 1) + k;
        for (int c = 0; c < columns; c++) right[(size_t)r * columns + c] /= row[0];
        for (int d = 1; d <= k && d <= r; d++)
            for (int c = 0; c < columns; c++) right[(size_t)(r - d) * columns + c] -= row[-d] * right[(size_t)r * columns + c];
    }
    return 0;
}

static int NAME(by_size)(const void *a, const void *b) {
    const REAL one = *(const REAL *)a, other = *(const REAL *)b;
    return (one > other) - (one < other);
}

/* For every input the best approximation (O, n') in the mean square between `ends` (low, high) of splines on other knots, its mean squared
 * error summed over the outputs, and the Gram matrix (n', 2 k + 1) by its diagonals. `nodes` and `weights` (k + 1) are those of Gauss and
 * Legendre. Returns 0; or 1 where there is no memory, or a Gram matrix is not positive definite. */
KAN_EXPORT int NAME(closest)(int inputs, int outputs, const NAME(table) *old, const REAL *coef, const NAME(table) *new, const REAL *ends,
                             const REAL *nodes, const REAL *weights, REAL *best, REAL *error, REAL *gram) {
    const int k = new->degree, n = new->count - k - 1, places = old->count + new->count, points = (places - 1) * (k + 1);
    REAL *knots = kan_allocate(places, sizeof(REAL)), *x = kan_allocate(points, sizeof(REAL)), *weight = kan_allocate(points, sizeof(REAL));
    REAL *values = kan_allocate((size_t)points * outputs, sizeof(REAL)), *right = kan_allocate((size_t)n * outputs, sizeof(REAL));
    REAL *band = kan_allocate((size_t)n * (k + 1), sizeof(REAL)), *local = kan_allocate((size_t)points * (k + 1), sizeof(REAL));
    int32_t *first = kan_allocate(points, sizeof(int32_t));
    REAL tile[2 * (KAN_MAX_DEGREE + 1) * KAN_TILE];
    int failed = !knots || !x || !weight || !values || !right || !band || !local || !first;
    memset(gram, 0, sizeof(REAL) * inputs * n * (2 * k + 1));
    for (int i = 0; i < inputs && !failed; i++) {
        const REAL low = ends[2 * i], high = ends[2 * i + 1];
        for (int j = 0; j < places; j++) {
            const REAL knot = j < old->count ? old->knots[(size_t)i * old->count + j] : new->knots[(size_t)i * new->count + j - old->count];
            knots[j] = knot < low ? low : knot > high ? high : knot;
        }
        qsort(knots, places, sizeof(REAL), NAME(by_size));
        int count = 0;
        for (int j = 0; j + 1 < places; j++) {
            const REAL half = (knots[j + 1] - knots[j]) / 2, middle = (knots[j + 1] + knots[j]) / 2;
            if (!(half > 0)) continue;
            for (int g = 0; g <= k; g++, count++) {
                x[count] = middle + half * nodes[g];
                weight[count] = half * weights[g] / (high - low);
            }
        }
        const NAME(table) own = {old->count, old->degree, old->knots + (size_t)i * old->count,
                                 old->piece + (size_t)i * (old->count + 1) * (2 + (k + 1) * (k + 1))};
        NAME(values)(1, outputs, count, &own, coef + (size_t)i * outputs * (old->count - k - 1), x, values);
        for (int start = 0; start < count; start += KAN_TILE) {
            const int m = count - start < KAN_TILE ? count - start : KAN_TILE;
            NAME(local)(new, i, m, x + start, tile, first + start);
            memcpy(local + (size_t)start * (k + 1), tile, sizeof(REAL) * m * (k + 1));
        }
        memset(band, 0, sizeof(REAL) * n * (k + 1));
        memset(right, 0, sizeof(REAL) * n * outputs);
        for (int b = 0; b < count; b++)
            for (int q = 0; q <= k; q++) {
                const REAL share = weight[b] * local[(size_t)b * (k + 1) + q];
                const int row = first[b] + q;
                for (int p = 0; p <= q; p++) band[(size_t)row * (k + 1) + k - q + p] += share * local[(size_t)b * (k + 1) + p];
                for (int o = 0; o < outputs; o++) right[(size_t)row * outputs + o] += share * values[(size_t)b * outputs + o];
            }
        for (int r = 0; r < n; r++)
            for (int d = 0; d <= k && d <= r; d++) {
                const REAL entry = band[(size_t)r * (k + 1) + k - d];
                gram[((size_t)i * n + r) * (2 * k + 1) + k - d] = entry;
                gram[((size_t)i * n + r - d) * (2 * k + 1) + k + d] = entry;
            }
        failed = NAME(solve_band)(n, k, outputs, band, right);
        REAL total = 0;
        for (int b = 0; b < count; b++)
            for (int o = 0; o < outputs; o++) {
                REAL away = -values[(size_t)b * outputs + o];
                for (int q = 0; q <= k; q++) away += local[(size_t)b * (k + 1) + q] * right[(size_t)(first[b] + q) * outputs + o];
                total += weight[b] * away * away;
            }
        error[i] = total;
        for (int o = 0; o < outputs; o++)
            for (int r = 0; r < n; r++) best[((size_t)i * outputs + o) * n + r] = right[(size_t)r * outputs + o];
    }
    void *all[] = {knots, x, weight, values, right, band, local, first};
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) kan_release(all[a]);
    return failed;
}
