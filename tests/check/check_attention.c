/* Checks of attention, forward and backward: lengths, positions, shared keys, causal, bias, dropout, nothing
 * visible. */
#include "harness.h"
#include <math.h>
#include <string.h>

#define MOST_KEYS 512
#define LIMIT     1e-6
#define STRAYS    0x1p-8 /* a number rounded to bf16 */

typedef struct attn {
    b2_attn a;
    const b2_step *step;
    ck_buf *q, *k, *v, *bias, *klen, *qpos, *kvrow; /* the last four or NULL */
    int k0, v0;                                     /* of a step's own key and value in q's rows */
    ck_buf *ctx, *lse; /* outputs of the forward; lse: an input of the backward */
    ck_buf *dctx, *dq, *dk, *dv, *dbias;
} attn;

/* One query row of one head in double. `size`: of the terms of the largest score, which exp turns into
 * relative error. */
typedef struct row {
    int keys;
    int64_t key0, bias0; /* row of key 0 in k and v; place of key 0's bias */
    double s[MOST_KEYS], keep[MOST_KEYS], lse, size;
} row;

static double at(const ck_buf *b, int64_t i) { return b ? b->was[i] : 0; }

static void score_row(attn *t, int b, int h, int i, row *r)
{
    const b2_attn *a = &t->a;
    const int position = (t->qpos ? (int)at(t->qpos, b) : 0) + i;
    const uint64_t key =
        a->drop > 0 ? b2_drop_key(t->step->seed, t->step->step, t->step->sample[b], a->site) : 0;
    r->keys = a->tk;
    if (t->klen && at(t->klen, b) < r->keys) r->keys = (int)at(t->klen, b);
    if (a->causal && position + 1 < r->keys) r->keys = position + 1;
    r->key0 = (t->kvrow ? (int64_t)at(t->kvrow, b) : b) * a->krows;
    r->bias0 = (int64_t)h * a->ldbias + a->bias0 - position;
    r->size = 1;
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < r->keys; j++) {
        double dot = 0, size = 0;
        for (int d = 0; d < a->dim; d++) {
            const double p = a->scale * t->q->was[((int64_t)b * a->tq + i) * a->ldq + h * a->dim + d] *
                             t->k->was[(r->key0 + j) * a->ldk + h * a->dim + d];
            dot += p;
            size += fabs(p);
        }
        const double bias = t->bias ? at(t->bias, r->bias0 + j) : 0;
        r->s[j] = dot + bias;
        r->size = fmax(r->size, 1 + size + fabs(bias));
        top = fmax(top, r->s[j]);
        const uint32_t e = (uint32_t)h << 24 | (uint32_t)i << 12 | (uint32_t)j;
        r->keep[j] = !(a->drop > 0)                                 ? 1
                     : b2_drop_keep(key, e, b2_drop_limit(a->drop)) ? 1 / (1 - (double)a->drop)
                                                                    : 0;
    }
    for (int j = 0; j < r->keys; j++) sum += exp(r->s[j] - top);
    r->lse = r->keys > 0 ? top + log(sum) : -INFINITY;
}

/* ---- random cases -------------------------------------------------------------------------------------- */

typedef struct plan {
    const char *part; /* of the model; NULL in checks. A batch of 0 there is the pass's. */
    int batch, heads, dim, tq, tk;
    bool bias, causal, ragged, decode, shared;
    bool even;  /* rows are aligned to 16 bytes in either table */
    bool whole; /* that, and no key rows that nobody sees: what libraries take too */
    float drop;
} plan;

/* Key rows that nobody may look at hold NaN. */
static void poison(attn *t)
{
    const b2_attn *a = &t->a;
    for (int item = 0; item < a->batch; item++) {
        int seen = 0;
        for (int b = 0; b < a->batch; b++) {
            const int len = t->klen ? ((const int32_t *)t->klen->p)[b] : a->tk;
            if ((t->kvrow ? ((const int32_t *)t->kvrow->p)[b] : b) == item && len > seen) seen = len;
        }
        for (int64_t j = seen < a->tk ? seen : a->tk; j < a->krows; j++) {
            for (int64_t d = 0; d < a->heads * a->dim; d++) {
                ck_set(t->k, (item * (int64_t)a->krows + j) * a->ldk + d, NAN);
                ck_set(t->v, (item * (int64_t)a->krows + j) * a->ldv + d, NAN);
            }
        }
    }
}

