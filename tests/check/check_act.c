/* Checks of activation functions, gated products, cast and add. */
#include "harness.h"
#include <math.h>
#include <string.h>

static const char *const names[] = {"relu", "gelu", "gelu_new", "silu"};

typedef struct act {
    ck_buf *y, *x, *dy; /* y: the output, whatever it is */
    int64_t n;
    int rows, f, fn;
    const b2_step *step;
    b2_drop drop; /* of gated products */
} act;

/* The functions and their slopes, from their definitions. */
static double value(int fn, double x)
{
    if (isnan(x)) return x;
    switch (fn) {
    case B2_RELU: return x > 0 ? x : 0;
    case B2_GELU: return x * 0.5 * erfc(-x / sqrt(2));
    case B2_GELU_NEW: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default: return x / (1 + exp(-x));
    }
}

static double slope(int fn, double x)
{
    switch (fn) {
    case B2_RELU: return x > 0 ? 1 : 0;
    case B2_GELU: return 0.5 * erfc(-x / sqrt(2)) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    case B2_GELU_NEW: {
        const double s = 1 / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        return s + x * s * (1 - s) * 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    }
    default: {
        const double s = 1 / (1 + exp(-x));
        return s * (1 + x * (1 - s));
    }
    }
}

/* Inputs as a network has them, and some far out: both tails, zeros of both signs. */
static ck_buf *inputs(ck *c, int64_t n)
{
    static const double far[] = {0, -0.0, 1e-6, -1e-6, 6, -6, 12, -12, 40, -40, 1000, -1000};
    ck_buf *x = ck_in(c, CK_ACT, n, 4);
    for (int64_t i = 0; i < n; i += 1 + ck_below(c, 23)) ck_set(x, i, far[ck_below(c, 12)]);
    return x;
}

static int64_t length(ck *c, int i)
{
    return i == 0 ? 0 : ck_below(c, 3) ? ck_size(c, 300) : ck_below(c, 20000);
}

static void call_fwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->act_fwd(q, a->y->p, a->x->p, a->n, a->fn);
}

static void want_fwd(void *args)
{
    act *a = args;
    for (int64_t i = 0; i < a->n; i++) {
        const double x = ck_was(a->x)[i];
        ck_want(a->y, i, value(a->fn, x), fabs(x));
    }
}

static void call_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->act_bwd(q, a->y->p, ck_ptr(a->dy ? a->dy : a->y), a->x->p, a->n, a->fn);
}

static void want_bwd(void *args)
{
    act *a = args;
    const double *dy = ck_was(a->dy ? a->dy : a->y);
    for (int64_t i = 0; i < a->n; i++) ck_want(a->y, i, dy[i] * slope(a->fn, ck_was(a->x)[i]), fabs(dy[i]));
}

static void check_act(ck *c)
{
    const bool bwd = strcmp(c->check->name, "act_bwd") == 0;
    for (int i = 0; i < (c->bench ? 6 : 48); i++) {
        act a = {.n = length(c, i), .fn = i % 4};
        if (c->bench) { /* ViT, Q-Former, the quickstart's ViT: the erf form; then the others once */
            const int64_t sizes[] = {257 * 6144, 32 * 3072, 50 * 512, 257 * 6144, 257 * 6144, 257 * 6144};
            const int fns[] = {B2_GELU, B2_GELU, B2_GELU, B2_RELU, B2_GELU_NEW, B2_SILU};
            a = (act){.n = ck_items(c, i < 2 ? 0 : i == 2 ? 64 : 1) * sizes[i], .fn = fns[i]};
            if (!a.n) continue;
        }
        a.x = inputs(c, a.n);
        const bool in_place = bwd && !c->bench && ck_flip(c);
        if (bwd && !in_place) a.dy = ck_in(c, CK_ACT, a.n, 2);
        a.y = in_place ? ck_inout(c, CK_ACT, 1, a.n, a.n, 2) : ck_out(c, CK_ACT, 1, a.n, a.n);
        ck_call call = {.args = &a, .call = bwd ? call_bwd : call_fwd, .want = bwd ? want_bwd : want_fwd};
        call.bytes = (double)a.n * (bwd ? 3 : 2) * (c->dtype ? 2 : 4);
        snprintf(call.shape, sizeof call.shape, "%s, %lld%s", names[a.fn], (long long)a.n,
                 in_place ? ", in place" : "");
        ck_run(c, &call);
    }
}

