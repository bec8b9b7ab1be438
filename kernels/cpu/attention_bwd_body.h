/* Attention backward, a task for each head of each item; body of attention_bwd_tmpl_<isa>.c. Probabilities
 * come back from lse, in blocks of query rows; all five products go through the matrix tile. The bias
 * gradient is kept for each item and added up afterwards in the order of the batch. */
#include "kernels/cpu/attention_common.h"

typedef struct bwd_job {
    const b2_queue *q;
    const b2_attn *a;
    act_t *dq, *dk, *dv;
    float *dbias;
    int lddq, lddk, lddv;
    const act_t *dctx;
    const float *lse;
    float *partial, *ws; /* [batch][heads][ldbias]; then a room for each thread */
    size_t each;
} bwd_job;

/* One thread's workspace: turned k and v, k, then the block's q and dctx, p and ds; of the bf16 table q and
 * dctx as f32, and sums of dq, dk and dv. */
typedef struct rooms {
    float *kt, *vt, *k, *q, *dctx, *p, *ds, *wide_q, *wide_dctx, *dq, *dk, *dv;
} rooms;

static size_t rooms_size(const b2_attn *a)
{
    const size_t tk = score_ld(a), dim = panels_width(a->dim);
    const size_t room = B2_ACT ? 3 * b2_line(QUERIES * dim) + 2 * b2_line((size_t)a->krows * dim) : 0;
    return 3 * b2_line(tk * dim) + 2 * b2_line(QUERIES * dim) + 2 * b2_line(QUERIES * tk) + room;
}

static rooms rooms_at(const b2_attn *a, float *at)
{
    const size_t keys = b2_line(score_ld(a) * panels_width(a->dim)),
                 rows = b2_line(QUERIES * panels_width(a->dim));
    rooms m = {.kt = at, .vt = at + keys, .k = at + 2 * keys, .q = at + 3 * keys};
    m.dctx = m.q + rows;
    m.p = m.dctx + rows;
    m.ds = m.p + b2_line(QUERIES * score_ld(a));
    m.wide_q = m.ds + b2_line(QUERIES * score_ld(a));
    m.wide_dctx = m.wide_q + rows;
    m.dq = m.wide_dctx + rows;
    m.dk = m.dq + rows;
    m.dv = m.dk + b2_line((size_t)a->krows * panels_width(a->dim));
    return m;
}

/* Scores and dp of a row become p (after dropout) and ds; zeros from n to the end of the block. */
static void row_gradient(const head *r, float *p, float *ds, int row, int n, int block, float lse)
{
    const uint32_t element = drop_element(r, row);
    const bool drops = r->a->drop > 0;
    if (lse == -INFINITY) n = 0;
    clear_floats(p + n, (size_t)(block - n));
    clear_floats(ds + n, (size_t)(block - n));
    const float *bias = r->bias ? r->bias - (r->at + row) : NULL;
    const vf l = vset1(lse);
    vf mean = vzero();
    SWEEP(n, {
        vf s = vget(p + i, len);
        if (bias) s = vadd(s, vget(bias + i, len));
        const vf e = vexp(vsub(s, l));
        vf d = vget(ds + i, len);
        if (drops) d = vdrop_apply(d, vdrop_factor(&r->drop, element | (uint32_t)i));
        vput(p + i, e, len);
        vput(ds + i, d, len);
        const vf term = vmul(e, d);
        mean = vadd(mean, len == VL ? term : vsel(vtail(len), term, vzero()));
    });
    const vf m = vset1(vsum(mean));
    SWEEP(n, {
        const vf e = vget(p + i, len);
        vput(ds + i, vmul(e, vsub(vget(ds + i, len), m)), len);
        if (drops) vput(p + i, vdrop_apply(e, vdrop_factor(&r->drop, element | (uint32_t)i)), len);
    });
}

static void add_row(float *to, const float *x, int n)
{
    SWEEP(n, vput(to + i, vadd(vget(to + i, len), vget(x + i, len)), len));
}

