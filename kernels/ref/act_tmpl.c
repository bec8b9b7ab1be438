/* Reference of activation functions, gated products, cast and add. */
#include <math.h>
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

void B2_REF(act_fwd)(b2_queue *q, void *y, const float *x, int64_t n, int fn)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) ((act_t *)y)[i] = act_store(apply(fn, x[i]));
}

void B2_REF(act_bwd)(b2_queue *q, float *dx, const float *dy, const float *x, int64_t n, int fn)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * slope(fn, x[i]);
}

void B2_REF(glu_fwd)(b2_queue *q, void *y, const float *gu, int rows, int f, int fn)
{
    (void)q;
    for (int64_t i = 0; i < rows; i++) {
        const float *g = gu + 2 * i * f, *u = g + f;
        for (int j = 0; j < f; j++) ((act_t *)y)[i * f + j] = act_store(apply(fn, g[j]) * u[j]);
    }
}

void B2_REF(glu_bwd)(b2_queue *q, float *dgu, const float *dy, const float *gu, int rows, int f, int fn)
{
    (void)q;
    for (int64_t i = 0; i < rows; i++) {
        const float *g = gu + 2 * i * f, *u = g + f;
        float *dg = dgu + 2 * i * f, *du = dg + f;
        for (int j = 0; j < f; j++) {
            const float d = dy[i * f + j], gate = g[j];
            dg[j] = d * u[j] * slope(fn, gate);
            du[j] = d * apply(fn, gate);
        }
    }
}

void B2_REF(cast)(b2_queue *q, void *y, const float *x, int64_t n)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) ((act_t *)y)[i] = act_store(x[i]);
}

void B2_REF(add)(b2_queue *q, float *y, const float *x, int64_t n)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}