/* ---- gated --------------------------------------------------------------------------------------------- */

static void call_glu(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->glu_fwd(q, a->y->p, a->x->p, a->rows, a->f, a->fn, a->drop);
}

/* What dropout multiplies element j of row i with. */
static double factor(const act *a, int64_t i, int64_t j)
{
    const b2_drop *d = &a->drop;
    if (!(d->p > 0)) return 1;
    const uint64_t key = b2_drop_key(a->step->seed, a->step->step, a->step->sample[i / d->rows], d->site);
    const int64_t e = i % d->rows * a->f + j;
    return b2_drop_keep(key, (uint32_t)e, b2_drop_limit(d->p)) ? 1 / (1 - (double)d->p) : 0;
}

static void want_glu(void *args)
{
    act *a = args;
    for (int64_t i = 0; i < a->rows; i++) {
        const double *g = ck_was(a->x) + 2 * i * a->f, *u = g + a->f;
        for (int64_t j = 0; j < a->f; j++) {
            const double k = factor(a, i, j);
            ck_want(a->y, i * a->f + j, k * value(a->fn, g[j]) * u[j], k * fabs(g[j] * u[j]));
        }
    }
}

static void call_glu_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->glu_bwd(q, a->y->p, a->dy->p, a->x->p, a->rows, a->f, a->fn, a->drop);
}

static void want_glu_bwd(void *args)
{
    act *a = args;
    for (int64_t i = 0; i < a->rows; i++) {
        const double *g = ck_was(a->x) + 2 * i * a->f, *u = g + a->f, *dy = ck_was(a->dy) + i * a->f;
        for (int64_t j = 0; j < a->f; j++) {
            const double d = factor(a, i, j) * dy[j];
            ck_want(a->y, 2 * i * a->f + j, d * u[j] * slope(a->fn, g[j]), fabs(d * u[j]));
            ck_want(a->y, (2 * i + 1) * a->f + j, d * value(a->fn, g[j]), fabs(d * g[j]));
        }
    }
}

/* Rows of whole samples. */
static void dropped_rows(ck *c, act *a)
{
    a->drop = (b2_drop){ck_flip(c) ? 0.1f : 0.5f, (uint32_t)ck_below(c, 5000), ck_size(c, 20)};
    a->rows = ck_below(c, 15) * a->drop.rows;
    a->f = ck_size(c, 300);
    a->n = (int64_t)a->rows * a->f;
}

static void check_glu(ck *c)
{
    const bool bwd = strcmp(c->check->name, "glu_bwd") == 0;
    for (int i = 0; i < (c->bench ? 4 : 40); i++) {
        act a = {.rows = i == 0 ? 0 : ck_size(c, 60), .f = ck_size(c, 300), .fn = i % 4, .step = &c->step};
        if (!c->bench && ck_flip(c)) dropped_rows(c, &a);
        if (c->bench) { /* T5's encoder, a step of its decoder, the quickstart's; the first in training */
            a.rows = ck_items(c, i == 2 ? 64 : 0) * (int[]){48, 1, 50, 48}[i];
            a.f = i == 2 ? 256 : 5120;
            a.fn = B2_GELU;
            a.drop = (b2_drop){i == 3 ? 0.1f : 0, 7, 48};
            if (!a.rows) continue;
        }
        const int64_t n = (int64_t)a.rows * a.f;
        a.x = inputs(c, 2 * n);
        if (bwd) a.dy = ck_in(c, CK_ACT, n, 2);
        a.y = bwd ? ck_out(c, CK_ACT, 1, 2 * n, 2 * n) : ck_out(c, CK_ACT, 1, n, n);
        ck_call call = {
            .args = &a, .call = bwd ? call_glu_bwd : call_glu, .want = bwd ? want_glu_bwd : want_glu};
        call.bytes = (double)n * (bwd ? 5 : 3) * (c->dtype ? 2 : 4);
        snprintf(call.shape, sizeof call.shape, "%s, %d x %d%s", names[a.fn], a.rows, a.f,
                 a.drop.p > 0 ? ", drop" : "");
        ck_run(c, &call);
    }
}