static void vectors(ck *c, attn *t, const plan *p)
{
    b2_attn *a = &t->a;
    if (p->ragged) {
        t->klen = ck_in(c, CK_I32, a->batch, 0);
        for (int b = 0; b < a->batch; b++)
            ck_set(t->klen, b,
                   c->bench         ? a->tk - ck_below(c, 1 + a->tk / 4)
                   : ck_below(c, 5) ? 1 + ck_below(c, a->tk)
                                    : ck_below(c, 2) * (a->tk + 3));
        a->klen = t->klen->p;
    }
    if (p->decode) {
        t->qpos = ck_in(c, CK_I32, a->batch, 0);
        for (int b = 0; b < a->batch; b++) ck_set(t->qpos, b, c->bench ? a->tk - 1 : ck_below(c, a->tk));
        a->qpos = t->qpos->p;
    }
    if (p->shared) {
        t->kvrow = ck_in(c, CK_I32, a->batch, 0);
        for (int b = 0; b < a->batch; b++) ck_set(t->kvrow, b, ck_below(c, a->batch));
        a->kvrow = t->kvrow->p;
    }
    if (p->bias) {
        a->bias0 = a->tq - 1 + (p->decode ? a->tk - 1 : 0) + ck_below(c, 3);
        a->ldbias = a->bias0 + a->tk + ck_below(c, 3);
        t->bias = ck_in(c, CK_F32, (int64_t)a->heads * a->ldbias, 2);
        a->bias = t->bias->p;
    }
}

/* As layers have them: columns of the same rows, k and v those of q where a stack attends to itself. */
static void side_by_side(ck *c, attn *t, double spread)
{
    b2_attn *a = &t->a;
    const int width = a->heads * a->dim;
    const bool self = a->tq == a->tk;
    const size_t step = (size_t)width * b2_dtype_size((b2_dtype)c->dtype);
    a->ldq = self ? 3 * width : width;
    a->ldk = a->ldv = self ? 3 * width : 2 * width;
    t->q = ck_in(c, CK_ACT, (int64_t)a->batch * a->tq * a->ldq, spread);
    if (!self) t->k = ck_in(c, CK_ACT, (int64_t)a->batch * a->krows * a->ldk, spread);
    a->q = t->q->p;
    a->k = (char *)(self ? t->q : t->k)->p + (self ? step : 0);
    a->v = (const char *)a->k + step;
}

static void build(ck *c, attn *t, const plan *p)
{
    b2_attn *a = &t->a;
    const int width = p->heads * p->dim;
    *t = (attn){.a = {.batch = p->batch, .heads = p->heads, .dim = p->dim, .tq = p->tq, .tk = p->tk},
                .step = &c->step};
    c->aligned = p->whole || p->even;
    a->krows = p->tk + (!c->bench && !p->whole && ck_flip(c) ? ck_below(c, 5) : 0);
    a->scale = p->bias ? 1 : (float)(1 / sqrt(p->dim));
    a->causal = p->causal;
    a->drop = p->drop;
    a->site = (uint32_t)ck_below(c, 5000);
    const int unit = c->aligned ? 8 : 1; /* of rows: 16 bytes of bf16 */
    const int gap = c->bench ? 2 * width : ck_flip(c) ? ck_below(c, 30) / unit * unit : 0;
    a->ldq = width + gap;
    a->ldk = width + gap;
    a->ldv = width + gap + (c->bench ? 0 : unit * ck_below(c, 2));
    vectors(c, t, p);
    if (c->bench && p->tq > 1) {
        side_by_side(c, t, p->bias ? 0.5 : 2);
        return;
    }
    t->q = ck_in(c, CK_ACT, (int64_t)a->batch * a->tq * a->ldq, p->bias ? 0.5 : 2);
    t->k = ck_in(c, CK_ACT, (int64_t)a->batch * a->krows * a->ldk, p->bias ? 0.5 : 2);
    t->v = ck_in(c, CK_ACT, (int64_t)a->batch * a->krows * a->ldv, 2);
    a->q = t->q->p, a->k = t->k->p, a->v = t->v->p;
    if (!c->bench) poison(t);
}

