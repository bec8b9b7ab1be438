/* Sums in double and AdamW; body of optim_<isa>.c. A sum is that of its spans, in order. */
#include "kernels/cpu/sweep.h"

typedef struct sum_job {
    double *part;
    const float *x;
    int64_t n;
    int first; /* span of part[0] */
} sum_job;

static void square_task(void *ctx, int64_t chunk, int worker)
{
    const sum_job *j = ctx;
    const float *x = j->x + chunk * SPAN;
    vd2 s = vd2_zero(), t = vd2_zero();
    const int64_t n = span_len(j->n, chunk);
    int64_t c = 0;
    (void)worker;
    for (; c + 2 * VL <= n; c += 2 * VL) s = vd2_addsq(s, vload(x + c)), t = vd2_addsq(t, vload(x + c + VL));
    for (; c < n; c += VL) s = vd2_addsq(s, vget(x + c, n - c < VL ? (int)(n - c) : VL));
    j->part[chunk] = vd2_sum(s) + vd2_sum(t);
}

void F32_FN(sumsq)(b2_queue *q, double *out, const float *x, int64_t n, void *ws)
{
    sum_job j = {.part = ws, .x = x, .n = n};
    double sum = 0;
    b2_pool_run(q->pool, spans(n), square_task, &j);
    for (int64_t i = 0; i < spans(n); i++) sum += j.part[i];
    *out = sum;
}

size_t F32_FN(sumsq_ws)(int64_t n, int threads)
{
    (void)threads;
    return (size_t)spans(n) * sizeof(double);
}

/* Row losses: too few to share out. */
void F32_FN(sum)(b2_queue *q, double *out, const float *x, int64_t n)
{
    vd2 s = vd2_zero();
    (void)q;
    SWEEP(n, s = vd2_add(s, vget(x + i, len)));
    *out += vd2_sum(s);
}

typedef struct adamw_job {
    const b2_step *s;
    float *w, *m, *v;
    const float *g;
    int64_t n;
    float decay;
} adamw_job;

static void adamw_task(void *ctx, int64_t chunk, int worker)
{
    const adamw_job *j = ctx;
    const b2_step *s = j->s;
    const int64_t at = chunk * SPAN;
    float *w = j->w + at, *m = j->m + at, *v = j->v + at;
    const float *g = j->g + at;
    const vf b1 = vset1(s->beta1), b2 = vset1(s->beta2), n1 = vset1(1 - s->beta1), n2 = vset1(1 - s->beta2);
    const vf scale = vset1(s->gscale), c1 = vset1(s->c1), c2 = vset1(s->c2), eps = vset1(s->eps),
             lr = vset1(s->lr);
    const vf shrink = vset1(1 - s->lr * j->decay * s->weight_decay);
    (void)worker;
    SWEEP(span_len(j->n, chunk), {
        const vf d = vmul(vget(g + i, len), scale);
        const vf mi = vfma(b1, vget(m + i, len), vmul(n1, d));
        const vf vi_ = vfma(b2, vget(v + i, len), vmul(vmul(n2, d), d));
        vput(m + i, mi, len);
        vput(v + i, vi_, len);
        const vf step = vdiv(vmul(lr, vmul(mi, c1)), vadd(vsqrt(vmul(vi_, c2)), eps));
        vput(w + i, vsub(vmul(vget(w + i, len), shrink), step), len);
    });
}

void F32_FN(adamw)(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay)
{
    adamw_job j = {q->step, w, m, v, g, n, decay};
    if (q->step->finite) b2_pool_run(q->pool, spans(n), adamw_task, &j);
}