/* ---- cast and add -------------------------------------------------------------------------------------- */

static void call_cast(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->cast(q, a->y->p, a->x->p, a->rows, a->f, a->drop);
}

/* Exact where nothing drops: the right value is the rounded one. */
static void want_cast(void *args)
{
    act *a = args;
    for (int64_t i = 0; i < a->n; i++) {
        const float x = (float)ck_was(a->x)[i];
        if (a->drop.p > 0) {
            const double k = factor(a, i / a->f, i % a->f);
            ck_want(a->y, i, k > 0 ? k * (double)x : 0, k * fabs((double)x));
            continue;
        }
        ck_want(a->y, i, a->y->type == CK_BF16 ? b2_bf16_to_f32(b2_f32_to_bf16(x)) : x, 0);
    }
}

static void call_add(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    act *a = args;
    (void)ws;
    k->add(q, a->y->p, a->x->p, a->n);
}

static void want_add(void *args)
{
    act *a = args;
    for (int64_t i = 0; i < a->n; i++) ck_want(a->y, i, (float)ck_was(a->y)[i] + (float)ck_was(a->x)[i], 0);
}

/* NaN, infinities, ties, what rounds up to infinity. */
static void specials(ck *c, ck_buf *x)
{
    const double values[] = {NAN,     -NAN,       INFINITY,   -INFINITY, 3.4e38,
                             -3.4e38, 1.00390625, 1.01171875, 0,         -0.0};
    for (int64_t i = 0; i < x->n; i += 1 + ck_below(c, 5)) ck_set(x, i, values[ck_below(c, 10)]);
}

static void check_plain(ck *c)
{
    const bool add = strcmp(c->check->name, "add") == 0;
    for (int i = 0; i < (c->bench ? 3 : 40); i++) {
        act a = {.rows = i == 0 ? 0 : ck_size(c, 60),
                 .f = ck_below(c, 3) ? ck_size(c, 300) : ck_below(c, 9000),
                 .step = &c->step};
        if (c->bench) {
            a.rows = ck_items(c, i < 2 ? 0 : 64) * (int[]){257, 48, 50}[i];
            a.f = (int[]){1408, 2048, 128}[i];
            if (!a.rows) continue;
        }
        a.n = (int64_t)a.rows * a.f;
        if (!add && !c->bench && ck_flip(c)) dropped_rows(c, &a);
        a.x = ck_in(c, CK_F32, a.n, 100);
        if (!c->bench && i % 4 == 1 && !(a.drop.p > 0)) specials(c, a.x);
        a.y = add ? ck_inout(c, CK_F32, 1, a.n, a.n, 100) : ck_out(c, CK_ACT, 1, a.n, a.n);
        ck_call call = {.args = &a, .call = add ? call_add : call_cast, .want = add ? want_add : want_cast};
        call.bytes = (double)a.n * (add ? 12 : c->dtype ? 6 : 8);
        snprintf(call.shape, sizeof call.shape, "%d x %d%s", a.rows, a.f, a.drop.p > 0 ? ", drop" : "");
        ck_run(c, &call);
    }
}

/* Relative to |x| forward and |dy| backward, so that the tails may be absolute: an exp or erf good to 4
 * half-steps. cast and add are exact. */
const ck_check ck_act[] = {
    {"act_fwd", NULL, check_act, {1e-6, 1e-6}}, {"act_bwd", NULL, check_act, {2e-6, 2e-6}},
    {"glu_fwd", NULL, check_glu, {1e-6, 1e-6}}, {"glu_bwd", NULL, check_glu, {2e-6, 2e-6}},
    {"cast", NULL, check_plain, {2e-7, 2e-7}}, /* of 1/(1-p) */
    {"add", NULL, check_plain, {0, 0}},         {0},
};
