/* Attention backward, a task for each head of each item; body of attention_bwd_tmpl_<isa>.c. Probabilities
 * come back from lse, in blocks of query rows; all five products go through the matrix tile. The bias
 * gradient is kept for each item and added up afterwards in the order of the batch. */
#include "kernels/cpu/attention_common.h"

typedef struct bwd_job {
    const b2_queue *q;
    const b2_attn *a;
    float *dq, *dk, *dv, *dbias;
    int lddq, lddk, lddv;
    const float *dctx, *lse;
    float *partial, *ws; /* [batch][heads][ldbias]; then a room for each thread */
    size_t each;
} bwd_job;

typedef struct rooms { /* one thread's workspace: turned k and v, k, then the block's q and dctx, p and ds */
    float *kt, *vt, *k, *q, *dctx, *p, *ds;
} rooms;

static size_t rooms_size(const b2_attn *a)
{
    const size_t tk = score_ld(a), dim = panels_width(a->dim);
    return 3 * b2_line(tk * dim) + 2 * b2_line(QUERIES * dim) + 2 * b2_line(QUERIES * tk);
}

static rooms rooms_at(const b2_attn *a, float *at)
{
    const size_t keys = b2_line(score_ld(a) * panels_width(a->dim)),
                 rows = b2_line(QUERIES * panels_width(a->dim));
    rooms m = {.kt = at, .vt = at + keys, .k = at + 2 * keys, .q = at + 3 * keys};
    m.dctx = m.q + rows;
    m.p = m.dctx + rows;
    m.ds = m.p + b2_line(QUERIES * score_ld(a));
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

/* C[m, dim] = beta*C + alpha * A B, B packed with `rows` rows. */
static void to_head(const b2_attn *a, const float *x, ptrdiff_t rs, ptrdiff_t cs, const float *b, int stride,
                    int k, float *c, int ldc, int m, float alpha, float beta)
{
    b2_tile t = {.a = x, .rs = rs, .cs = cs, .k = k, .ldc = ldc, .alpha = alpha, .beta = beta};
    for (int d = 0; d < a->dim; d += NR) {
        t.b = b + (size_t)d * (size_t)stride;
        t.c = c + d;
        ISA_FN(tile)(m, a->dim - d < NR ? a->dim - d : NR, &t);
    }
}

static void block_gradient(const bwd_job *j, const head *r, const rooms *m, int i0, int rows)
{
    const b2_attn *a = j->a;
    const ptrdiff_t ld = (ptrdiff_t)score_ld(a);
    const int n = visible(r, i0 + rows - 1), width = a->heads * a->dim;
    const size_t first = (size_t)r->b * (size_t)a->krows, column = (size_t)r->h * (size_t)a->dim;
    const size_t row = (size_t)r->b * (size_t)a->tq + (size_t)i0;
    const float *q = r->q + (size_t)i0 * (size_t)a->ldq, *dctx = j->dctx + row * (size_t)width + column;
    const float *lse = j->lse + ((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->tq + i0;
    const b2_tile scores = {
        .a = q, .rs = a->ldq, .cs = 1, .b = m->kt, .k = a->dim, .c = m->p, .ldc = ld, .alpha = a->scale};
    const b2_tile dp = {
        .a = dctx, .rs = width, .cs = 1, .b = m->vt, .k = a->dim, .c = m->ds, .ldc = ld, .alpha = 1};
    product(&scores, rows, n, r->keys);
    product(&dp, rows, n, r->keys);
    for (int i = 0; i < rows; i++) {
        const int seen = visible(r, i0 + i);
        row_gradient(r, m->p + i * ld, m->ds + i * ld, i0 + i, seen, n, lse[i]);
        if (j->dbias)
            add_row(j->partial + ((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->ldbias +
                        a->bias0 - (r->at + i0 + i),
                    m->ds + i * ld, seen);
    }
    if (j->dq)
        to_head(a, m->ds, ld, 1, m->k, r->keys, n, j->dq + row * (size_t)j->lddq + column, j->lddq, rows,
                a->scale, 0);
    if (j->dk) {
        pack_all_straight(m->q, q, a->ldq, a->dim, rows);
        to_head(a, m->ds, 1, ld, m->q, rows, rows, j->dk + first * (size_t)j->lddk + column, j->lddk, n,
                a->scale, 1);
    }
    if (j->dv) {
        pack_all_straight(m->dctx, dctx, width, a->dim, rows);
        to_head(a, m->p, 1, ld, m->dctx, rows, rows, j->dv + first * (size_t)j->lddv + column, j->lddv, n, 1,
                1);
    }
}

static void clear_head(float *x, int ld, const head *r)
{
    if (!x) return;
    x += (size_t)r->b * (size_t)r->a->krows * (size_t)ld + (size_t)r->h * (size_t)r->a->dim;
    for (int i = 0; i < r->a->krows; i++, x += ld) clear_floats(x, (size_t)r->a->dim);
}

static void bwd_task(void *ctx, int64_t chunk, int worker)
{
    const bwd_job *j = ctx;
    const b2_attn *a = j->a;
    const head r = head_at(j->q, a, chunk);
    const rooms m = rooms_at(a, j->ws + (size_t)worker * j->each);
    clear_head(j->dk, j->lddk, &r);
    clear_head(j->dv, j->lddv, &r);
    if (j->dbias) clear_floats(j->partial + (size_t)chunk * (size_t)a->ldbias, (size_t)a->ldbias);
    pack_all_turned(m.kt, r.k, a->ldk, r.keys, a->dim);
    pack_all_turned(m.vt, r.v, a->ldv, r.keys, a->dim);
    if (j->dq) pack_all_straight(m.k, r.k, a->ldk, a->dim, r.keys);
    for (int i = 0; i < a->tq; i += QUERIES)
        block_gradient(j, &r, &m, i, a->tq - i < QUERIES ? a->tq - i : QUERIES);
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

void TIER_FN(attn_bwd)(b2_queue *q, float *dq, int lddq, float *dk, int lddk, float *dv, int lddv,
                       float *dbias, const float *dctx, const float *lse, const b2_attn *a, void *ws)
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