/* Where sums of a head's rows are made: in place (f32 table), or in a room until put_rows rounds them. */
typedef struct sums {
    act_t *to; /* NULL: not wanted */
    int ldto;
    float *p;
    int ld;
} sums;

static sums sums_of(act_t *to, size_t row, int ldto, size_t column, float *room, int dim)
{
    sums s = {.to = to ? to + row * (size_t)ldto + column : NULL, .ldto = ldto};
#if B2_ACT == 0
    (void)room, (void)dim;
    s.p = s.to, s.ld = ldto;
#else
    s.p = room, s.ld = dim;
#endif
    return s;
}

static void clear_rows(const sums *s, int rows, int dim)
{
    for (int i = 0; s->to && i < rows; i++) clear_floats(s->p + (size_t)i * (size_t)s->ld, (size_t)dim);
}

static void put_rows(const sums *s, int rows, int dim)
{
#if B2_ACT == 0
    (void)s, (void)rows, (void)dim;
#else
    for (int row = 0; s->to && row < rows; row++) {
        const float *x = s->p + (size_t)row * (size_t)s->ld;
        act_t *to = s->to + (size_t)row * (size_t)s->ldto;
        SWEEP(dim, aput(to + i, vget(x + i, len), len));
    }
#endif
}

/* Sums of m rows = beta*sums + alpha * A B, B packed with `stride` rows. */
static void to_head(const b2_attn *a, const float *x, ptrdiff_t rs, ptrdiff_t cs, const float *b, int stride,
                    int k, const sums *s, int m, float alpha, float beta)
{
    b2_tile t = {.a = x, .rs = rs, .cs = cs, .k = k, .ldc = s->ld, .alpha = alpha, .beta = beta};
    for (int d = 0; d < a->dim; d += NR) {
        t.b = b + (size_t)d * (size_t)stride;
        t.c = s->p + d;
        ISA_FN(tile)(m, a->dim - d < NR ? a->dim - d : NR, &t);
    }
}