/* Keys that a query may look at, over all items; causal ones are counted whole. */
static double seen_keys(const b2_attn *a)
{
    double sum = 0;
    for (int b = 0; b < a->batch; b++) sum += a->klen && a->klen[b] < a->tk ? a->klen[b] : a->tk;
    return sum;
}

static void label(const attn *t, const plan *p, ck_call *call)
{
    const b2_attn *a = &t->a;
    snprintf(call->shape, sizeof call->shape, "%s%d x %d heads x %d, %d queries, %d of %d keys%s%s%s%s%s%s",
             p->part ? p->part : "", a->batch, a->heads, a->dim, a->tq, a->tk, a->krows,
             t->bias ? " bias" : "", a->causal ? " causal" : "", t->klen ? " klen" : "",
             t->qpos ? " qpos" : "", t->kvrow ? " kvrow" : "", a->drop > 0 ? " drop" : "");
}

/* BLIP-2's own: ViT, Q-Former, T5's encoder, its decoder in training and in steps; the quickstart's ViT. */
static const plan bench_plans[] = {
    {"vit ", .heads = 16, .dim = 88, .tq = 257, .tk = 257},
    {"qf.self ", .heads = 12, .dim = 64, .tq = 32, .tk = 32},
    {"qf.cross ", .heads = 12, .dim = 64, .tq = 32, .tk = 257},
    {"t5.enc ", .heads = 32, .dim = 64, .tq = 48, .tk = 48, .bias = true, .ragged = true},
    {"t5.dec ", .heads = 32, .dim = 64, .tq = 8, .tk = 8, .bias = true, .causal = true},
    {"t5.cross ", .heads = 32, .dim = 64, .tq = 8, .tk = 48, .ragged = true},
    {"step.self ", .heads = 32, .dim = 64, .tq = 1, .tk = 20, .bias = true, .decode = true, .causal = true},
    {"step.cross ", .heads = 32, .dim = 64, .tq = 1, .tk = 48, .ragged = true},
    {"tiny ", .batch = 64, .heads = 4, .dim = 32, .tq = 50, .tk = 50},
    {"tiny ", .batch = 64, .heads = 4, .dim = 32, .tq = 50, .tk = 50, .drop = 0.1f},
};
#define BENCH_PLANS (int)(sizeof bench_plans / sizeof bench_plans[0])

static const plan edge_plans[] = {
    {.batch = 1, .heads = 2, .dim = 88, .tq = 65, .tk = 65, .whole = true},
    {.batch = 2, .heads = 3, .dim = 64, .tq = 48, .tk = 48, .bias = true, .ragged = true},
    {.batch = 1, .heads = 1, .dim = 16, .tq = 3, .tk = 257},
    {.batch = 2, .heads = 2, .dim = 64, .tq = 32, .tk = 32, .whole = true},
    {.batch = 2, .heads = 1, .dim = 64, .tq = 32, .tk = 257, .whole = true},
    {.batch = 3, .heads = 2, .dim = 8, .tq = 2, .tk = 9, .whole = true},
    {.batch = 3, .heads = 2, .dim = 64, .tq = 1, .tk = 33, .bias = true, .decode = true, .causal = true},
    {.batch = 5, .heads = 2, .dim = 32, .tq = 1, .tk = 40, .ragged = true, .decode = true, .bias = true},
    {.batch = 2, .heads = 2, .dim = 8, .tq = 31, .tk = 31, .bias = true, .causal = true, .drop = 0.1f},
    {.batch = 2, .heads = 2, .dim = 160, .tq = 5, .tk = 70, .bias = true, .ragged = true},
    {.batch = 0, .heads = 2, .dim = 8, .tq = 3, .tk = 3},
    {.batch = 2, .heads = 2, .dim = 8, .tq = 0, .tk = 3},
};
#define EDGE_PLANS (int)(sizeof edge_plans / sizeof edge_plans[0])

