/* Reference of the optimizer: sums in double and AdamW (Loshchilov, Hutter 2019: decoupled decay). */
#include <math.h>
#include "kernels/act.h"

void B2_REF(sumsq)(b2_queue *q, double *out, const float *x, int64_t n, void *ws)
{
    (void)q, (void)ws;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    *out = sum;
}

size_t B2_REF(sumsq_ws)(int64_t n, int threads)
{
    (void)n, (void)threads;
    return 0;
}

void B2_REF(sum)(b2_queue *q, double *out, const float *x, int64_t n)
{
    (void)q;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *out += sum;
}

void B2_REF(step_scale)(b2_queue *q, b2_step *step, const double *sums, const float *count, double clip)
{
    (void)q;
    const double tokens = *count, norm = sqrt(sums[1]) / tokens, most = clip / (norm + 1e-6);
    step->finite = isfinite(sums[0]) && isfinite(sums[1]);
    step->gscale = (float)((clip > 0 && most < 1 ? most : 1) / tokens);
}

void B2_REF(adamw)(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay)
{
    const b2_step *s = q->step;
    if (!s->finite) return;
    const float shrink = 1 - s->lr * decay * s->weight_decay;
    for (int64_t i = 0; i < n; i++) {
        const float d = g[i] * s->gscale;
        m[i] = s->beta1 * m[i] + (1 - s->beta1) * d;
        v[i] = s->beta2 * v[i] + (1 - s->beta2) * d * d;
        w[i] = w[i] * shrink - s->lr * (m[i] * s->c1) / (sqrtf(v[i] * s->c2) + s->eps);
    }
}
