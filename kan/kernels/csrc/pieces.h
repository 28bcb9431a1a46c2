/* Polynomial pieces of B-splines, as kan.bases.spline_table describes them. Included once for each number type. */

/* Pieces of the splines of degree k on `knots` (I, P), in double precision and rounded once.
 * columns: (2 + (k + 1)^2, I (P + 1)), zeros for the spans -1 and P - 1. spans (I, 2, P - 1) and powers (k + 1, I, n, P - 1), if given: left
 * knots and inverse widths, and the coefficients of all n functions. Returns whether the knots of all inputs are equidistant up to
 * round-off. */
KAN_EXPORT int NAME(pieces)(int inputs, int count, int k, const REAL *knots, REAL *columns, REAL *spans, REAL *powers) {
    const int size = count - k - 1, places = count - 1;
    const size_t width = (size_t)inputs * (count + 1), plane = (size_t)inputs * size * places;
    int uniform = 1;
    memset(columns, 0, (2 + (size_t)(k + 1) * (k + 1)) * width * sizeof *columns);
    if (powers) memset(powers, 0, (k + 1) * plane * sizeof *powers);
    for (int i = 0; i < inputs; i++) {
        const REAL *t = knots + (size_t)i * count;
        const double spacing = ((double)t[count - 1] - (double)t[0]) / (count - 1);
        double largest = 0;
        for (int j = 0; j < count; j++) largest = fabs((double)t[j]) > largest ? fabs((double)t[j]) : largest;
        for (int j = 0; j < count; j++)
            uniform = uniform && fabs((double)t[j] - (double)t[0] - spacing * j) <= 4 * (double)KAN_EPSILON * largest;
        for (int s = 0; s < places; s++) {
            double around[2 * KAN_MAX_DEGREE + 2]; /* the knots t_{s-k} ... t_{s+k+1}; those beyond the ends do not matter */
            for (int j = 0; j < 2 * k + 2; j++) {
                const int at = s - k + j;
                around[j] = at < 0 ? (double)t[0] + at : at >= count ? (double)t[count - 1] + (at - count + 1) : (double)t[at];
            }
            const double *knot = around + k, left = knot[0], step = knot[1] - knot[0];
            /* local[k + m] is the function B_{s+m} in powers of u. */
            double local[KAN_MAX_DEGREE + 1][KAN_MAX_DEGREE + 1] = {{0}};
            local[k][0] = 1;
            for (int p = 1; p <= k; p++)
                for (int m = -p; m <= 0; m++) {
                    double raised[KAN_MAX_DEGREE + 1] = {0};
                    for (int side = 0; side < 2; side++) { /* B_{s+m,p-1}, and B_{s+m+1,p-1} */
                        const int of = m + side;
                        if (of < -(p - 1) || of > 0) continue;
                        const double reach = side ? knot[m + p + 1] - knot[m + 1] : knot[m + p] - knot[m], inverse = reach > 0 ? 1 / reach : 0;
                        const double constant = (side ? knot[m + p + 1] - left : left - knot[m]) * inverse;
                        const double slope = (side ? -step : step) * inverse;
                        for (int c = 0; c < p; c++) {
                            raised[c] += local[k + of][c] * constant;
                            raised[c + 1] += local[k + of][c] * slope;
                        }
                    }
                    memcpy(local[k + m], raised, sizeof raised);
                }
            const size_t column = (size_t)i * (count + 1) + s + 1;
            columns[column] = (REAL)left;
            columns[width + column] = (REAL)(step > 0 ? 1 / step : 0);
            if (spans) {
                spans[(size_t)(2 * i) * places + s] = (REAL)left;
                spans[(size_t)(2 * i + 1) * places + s] = columns[width + column];
            }
            /* Near the ends the window of k + 1 functions is moved inside. */
            int start = s - k < 0 ? 0 : s - k;
            start = start > size - k - 1 ? size - k - 1 : start;
            for (int q = 0; q <= k; q++) {
                const int source = start + q - (s - k);
                if (source < 0 || source > k) continue;
                for (int c = 0; c <= k; c++) {
                    columns[(2 + (size_t)c * (k + 1) + q) * width + column] = (REAL)local[source][c];
                    if (powers) powers[c * plane + ((size_t)i * size + start + q) * places + s] = (REAL)local[source][c];
                }
            }
        }
    }
    return uniform;
}
