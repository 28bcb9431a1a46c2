/* Compares the kernels with values that are read from a file, where Python is not: on another processor, or under a sanitizer.
 *
 *     cc -DKAN_SET=base -I kan/kernels/csrc driver.c -lm && ./a.out cases [tolerance]
 *
 * With -DSINGLE in single precision; with -DTHREADS=8 in so many threads at once. The file is written by test_sanitizers.py: numbers in
 * double precision, an array as its length (-1: there is none) and its elements. */
#include "kernels.c"

#include <stdio.h>
#ifdef THREADS
#include <pthread.h>
#endif
#ifdef SINGLE
#undef REAL
#undef NAME
#define REAL float
#define NAME(name) KAN_PASTE(kan_##name, _f32_, KAN_SET)
#endif

static const double *numbers;
static size_t length;
static double tolerance;

typedef struct { const double *at; } reader;

static double next(reader *r) { return *r->at++; }

static REAL *array(reader *r, size_t *count) {
    const double n = next(r);
    *count = n < 0 ? 0 : (size_t)n;
    if (n < 0) return NULL;
    REAL *found = kan_allocate(*count + 1, sizeof(REAL));
    for (size_t i = 0; i < *count; i++) found[i] = (REAL)next(r);
    return found;
}

static int differs(const char *what, size_t count, const REAL *found, const REAL *expected) {
    double scale = 1e-3;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)expected[i]) > scale) scale = fabs((double)expected[i]);
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)found[i] - expected[i]);
        if (difference <= tolerance * scale) continue;
        printf("%s: off by %g of %g\n", what, difference, scale);
        return 1;
    }
    return 0;
}

#define MAX_LAYERS 8

static int check(reader *r) {
    NAME(problem) problem = {0};
    NAME(layer) layers[MAX_LAYERS] = {0};
    REAL *expected[MAX_LAYERS][KAN_PARAMETERS], *made[MAX_LAYERS * (2 + 3 * KAN_PARAMETERS) + 8];
    int32_t arities[MAX_LAYERS][8];
    size_t counts[MAX_LAYERS][KAN_PARAMETERS], count, number = 0;
    int wrong = 0;
    problem.depth = (int32_t)next(r), problem.batch = (int32_t)next(r);
    problem.lamb = next(r), problem.l1 = next(r), problem.entropy = next(r);
    problem.coef = next(r), problem.coefdiff = next(r), problem.corner = next(r);
    problem.x = made[number++] = array(r, &count);
    problem.y = made[number++] = array(r, &count);
    problem.weight = made[number++] = array(r, &count);
    for (int l = 0; l < problem.depth; l++) {
        NAME(layer) *d = layers + l;
        d->grid.inputs = (int32_t)next(r), d->grid.functions = (int32_t)next(r), d->grid.degree = (int32_t)next(r);
        d->grid.base = (int32_t)next(r), d->grid.uniform = (int32_t)next(r);
        d->grid.knots = made[number++] = array(r, &count);
        d->grid.piece = made[number++] = array(r, &count);
        d->sums = (int32_t)next(r), d->products = (int32_t)next(r), d->arities = arities[l];
        for (int p = 0; p < d->products; p++) arities[l][p] = (int32_t)next(r);
        for (int p = 0; p < KAN_PARAMETERS; p++) d->parameters[p] = made[number++] = array(r, &count);
        for (int p = 0; p < KAN_PARAMETERS; p++) {
            expected[l][p] = made[number++] = array(r, &counts[l][p]);
            d->gradients[p] = made[number++] = expected[l][p] ? kan_allocate(counts[l][p] + 1, sizeof(REAL)) : NULL;
        }
    }
    REAL *value = made[number++] = array(r, &count), *nodes = made[number++] = array(r, &count);
    REAL *out = made[number++] = kan_allocate(count + 1, sizeof(REAL));
    void *net = NAME(network_new)(&problem, layers);
    for (int again = 0; again < 2; again++) {
        double got[3];
        NAME(network_objective)(net, layers, 1, NULL, got);
        const REAL as_read[3] = {(REAL)got[0], (REAL)got[1], (REAL)got[2]};
        wrong += differs("value", 3, as_read, value);
        for (int l = 0; l < problem.depth; l++)
            for (int p = 0; p < KAN_PARAMETERS; p++)
                if (expected[l][p]) wrong += differs("gradient", counts[l][p], layers[l].gradients[p], expected[l][p]);
        NAME(network_nodes)(net, layers, out);
        wrong += differs("nodes", count, out, nodes);
    }
    NAME(network_free)(net);
    while (number) kan_release(made[--number]);
    return wrong;
}

static void *check_all(void *wrong) {
    for (reader r = {numbers}; r.at < numbers + length;) *(int *)wrong += check(&r);
    return NULL;
}

int main(int count, char **arguments) {
    FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
    if (!file) return 2;
    fseek(file, 0, SEEK_END);
    length = (size_t)ftell(file) / sizeof(double);
    rewind(file);
    double *all = malloc((length + 1) * sizeof(double));
    if (!all || fread(all, sizeof(double), length, file) != length) return 2;
    fclose(file);
    numbers = all;
    tolerance = count > 2 ? atof(arguments[2]) : 1e-11;
    int wrong = 0;
#ifdef THREADS
    pthread_t threads[THREADS];
    int found[THREADS] = {0};
    for (int t = 0; t < THREADS; t++) pthread_create(threads + t, NULL, check_all, found + t);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL), wrong += found[t];
#endif
    check_all(&wrong);
    free(all);
    printf("%d differences\n", wrong);
    return wrong != 0;
}
