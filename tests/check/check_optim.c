/* Checks of the sums in double and of AdamW. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct optim {
    ck_buf *out, *x;
    ck_buf *w, *g, *m, *v;
    const b2_step *step;
    int64_t n;
    float decay;
} optim;

static int64_t length(ck *c, int i)
{
    if (c->bench) return (int64_t[]){1 << 16, 1 << 20, 9437184}[i];
    return i == 0 ? 0 : ck_flip(c) ? ck_size(c, 300) : ck_below(c, 40000);
}

static void call_sumsq(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    optim *o = args;
    k->sumsq(q, o->out->p, o->x->p, o->n, ws);
}

static size_t ws_sumsq(const b2_kernels *k, void *args, int threads)
{
    return k->sumsq_ws(((optim *)args)->n, threads);
}

static void call_sum(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    optim *o = args;
    (void)ws;
    k->sum(q, o->out->p, o->x->p, o->n);
}

/* In long double, so that ref's own double has something to be measured against. */
static void want_sum(void *args)
{
    optim *o = args;
    long double sum = ck_was(o->out)[0], size = fabsl(sum);
    for (int64_t i = 0; i < o->n; i++) {
        sum += ck_was(o->x)[i];
        size += fabs(ck_was(o->x)[i]);
    }
    ck_want(o->out, 0, (double)sum, (double)size);
}

static void want_sumsq(void *args)
{
    optim *o = args;
    long double sum = 0;
    for (int64_t i = 0; i < o->n; i++) sum += (long double)ck_was(o->x)[i] * ck_was(o->x)[i];
    ck_want(o->out, 0, (double)sum, (double)sum);
}

static void check_sums(ck *c)
{
    const bool squares = strcmp(c->check->name, "sumsq") == 0;
    for (int i = 0; i < (c->bench ? ck_items(c, 3) : 40); i++) {
        optim o = {.n = length(c, i)};
        o.x = ck_in(c, CK_F32, o.n, 2);
        o.out = squares ? ck_out(c, CK_F64, 1, 1, 1) : ck_inout(c, CK_F64, 1, 1, 1, 100);
        ck_call call = {
            .args = &o, .call = squares ? call_sumsq : call_sum, .want = squares ? want_sumsq : want_sum};
        if (squares) call.ws = ws_sumsq;
        call.bytes = 4.0 * (double)o.n;
        snprintf(call.shape, sizeof call.shape, "%lld", (long long)o.n);
        ck_run(c, &call);
    }
}

static void call_adamw(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    optim *o = args;
    (void)ws;
    k->adamw(q, o->w->p, o->g->p, o->m->p, o->v->p, o->n, o->decay);
}

static void want_adamw(void *args)
{
    optim *o = args;
    const b2_step *s = o->step;
    const double b1 = s->beta1, b2 = s->beta2, lr = s->lr;
    for (int64_t i = 0; i < o->n; i++) {
        const double w = ck_was(o->w)[i], g = ck_was(o->g)[i] * s->gscale, m0 = ck_was(o->m)[i],
                     v0 = ck_was(o->v)[i];
        if (!s->finite) {
            ck_want(o->w, i, w, 0), ck_want(o->m, i, m0, 0), ck_want(o->v, i, v0, 0);
            continue;
        }
        const double m = b1 * m0 + (1 - b1) * g, v = b2 * v0 + (1 - b2) * g * g,
                     m_size = fabs(b1 * m0) + fabs((1 - b1) * g);
        const double root = sqrt(v * s->c2) + s->eps, shrink = lr * o->decay * s->weight_decay;
        ck_want(o->m, i, m, m_size);
        ck_want(o->v, i, v, v);
        ck_want(o->w, i, w * (1 - shrink) - lr * m * s->c1 / root, fabs(w) + lr * m_size * s->c1 / root);
    }
}

static void random_step(ck *c, int i)
{
    b2_step *s = &c->step;
    const double t = 1 + ck_below(c, 2000);
    s->lr = (float)exp(ck_uniform(c, 3) - 6);
    s->beta1 = ck_flip(c) ? 0.9f : 0.5f;
    s->beta2 = ck_flip(c) ? 0.999f : 0.95f;
    s->eps = ck_flip(c) ? 1e-8f : 1e-6f;
    s->weight_decay = ck_flip(c) ? 0.01f : 0.1f;
    s->c1 = (float)(1 / (1 - pow(s->beta1, t)));
    s->c2 = (float)(1 / (1 - pow(s->beta2, t)));
    s->gscale = (float)exp(ck_uniform(c, 3) - 3);
    s->finite = c->bench || i % 8 != 3;
}

