/* Attention forward, a task for each head of each item; body of attention_tmpl_<isa>.c. Few query rows
 * read keys and values as they lie; many pack both once and go through the matrix tile, in blocks of rows. */
#include "kernels/append.h"
#include "kernels/cpu/attention_common.h"

enum { FEW = 3, HELD = 4 }; /* query rows that count as few; vectors of a context row kept in registers */

typedef struct fwd_job {
    const b2_queue *q;
    const b2_attn *a;
    act_t *ctx;
    float *lse, *ws;
    size_t each;
} fwd_job;

/* Scores to probabilities after dropout; zeros from n to the end of the block. Returns log sum exp. */
static float softmax_row(const head *r, float *s, int row, int n, int block)
{
    const uint32_t element = drop_element(r, row);
    const float top = bias_and_top(r, s, row, n);
    if (n < block) clear_floats(s + n, (size_t)(block - n));
    if (top == -INFINITY) {
        bool visible_nan = false;
        for (int k = 0; k < n; k++) visible_nan = visible_nan || isnan(s[k]);
        if (!visible_nan) {
            clear_floats(s, (size_t)n);
            return top;
        }
    }
    const vf t = vset1(top);
    vf sum = vzero();
    SWEEP(n, {
        const vf e = vexp(vsub(vget(s + i, len), t));
        vput(s + i, e, len);
        sum = vadd(sum, len == VL ? e : vsel(vtail(len), e, vzero()));
    });
    const float total = vsum(sum);
    const vf inverse = vset1(1 / total);
    if (r->a->drop > 0)
        SWEEP(n, vput(s + i,
                      vdrop_apply(vmul(vget(s + i, len), inverse),
                                  vdrop_factor(&r->drop, element | (uint32_t)i)),
                      len));
    else
        SWEEP(n, vput(s + i, vmul(vget(s + i, len), inverse), len));
    return top + logf(total);
}

/* ---- few rows ------------------------------------------------------------------------------------------ */

static float dot(const act_t *x, const act_t *y, int n)
{
    vf s = vzero(), t = vzero();
    int c = 0;
    for (; c + 2 * VL <= n; c += 2 * VL) {
        s = vfma(aget(x + c, VL), aget(y + c, VL), s);
        t = vfma(aget(x + c + VL, VL), aget(y + c + VL, VL), t);
    }
    for (; c < n; c += VL) {
        const int len = n - c < VL ? n - c : VL;
        s = vfma(aget(x + c, len), aget(y + c, len), s);
    }
    return vsum(vadd(s, t));
}

/* ctx[0..n) = sum_j p[j] v[j], n at most HELD vectors */
static void mix_values(act_t *ctx, const float *p, const act_t *v, int ld, int keys, int n)
{
    vf c[HELD];
    for (int u = 0; u < HELD; u++) c[u] = vzero();
    for (int j = 0; j < keys; j++, v += ld) {
        const vf s = vset1(p[j]);
        for (int u = 0; u < HELD; u++) {
            const int len = n - u * VL < VL ? n - u * VL : VL;
            if (len > 0) c[u] = vfma(s, aget(v + u * VL, len), c[u]);
        }
    }
    for (int u = 0; u < HELD; u++)
        if (n > u * VL) aput(ctx + u * VL, c[u], n - u * VL < VL ? n - u * VL : VL);
}

