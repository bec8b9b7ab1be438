/* Reference of activation functions, gated products, cast and add. */
#include <math.h>
#include "base/rng.h"
#include "kernels/act.h"

#define SQRT_HALF      0.70710678118654752440f
#define INV_SQRT_2PI   0.39894228040143267794f
#define SQRT_8_OVER_PI 1.59576912160573071176f
#define GELU_CUBIC     0.044715f

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }
/* erfc instead of 1 + erf keeps the digits of the left tail. */
static float normal_cdf(float x) { return 0.5f * erfcf(-x * SQRT_HALF); }
/* 0.5 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as a sigmoid: keeps the digits of the left tail too. */
static float gelu_new_cdf(float x) { return sigmoid(SQRT_8_OVER_PI * (x + GELU_CUBIC * x * x * x)); }

static float apply(int fn, float x)
{
    switch (fn) {
    case B2_RELU: return x < 0 ? 0 : x;
    case B2_GELU: return x * normal_cdf(x);
    case B2_GELU_NEW: return x * gelu_new_cdf(x);
    default: return x * sigmoid(x);
    }
}

/* The cdf is odd around 1/2: 1 - cdf(x) = cdf(-x). */
static float gelu_new_slope(float x)
{
    const float p = gelu_new_cdf(x);
    return p + x * p * gelu_new_cdf(-x) * SQRT_8_OVER_PI * (1 + 3 * GELU_CUBIC * x * x);
}

static float slope(int fn, float x)
{
    switch (fn) {
    case B2_RELU: return x > 0 ? 1 : 0;
    case B2_GELU: return normal_cdf(x) + x * INV_SQRT_2PI * expf(-0.5f * x * x);
    case B2_GELU_NEW: return gelu_new_slope(x);
    default: return sigmoid(x) * (1 + x * sigmoid(-x));
    }
}

void B2_REF(act_fwd)(b2_queue *q, void *y, const void *x, int64_t n, int fn)
{
    (void)q;
    const act_t *in = x;
    for (int64_t i = 0; i < n; i++) ((act_t *)y)[i] = act_store(apply(fn, act_load(in[i])));
}

void B2_REF(act_bwd)(b2_queue *q, void *dx, const void *dy, const void *x, int64_t n, int fn)
{
    (void)q;
    const act_t *in = x, *d = dy;
    for (int64_t i = 0; i < n; i++) ((act_t *)dx)[i] = act_store(act_load(d[i]) * slope(fn, act_load(in[i])));
}

/* What dropout multiplies element j of row i with: 1/(1-p), or 0 where it is dropped. */
static float factor(const b2_queue *q, const b2_drop *d, int64_t i, int j, int f)
{
    if (!(d->p > 0)) return 1;
    const uint64_t key = b2_drop_key(q->step->seed, q->step->step, q->step->sample[i / d->rows], d->site);
    return b2_drop_keep(key, (uint32_t)(i % d->rows * f + j), b2_drop_limit(d->p)) ? 1 / (1 - d->p) : 0;
}

void B2_REF(glu_fwd)(b2_queue *q, void *y, const void *gu, int rows, int f, int fn, b2_drop drop)
{
    for (int64_t i = 0; i < rows; i++) {
        const act_t *g = (const act_t *)gu + 2 * i * f, *u = g + f;
        for (int j = 0; j < f; j++) {
            const float k = factor(q, &drop, i, j, f), v = apply(fn, act_load(g[j])) * act_load(u[j]);
            ((act_t *)y)[i * f + j] = act_store(k == 0 ? 0 : v * k);
        }
    }
}

void B2_REF(glu_bwd)(b2_queue *q, void *dgu, const void *dy, const void *gu, int rows, int f, int fn,
                     b2_drop drop)
{
    for (int64_t i = 0; i < rows; i++) {
        const act_t *g = (const act_t *)gu + 2 * i * f, *u = g + f;
        act_t *dg = (act_t *)dgu + 2 * i * f, *du = dg + f;
        for (int j = 0; j < f; j++) {
            const float k = factor(q, &drop, i, j, f),
                        d = k == 0 ? 0 : act_load(((const act_t *)dy)[i * f + j]) * k;
            const float gate = act_load(g[j]);
            dg[j] = act_store(d * act_load(u[j]) * slope(fn, gate));
            du[j] = act_store(d * apply(fn, gate));
        }
    }
}

void B2_REF(cast)(b2_queue *q, void *y, const float *x, int rows, int cols, b2_drop drop)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            const float k = factor(q, &drop, i, j, cols);
            ((act_t *)y)[i * cols + j] = act_store(k == 0 ? 0 : x[i * cols + j] * k);
        }
    }
}

void B2_REF(add)(b2_queue *q, float *y, const float *x, int64_t n)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}