static void check_adamw(ck *c)
{
    for (int i = 0; i < (c->bench ? ck_items(c, 3) : 40); i++) {
        random_step(c, i);
        optim o = {.n = length(c, i), .step = &c->step, .decay = (float)ck_below(c, 2)};
        o.w = ck_inout(c, CK_F32, 1, o.n, o.n, 1);
        o.g = ck_in(c, CK_F32, o.n, 1);
        o.m = ck_inout(c, CK_F32, 1, o.n, o.n, 0.1);
        o.v = ck_inout(c, CK_F32, 1, o.n, o.n, 0);
        for (int64_t j = 0; j < o.n; j++) ck_set(o.v, j, fabs(ck_uniform(c, 0.1)));
        for (int64_t j = 0; j < o.n; j += 1 + ck_below(c, 9)) { /* parameters without a gradient so far */
            ck_set(o.v, j, 0), ck_set(o.m, j, 0), ck_set(o.g, j, 0);
        }
        if (!c->step.finite && o.n) ck_set(o.g, 0, NAN);
        ck_call call = {.args = &o, .call = call_adamw, .want = want_adamw, .bytes = 28.0 * (double)o.n};
        snprintf(call.shape, sizeof call.shape, "%lld, decay %g%s", (long long)o.n, (double)o.decay,
                 c->step.finite ? "" : ", not finite");
        ck_run(c, &call);
    }
}

typedef struct scale {
    ck_buf *step, *sums,
        *count; /* step: the struct's bytes as doubles, which places it as a struct wants it */
    double clip;
} scale;

#define WORDS (int64_t)(sizeof(b2_step) / sizeof(double))

static void call_scale(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    scale *s = args;
    (void)ws;
    k->step_scale(q, s->step->p, s->sums->p, s->count->p, s->clip);
}

static void want_scale(void *args)
{
    scale *s = args;
    b2_step step;
    double word[WORDS];
    const double *sums = ck_was(s->sums), tokens = ck_was(s->count)[0];
    const double norm = sqrt(sums[1]) / tokens, most = s->clip / (norm + 1e-6);
    memcpy(&step, ck_was(s->step), sizeof step);
    step.gscale = (float)((s->clip > 0 && most < 1 ? most : 1) / tokens);
    step.finite = isfinite(sums[0]) && isfinite(sums[1]);
    memcpy(word, &step, sizeof step);
    for (int64_t i = 0; i < WORDS; i++) ck_want(s->step, i, word[i], 0);
}

static void check_scale(ck *c)
{
    for (int i = 0; i < (c->bench ? ck_items(c, 1) : 40); i++) {
        scale s = {.clip = i % 4 ? exp(ck_uniform(c, 4)) : 0};
        s.step = ck_inout(c, CK_F64, 1, WORDS, WORDS, 1);
        s.sums = ck_in(c, CK_F64, 2, 0);
        s.count = ck_in(c, CK_F32, 1, 0);
        ck_set(s.sums, 0, i % 8 == 5 ? NAN : ck_uniform(c, 1000));
        ck_set(s.sums, 1, i % 8 == 6 ? INFINITY : exp(ck_uniform(c, 20)));
        ck_set(s.count, 0, 1 + ck_below(c, 100000));
        ck_call call = {.args = &s, .call = call_scale, .want = want_scale, .bytes = 40};
        snprintf(call.shape, sizeof call.shape, "clip %g, %g tokens", s.clip, (double)*(float *)s.count->p);
        ck_run(c, &call);
    }
}

/* Sums in double: a fixed order other than ref's may differ in the last digits. AdamW: a dozen f32 roundings.
 */
const ck_check ck_optim[] = {
    {"sumsq", "sumsq_ws", check_sums, {1e-12, 1e-12}},
    {"sum", NULL, check_sums, {1e-12, 1e-12}},
    {"step_scale", NULL, check_scale, {1e-6, 1e-6}},
    {"adamw", NULL, check_adamw, {1e-6, 1e-6}},
    {0},
};