static plan random_plan(ck *c, bool backward)
{
    static const int dims[] = {1, 4, 7, 8, 16, 24, 32, 40, 64, 80, 88, 96, 128};
    plan p = {.batch = 1 + ck_below(c, 3), .heads = 1 + ck_below(c, 4), .dim = dims[ck_below(c, 13)]};
    p.tq = ck_size(c, ck_flip(c) ? 4 : 70);
    p.tk = ck_flip(c) ? p.tq : ck_size(c, 140);
    p.even = p.dim % 8 == 0 && ck_flip(c);
    p.bias = ck_flip(c);
    p.causal = ck_flip(c);
    p.ragged = ck_flip(c);
    p.decode = ck_below(c, 3) == 0;
    p.shared = !backward && ck_below(c, 3) == 0;
    p.drop = ck_below(c, 3) ? 0 : 0.25f;
    return p;
}

static void every_plan(ck *c, bool backward, void (*run)(ck *, const plan *))
{
    for (int i = 0; c->bench && i < BENCH_PLANS; i++) {
        plan p = bench_plans[i];
        p.batch = ck_items(c, p.batch);
        if (p.batch && !(backward && p.tq == 1)) run(c, &p);
    }
    if (c->bench) return;
    for (int i = 0; i < EDGE_PLANS; i++) run(c, &edge_plans[i]);
    for (int i = 0; i < 40; i++) {
        const plan p = random_plan(c, backward);
        run(c, &p);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static void call_fwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    attn *t = args;
    k->attn_fwd(q, t->ctx->p, ck_ptr(t->lse), &t->a, ws);
}

static size_t ws_fwd(const b2_kernels *k, void *args, int threads)
{
    return k->attn_fwd_ws(&((attn *)args)->a, threads);
}

static void read_inputs(attn *t)
{
    ck_buf *all[] = {t->q, t->k, t->v, t->bias, t->klen, t->qpos, t->kvrow, t->dctx, t->lse, t->dbias};
    for (int i = 0; i < 10; i++) (void)ck_was(all[i]);
}

static void want_ctx_row(attn *t, int b, int h, int i)
{
    row r;
    const b2_attn *a = &t->a;
    score_row(t, b, h, i, &r);
    ck_want(t->lse, ((int64_t)b * a->heads + h) * a->tq + i, r.lse, r.size);
    for (int d = 0; d < a->dim; d++) {
        double sum = 0, size = 0, squares = 0;
        for (int j = 0; j < r.keys; j++) {
            const double x =
                exp(r.s[j] - r.lse) * r.keep[j] * t->v->was[(r.key0 + j) * a->ldv + h * a->dim + d];
            sum += x;
            size += fabs(x);
            squares += x * x;
        }
        const double strays = ck_rounded(t->q) ? STRAYS / LIMIT * fmin(size, 4 * sqrt(squares)) : 0;
        ck_want(t->ctx, (((int64_t)b * a->tq + i) * a->heads + h) * a->dim + d, sum, size * r.size + strays);
    }
}

static void for_each_row(attn *t, void (*fn)(attn *, int, int, int))
{
    read_inputs(t);
    for (int b = 0; b < t->a.batch; b++) {
        for (int h = 0; h < t->a.heads; h++) {
            for (int i = 0; i < t->a.tq; i++) fn(t, b, h, i);
        }
    }
}

static void want_fwd(void *args) { for_each_row(args, want_ctx_row); }

/* What CUDA's bf16 table takes to tensor cores. */
static void rounds(attn *t, ck_call *call)
{
    if (t->a.tq == 1 || t->a.dim > 128) return;
    call->rounded[0] = t->q;
    call->rounded[1] = t->k;
    call->rounded[2] = t->v;
    call->rounded[3] = t->dctx;
    call->strays = STRAYS;
}

static void forward_case(ck *c, const plan *p)
{
    attn t;
    build(c, &t, p);
    const int64_t rows = (int64_t)p->batch * p->tq, width = (int64_t)p->heads * p->dim;
    t.ctx = ck_out(c, CK_ACT, rows, width, width);
    if (!c->bench && ck_flip(c)) t.lse = ck_out(c, CK_F32, 1, rows * p->heads, rows * p->heads);
    ck_call call = {.args = &t, .call = call_fwd, .ws = ws_fwd, .want = want_fwd};
    call.flops = 4.0 * (double)width * p->tq * seen_keys(&t.a);
    call.bytes = (c->dtype ? 2.0 : 4.0) * (double)width * (2 * (double)rows + 2 * seen_keys(&t.a));
    label(&t, p, &call);
    rounds(&t, &call);
    ck_run(c, &call);
}

static void check_fwd(ck *c) { every_plan(c, false, forward_case); }

/* ---- a decoder's step ---------------------------------------------------------------------------------- */

static void call_append(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    attn *t = args;
    k->attn_append(q, t->ctx->p, t->k->p, t->v->p, t->q->p, t->a.ldq, t->k0, t->v0, &t->a, ws);
}

/* The caches as they become, exactly; attention sees them so. */
static void want_append(void *args)
{
    attn *t = args;
    const b2_attn *a = &t->a;
    const int width = a->heads * a->dim;
    read_inputs(t);
    for (int b = 0; b < a->batch; b++) {
        const int64_t to = ((int64_t)b * a->krows + (int)at(t->qpos, b)) * width, from = (int64_t)b * a->ldq;
        for (int d = 0; d < width; d++) {
            t->k->was[to + d] = t->q->was[from + t->k0 + d];
            t->v->was[to + d] = t->q->was[from + t->v0 + d];
        }
    }
    for (int64_t i = 0; i < t->k->n; i++) {
        ck_want(t->k, i, t->k->was[i], 0);
        ck_want(t->v, i, t->v->was[i], 0);
    }
    for_each_row(t, want_ctx_row);
}

/* Caches of a few items at places of their own; in some all keys so far are seen, in some fewer. */
static void append_case(ck *c, int batch, int heads, int dim, int cap, bool bias)
{
    const int width = heads * dim;
    attn t = {.a = {.batch = batch,
                    .heads = heads,
                    .dim = dim,
                    .tq = 1,
                    .tk = cap,
                    .krows = cap,
                    .ldk = width,
                    .ldv = width,
                    .scale = bias ? 1 : (float)(1 / sqrt(dim))},
              .step = &c->step};
    b2_attn *a = &t.a;
    const int64_t cells = (int64_t)batch * cap * width;
    c->aligned = c->bench || ck_flip(c);
    t.k0 = width + (c->aligned ? 0 : ck_below(c, 5));
    t.v0 = t.k0 + width;
    a->ldq = t.v0 + width + (c->aligned ? 0 : ck_below(c, 4));
    t.qpos = ck_in(c, CK_I32, batch, 0);
    t.klen = ck_in(c, CK_I32, batch, 0);
    for (int b = 0; b < batch; b++) {
        const int pos = c->bench ? cap - 1 : ck_below(c, cap);
        ck_set(t.qpos, b, pos);
        ck_set(t.klen, b, c->bench || ck_below(c, 4) ? pos + 1 : ck_below(c, pos + 2));
    }
    a->qpos = t.qpos->p, a->klen = t.klen->p;
    if (bias) {
        a->bias0 = cap - 1;
        a->ldbias = 2 * cap - 1;
        t.bias = ck_in(c, CK_F32, (int64_t)heads * a->ldbias, 2);
        a->bias = t.bias->p;
    }
    t.q = ck_in(c, CK_ACT, (int64_t)batch * a->ldq, bias ? 0.5 : 2);
    t.k = ck_inout(c, CK_ACT, 1, cells, cells, bias ? 0.5 : 2);
    t.v = ck_inout(c, CK_ACT, 1, cells, cells, 2);
    a->q = t.q->p, a->k = t.k->p, a->v = t.v->p;
    t.ctx = ck_out(c, CK_ACT, batch, width, width);
    ck_call call = {.args = &t, .call = call_append, .ws = ws_fwd, .want = want_append};
    call.flops = 4.0 * (double)width * seen_keys(a);
    call.bytes = (c->dtype ? 2.0 : 4.0) * (double)width * (4.0 * batch + 2 * seen_keys(a));
    snprintf(call.shape, sizeof call.shape, "%s%d x %d heads x %d, cache of %d%s",
             c->bench ? "step.append " : "", batch, heads, dim, cap, bias ? " bias" : "");
    ck_run(c, &call);
}

static void check_append(ck *c)
{
    static const int dims[] = {1, 7, 8, 24, 64, 88, 160};
    if (c->bench) {
        if (c->batch) append_case(c, c->batch, 32, 64, 20, true);
        return;
    }
    append_case(c, 0, 2, 8, 3, false);
    append_case(c, 1, 1, 1, 1, true);
    for (int i = 0; i < 30; i++)
        append_case(c, ck_size(c, 6), 1 + ck_below(c, 4), dims[ck_below(c, 7)], ck_size(c, 140), ck_flip(c));
}

/* ---- backward ------------------------------------------------------------------------------------------ */

static int row_of(const ck_buf *b) { return b ? (int)b->ld : 0; }

static void call_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    attn *t = args;
    k->attn_bwd(q, ck_ptr(t->dq), row_of(t->dq), ck_ptr(t->dk), row_of(t->dk), ck_ptr(t->dv), row_of(t->dv),
                ck_ptr(t->dbias), t->dctx->p, t->lse->p, &t->a, ws);
}