/* p and ds of the block's rows; n keys are seen by some of them. */
static void block_scores(const bwd_job *j, const head *r, const rooms *m, const act_t *dctx, int i0, int rows,
                         int n)
{
    const b2_attn *a = j->a;
    const ptrdiff_t ld = (ptrdiff_t)score_ld(a);
    const size_t row = ((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->tq + (size_t)i0;
    float *partial = j->partial + ((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->ldbias;
    b2_tile scores = {.cs = 1, .b = m->kt, .k = a->dim, .c = m->p, .ldc = ld, .alpha = a->scale};
    b2_tile dp = {.cs = 1, .b = m->vt, .k = a->dim, .c = m->ds, .ldc = ld, .alpha = 1};
    scores.a = rows_f32(m->wide_q, r->q + (size_t)i0 * (size_t)a->ldq, a->ldq, rows, a->dim, &scores.rs);
    dp.a = rows_f32(m->wide_dctx, dctx, a->heads * a->dim, rows, a->dim, &dp.rs);
    product(&scores, rows, n, r->keys);
    product(&dp, rows, n, r->keys);
    for (int i = 0; i < rows; i++) {
        const int seen = visible(r, i0 + i);
        row_gradient(r, m->p + i * ld, m->ds + i * ld, i0 + i, seen, n, j->lse[row + (size_t)i]);
        if (j->dbias) add_row(partial + a->bias0 - (r->at + i0 + i), m->ds + i * ld, seen);
    }
}

static void block_gradient(const bwd_job *j, const head *r, const rooms *m, const sums *dk, const sums *dv,
                           int i0, int rows)
{
    const b2_attn *a = j->a;
    const b2_dtype act = (b2_dtype)B2_ACT;
    const ptrdiff_t ld = (ptrdiff_t)score_ld(a);
    const int n = visible(r, i0 + rows - 1), width = a->heads * a->dim;
    const size_t column = (size_t)r->h * (size_t)a->dim, row = (size_t)r->b * (size_t)a->tq + (size_t)i0;
    const act_t *dctx = j->dctx + row * (size_t)width + column;
    const sums dq = sums_of(j->dq, row, j->lddq, column, m->dq, a->dim);
    block_scores(j, r, m, dctx, i0, rows, n);
    if (dq.to) {
        to_head(a, m->ds, ld, 1, m->k, r->keys, n, &dq, rows, a->scale, 0);
        put_rows(&dq, rows, a->dim);
    }
    if (dk->to) {
        pack_all_straight(m->q, r->q + (size_t)i0 * (size_t)a->ldq, act, a->ldq, a->dim, rows);
        to_head(a, m->ds, 1, ld, m->q, rows, rows, dk, n, a->scale, 1);
    }
    if (dv->to) {
        pack_all_straight(m->dctx, dctx, act, width, a->dim, rows);
        to_head(a, m->p, 1, ld, m->dctx, rows, rows, dv, n, 1, 1);
    }
}

static void bwd_task(void *ctx, int64_t chunk, int worker)
{
    const bwd_job *j = ctx;
    const b2_attn *a = j->a;
    const head r = head_at(j->q, a, chunk);
    const rooms m = rooms_at(a, j->ws + (size_t)worker * j->each);
    const size_t first = (size_t)r.b * (size_t)a->krows, column = (size_t)r.h * (size_t)a->dim;
    const sums dk = sums_of(j->dk, first, j->lddk, column, m.dk, a->dim),
               dv = sums_of(j->dv, first, j->lddv, column, m.dv, a->dim);
    clear_rows(&dk, a->krows, a->dim);
    clear_rows(&dv, a->krows, a->dim);
    if (j->dbias) clear_floats(j->partial + (size_t)chunk * (size_t)a->ldbias, (size_t)a->ldbias);
    pack_all_turned(m.kt, r.k, a->ldk, r.keys, a->dim);
    pack_all_turned(m.vt, r.v, a->ldv, r.keys, a->dim);
    if (j->dq) pack_all_straight(m.k, r.k, (b2_dtype)B2_ACT, a->ldk, a->dim, r.keys);
    for (int i = 0; i < a->tq; i += QUERIES)
        block_gradient(j, &r, &m, &dk, &dv, i, a->tq - i < QUERIES ? a->tq - i : QUERIES);
    put_rows(&dk, a->krows, a->dim);
    put_rows(&dv, a->krows, a->dim);
}

static void bias_task(void *ctx, int64_t h, int worker)
{
    const bwd_job *j = ctx;
    const b2_attn *a = j->a;
    (void)worker;
    for (int b = 0; b < a->batch; b++)
        add_row(j->dbias + h * a->ldbias, j->partial + ((int64_t)b * a->heads + h) * a->ldbias, a->ldbias);
}

static size_t partial_size(const b2_attn *a)
{
    return a->bias ? b2_line((size_t)a->batch * (size_t)a->heads * (size_t)a->ldbias) : 0;
}

void TIER_FN(attn_bwd)(b2_queue *q, void *dq, int lddq, void *dk, int lddk, void *dv, int lddv, float *dbias,
                       const void *dctx, const float *lse, const b2_attn *a, void *ws)
{
    bwd_job j = {.q = q,
                 .a = a,
                 .dq = dq,
                 .dk = dk,
                 .dv = dv,
                 .dbias = a->bias ? dbias : NULL,
                 .lddq = lddq,
                 .lddk = lddk,
                 .lddv = lddv,
                 .dctx = dctx,
                 .lse = lse,
                 .partial = ws,
                 .each = rooms_size(a)};
    j.ws = j.partial + partial_size(a);
    b2_pool_run(q->pool, (int64_t)a->batch * a->heads, bwd_task, &j);
    if (j.dbias) b2_pool_run(q->pool, a->heads, bias_task, &j);
}

size_t TIER_FN(attn_bwd_ws)(const b2_attn *a, int threads)
{
    return (partial_size(a) + rooms_size(a) * (size_t)threads) * sizeof(float);
}
