/* Central differences with a step that moves the loss visibly above f32 noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/grad/grad_common.h"

float *grad_random(b2_rng *r, int64_t n, double scale)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; x && i < n; i++) x[i] = (float)(scale * b2_rng_normal(r));
    return x;
}

uint64_t grad_seed(void)
{
    const char *s = getenv("SEED");
    const uint64_t seed = s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu (repeat with SEED=%llu)\n", (unsigned long long)seed, (unsigned long long)seed);
    return seed;
}

static double along(grad_loss_fn f, void *ctx, float *w, const float *keep, const double *d, int64_t n,
                    double eps)
{
    for (int64_t i = 0; i < n; i++) w[i] = (float)(keep[i] + eps * d[i]);
    const double up = f(ctx);
    for (int64_t i = 0; i < n; i++) w[i] = (float)(keep[i] - eps * d[i]);
    const double down = f(ctx);
    memcpy(w, keep, (size_t)n * sizeof *w);
    return (up - down) / (2 * eps);
}

/* The best agreement over a ladder of steps: large ones bend, small ones drown in rounding. */
static double direction_error(grad_loss_fn f, void *ctx, float *w, const float *keep, const double *d,
                              int64_t n, double want, double floor)
{
    double best = INFINITY;
    for (double eps = 0.1; eps > 1e-4 && best > 2e-3; eps *= 0.4) {
        const double got = along(f, ctx, w, keep, d, n, eps);
        const double err = fabs(got - want) / fmax(fmax(fabs(got), fabs(want)), floor);
        if (err < best) best = err;
    }
    return best;
}

double grad_check(grad_loss_fn f, void *ctx, float *w, const float *g, int64_t n, int random, b2_rng *r)
{
    double *d = malloc((size_t)(n ? n : 1) * sizeof *d), worst = 0, norm = 0;
    float *keep = malloc((size_t)(n ? n : 1) * sizeof *keep);
    memcpy(keep, w, (size_t)n * sizeof *w);
    for (int64_t i = 0; i < n; i++) norm += (double)g[i] * g[i];
    norm = sqrt(norm);
    for (int t = 0; t <= random; t++) {
        double len = 0, want = 0;
        for (int64_t i = 0; i < n; i++) {
            d[i] = t == 0 ? g[i] : b2_rng_normal(r) + (norm > 0 ? 0.5 * g[i] / norm * sqrt((double)n) : 0);
            len += d[i] * d[i];
        }
        len = sqrt(len);
        for (int64_t i = 0; i < n; i++) {
            d[i] = len > 0 ? d[i] / len : 1.0 / sqrt((double)n);
            want += d[i] * g[i];
        }
        const double err =
            direction_error(f, ctx, w, keep, d, n, want, 2e-2); /* below: zero to f32 noise (key biases) */
        worst = err > worst ? err : worst;
    }
    free(d);
    free(keep);
    return worst;
}