static size_t ws_bwd(const b2_kernels *k, void *args, int threads)
{
    return k->attn_bwd_ws(&((attn *)args)->a, threads);
}

/* A term of a sum, or of none (NULL); strays: by what part of itself it may be off, beside `size`. */
static void add(ck_buf *b, int64_t at_row, int64_t column, double x, double size, double strays)
{
    if (!b) return;
    b->want[at_row * b->ld + column] += x;
    b->mag[at_row * b->ld + column] += fabs(size) + fabs(x) * strays / LIMIT;
}

static void want_grad_row(attn *t, int b, int h, int i)
{
    row r;
    const b2_attn *a = &t->a;
    const int64_t q0 = (int64_t)b * a->tq + i, column = (int64_t)h * a->dim;
    double dp[MOST_KEYS], size[MOST_KEYS], mean = 0, mean_size = 0, p[MOST_KEYS];
    const double strays = ck_rounded(t->q) ? STRAYS : 0; /* of p and ds in products */
    score_row(t, b, h, i, &r);
    const double lse = at(t->lse, ((int64_t)b * a->heads + h) * a->tq + i);
    for (int j = 0; j < r.keys; j++) {
        p[j] = exp(r.s[j] - lse);
        dp[j] = size[j] = 0;
        for (int d = 0; d < a->dim; d++) {
            const double g = t->dctx->was[q0 * a->heads * a->dim + column + d];
            const double x = r.keep[j] * g * t->v->was[(r.key0 + j) * a->ldv + column + d];
            dp[j] += x;
            size[j] += fabs(x);
            add(t->dv, r.key0 + j, column + d, p[j] * r.keep[j] * g, p[j] * r.keep[j] * g * r.size, strays);
        }
        mean += p[j] * dp[j];
        mean_size += p[j] * size[j];
    }
    for (int j = 0; j < r.keys; j++) {
        const double ds = p[j] * (dp[j] - mean), terms = p[j] * (size[j] + mean_size) * r.size;
        add(t->dbias, 0, r.bias0 + j, ds, terms, 0);
        for (int d = 0; d < a->dim; d++) {
            const double q = a->scale * t->q->was[q0 * a->ldq + column + d];
            const double k = a->scale * t->k->was[(r.key0 + j) * a->ldk + column + d];
            add(t->dq, q0, column + d, ds * k, terms * k, strays);
            add(t->dk, r.key0 + j, column + d, ds * q, terms * q, strays);
        }
    }
}