static void few_rows(const fwd_job *j, const head *r, float *s)
{
    const b2_attn *a = j->a;
    for (int i = 0; i < a->tq; i++) {
        const int n = visible(r, i);
        act_t *ctx = j->ctx + (((size_t)r->b * (size_t)a->tq + (size_t)i) * (size_t)a->heads + (size_t)r->h) *
                                  (size_t)a->dim;
        for (int k = 0; k < n; k++)
            s[k] =
                a->scale * dot(r->q + (size_t)i * (size_t)a->ldq, r->k + (size_t)k * (size_t)a->ldk, a->dim);
        const float lse = softmax_row(r, s, i, n, n);
        if (j->lse)
            j->lse[((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->tq + (size_t)i] = lse;
        for (int d = 0; d < a->dim; d += HELD * VL) {
            const int len = a->dim - d < HELD * VL ? a->dim - d : HELD * VL;
            mix_values(ctx + d, s, r->v + d, a->ldv, n, len);
        }
    }
}

/* ---- many rows ----------------------------------------------------------------------------------------- */

typedef struct rooms {                             /* one thread's workspace */
    float *keys, *values, *queries, *scores, *out; /* the bf16 table's queries as f32; its sums of ctx */
} rooms;

static size_t rooms_size(const b2_attn *a)
{
    const size_t tk = score_ld(a), dim = (size_t)a->dim;
    if (a->tq <= FEW) return b2_line(tk);
    return b2_line(tk * dim) + b2_line(tk * panels_width(a->dim)) + b2_line(QUERIES * tk) +
           2 * b2_line(QUERIES * dim);
}

static rooms rooms_at(const b2_attn *a, float *p)
{
    const size_t tk = score_ld(a), dim = (size_t)a->dim;
    rooms m = {.keys = p};
    m.values = m.keys + b2_line(tk * dim);
    m.queries = m.values + b2_line(tk * panels_width(a->dim));
    m.out = m.queries + b2_line(QUERIES * dim);
    m.scores = m.out + b2_line(QUERIES * dim);
    return m;
}

static void block_of_rows(const fwd_job *j, const head *r, const rooms *m, int i0, int rows)
{
    const b2_attn *a = j->a;
    const size_t ld = score_ld(a), width = (size_t)a->heads * (size_t)a->dim;
    const int n = visible(r, i0 + rows - 1); /* the last row sees most */
    b2_tile scores = {
        .cs = 1, .b = m->keys, .k = a->dim, .c = m->scores, .ldc = (ptrdiff_t)ld, .alpha = a->scale};
    scores.a = rows_f32(m->queries, r->q + (size_t)i0 * (size_t)a->ldq, a->ldq, rows, a->dim, &scores.rs);
    product(&scores, rows, n, r->keys);
    for (int i = 0; i < rows; i++) {
        const float lse = softmax_row(r, m->scores + (size_t)i * ld, i0 + i, visible(r, i0 + i), n);
        if (j->lse)
            j->lse[((size_t)r->b * (size_t)a->heads + (size_t)r->h) * (size_t)a->tq + (size_t)(i0 + i)] = lse;
    }
    act_t *ctx = j->ctx + ((size_t)r->b * (size_t)a->tq + (size_t)i0) * width + (size_t)r->h * (size_t)a->dim;
    b2_tile mix = {
        .a = m->scores, .rs = (ptrdiff_t)ld, .cs = 1, .k = n, .c = m->out, .ldc = a->dim, .alpha = 1};
#if B2_ACT == 0
    mix.c = ctx, mix.ldc = (ptrdiff_t)width;
#endif
    for (int c = 0; c < a->dim; c += NR, mix.c += NR) {
        mix.b = m->values + (size_t)c * (size_t)r->keys;
        ISA_FN(tile)(rows, a->dim - c < NR ? a->dim - c : NR, &mix);
    }
#if B2_ACT == 1
    for (int row = 0; row < rows; row++, ctx += width) {
        const float *out = m->out + (size_t)row * (size_t)a->dim;
        SWEEP(a->dim, aput(ctx + i, vget(out + i, len), len));
    }
#endif
}

static void fwd_task(void *ctx, int64_t chunk, int worker)
{
    const fwd_job *j = ctx;
    const b2_attn *a = j->a;
    const head r = head_at(j->q, a, chunk);
    float *ws = j->ws + (size_t)worker * j->each;
    if (a->tq <= FEW) {
        few_rows(j, &r, ws);
        return;
    }
    const rooms m = rooms_at(a, ws);
    pack_all_turned(m.keys, r.k, a->ldk, r.keys, a->dim);
    pack_all_straight(m.values, r.v, (b2_dtype)B2_ACT, a->ldv, a->dim, r.keys);
    for (int i = 0; i < a->tq; i += QUERIES)
        block_of_rows(j, &r, &m, i, a->tq - i < QUERIES ? a->tq - i : QUERIES);
}

void TIER_FN(attn_fwd)(b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws)
{
    fwd_job j = {.q = q, .a = a, .ctx = ctx, .lse = lse, .ws = ws, .each = rooms_size(a)};
    if (a->tq > 0) b2_pool_run(q->pool, (int64_t)a->batch * a->heads, fwd_task, &j);
}

void TIER_FN(attn_append)(b2_queue *q, void *ctx, void *kcache, void *vcache, const void *kv, int ld, int k0,
                          int v0, const b2_attn *a, void *ws)
{
    b2_append_rows(kcache, vcache, kv, ld, k0, v0, a, sizeof(act_t));
    TIER_FN(attn_fwd)(q, ctx, NULL, a, ws);
}

size_t TIER_FN(attn_fwd_ws)(const b2_attn *a, int threads)
{
    return rooms_size(a) * (size_t)threads * sizeof(float);
}