static void forget(ck_buf *b)
{
    if (!b) return;
    memset(b->want, 0, (size_t)b->n * sizeof(double));
    memset(b->mag, 0, (size_t)b->n * sizeof(double));
}

static void want_bwd(void *args)
{
    attn *t = args;
    forget(t->dq), forget(t->dk), forget(t->dv); /* sums of the same case before it was rounded */
    for (int64_t i = 0; t->dbias && i < t->dbias->n; i++)
        ck_want(t->dbias, i, ck_was(t->dbias)[i], fabs(ck_was(t->dbias)[i]));
    for_each_row(t, want_grad_row);
}

/* Element i of what has activation type `type`. */
static double number(const void *p, int type, int64_t i)
{
    return (double)(type == B2_F32 ? ((const float *)p)[i] : b2_bf16_to_f32(((const b2_bf16 *)p)[i]));
}

/* What the forward would have kept; row by row in double, as nothing else is at hand yet. */
static void fill_lse(attn *t, int type)
{
    const b2_attn *a = &t->a;
    for (int64_t n = 0; n < t->lse->n; n++) {
        const int b = (int)(n / a->tq / a->heads), h = (int)(n / a->tq % a->heads), i = (int)(n % a->tq);
        const int position = (a->qpos ? a->qpos[b] : 0) + i;
        int keys = a->klen && a->klen[b] < a->tk ? a->klen[b] : a->tk;
        if (a->causal && position + 1 < keys) keys = position + 1;
        double sum = 0;
        for (int j = 0; j < keys; j++) {
            double s = a->bias ? a->bias[(int64_t)h * a->ldbias + a->bias0 + j - position] : 0;
            const int64_t q = ((int64_t)b * a->tq + i) * a->ldq + h * a->dim;
            const int64_t k = ((int64_t)b * a->krows + j) * a->ldk + h * a->dim;
            for (int d = 0; d < a->dim; d++)
                s += (double)a->scale * number(a->q, type, q + d) * number(a->k, type, k + d);
            sum += exp(s);
        }
        ck_set(t->lse, n, log(sum));
    }
}

/* A gradient, at times not wanted. */
static ck_buf *gradient(ck *c, int64_t rows, int64_t width)
{
    if (!c->bench && ck_below(c, 8) == 0) return NULL;
    return ck_out(c, CK_ACT, rows, width, width + (c->bench ? 2 * width : ck_below(c, 9)));
}

static void backward_case(ck *c, const plan *p)
{
    attn t;
    build(c, &t, p);
    const b2_attn *a = &t.a;
    const int64_t rows = (int64_t)p->batch * p->tq, keys = (int64_t)p->batch * a->krows,
                  width = (int64_t)p->heads * p->dim;
    t.lse = ck_in(c, CK_F32, rows * p->heads, 0);
    fill_lse(&t, c->dtype);
    t.dctx = ck_in(c, CK_ACT, rows * width, 1);
    t.dq = gradient(c, rows, width);
    t.dk = gradient(c, keys, width);
    t.dv = gradient(c, keys, width);
    const int64_t biases = (int64_t)a->heads * a->ldbias;
    if (t.bias && (c->bench || ck_flip(c))) t.dbias = ck_inout(c, CK_F32, 1, biases, biases, 1);
    ck_call call = {.args = &t, .call = call_bwd, .ws = ws_bwd, .want = want_bwd};
    call.flops = 10.0 * (double)width * p->tq * seen_keys(a);
    call.bytes = (c->dtype ? 2.0 : 4.0) * (double)width * p->batch * (3.0 * p->tq + 4.0 * p->tk);
    label(&t, p, &call);
    if (t.dbias) strcat(call.shape, " dbias");
    if (!t.dq) strcat(call.shape, " no dq");
    if (!t.dk) strcat(call.shape, " no dk");
    if (!t.dv) strcat(call.shape, " no dv");
    rounds(&t, &call);
    ck_run(c, &call);
}

static void check_bwd(ck *c) { every_plan(c, true, backward_case); }

/* Relative to sum p|v| (1 + largest score's terms): a score's rounding turns into a relative error of p. Sums
 * over up to 257 keys and 128 columns in f32, an exp good to a few half-steps.
 * CUDA's bf16 table is held to the same, but for what rounding p to bf16 does to ctx (want_ctx_row): each p
 * strays by up to 2^-8 of itself, so ctx by 2^-8 sum p|v| at most. They stray each on its own, by 0.42 to
 * 0.58 of that (root mean square): 4 2^-8 sqrt(sum (p v)^2) is seven deviations or more. lse has no part in
 * it. Backward p and ds are rounded likewise before they meet dctx, k and q: up to 2^-8 of the sum of their
 * terms' sizes; dbias has no part in that. */
const ck_check ck_attention[] = {
    {"attn_fwd", "attn_fwd_ws", check_fwd, {LIMIT, LIMIT}},
    {"attn_append", "attn_fwd_ws", check_append, {LIMIT, LIMIT}},
    {"attn_bwd", "attn_bwd_ws", check_bwd, {LIMIT, LIMIT}},
    {0},
};
