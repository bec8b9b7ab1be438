/* Reference of attention: one query row of one head at a time, its probabilities in a row of scratch. */
#include <math.h>
#include "base/rng.h"
#include "kernels/append.h"
#include "kernels/act.h"

/* One query row of one head. */
typedef struct query {
    const b2_attn *a;
    const float *q, *k, *v; /* the row's head columns; those of key row 0 */
    int64_t bias_at;        /* of key 0 in bias and dbias */
    int keys;               /* visible: keys 0..keys-1 */
    uint64_t drop_key;
    uint32_t element; /* of key 0 */
} query;

static query query_at(const b2_queue *line, const b2_attn *a, int b, int h, int i)
{
    const int at = (a->qpos ? a->qpos[b] : 0) + i;
    const int64_t first = (int64_t)(a->kvrow ? a->kvrow[b] : b) * a->krows;
    query r = {.a = a, .element = (uint32_t)h << 24 | (uint32_t)i << 12};
    r.q = a->q + ((int64_t)b * a->tq + i) * a->ldq + (int64_t)h * a->dim;
    r.k = a->k + first * a->ldk + (int64_t)h * a->dim;
    r.v = a->v + first * a->ldv + (int64_t)h * a->dim;
    r.bias_at = (int64_t)h * a->ldbias + a->bias0 - at;
    r.keys = a->tk;
    if (a->klen && a->klen[b] < r.keys) r.keys = a->klen[b];
    if (a->causal && at + 1 < r.keys) r.keys = at + 1;
    if (r.keys < 0) r.keys = 0;
    if (a->drop > 0)
        r.drop_key = b2_drop_key(line->step->seed, line->step->step, line->step->sample[b], a->site);
    return r;
}

static float dot(const float *x, const float *y, int n)
{
    float sum = 0;
    for (int d = 0; d < n; d++) sum += x[d] * y[d];
    return sum;
}

static void add_scaled(float *y, float s, const float *x, int n)
{
    for (int d = 0; d < n; d++) y[d] += s * x[d];
}

static float score(const query *r, int j)
{
    const float s = r->a->scale * dot(r->q, r->k + (int64_t)j * r->a->ldk, r->a->dim);
    return r->a->bias ? s + r->a->bias[r->bias_at + j] : s;
}

/* What dropout multiplies the probability of key j with. */
static float keep(const query *r, int j)
{
    if (!(r->a->drop > 0)) return 1;
    return b2_drop_keep(r->drop_key, r->element | (uint32_t)j, b2_drop_limit(r->a->drop))
               ? 1 / (1 - r->a->drop)
               : 0;
}

/* p[j] = softmax of the row before dropout; returns log sum exp, -inf when nothing is visible. */
static float softmax(const query *r, float *p)
{
    float top = -INFINITY;
    for (int j = 0; j < r->keys; j++) {
        p[j] = score(r, j);
        if (p[j] > top || isnan(p[j])) top = p[j];
        if (isnan(top)) break;
    }
    if (top == -INFINITY) {
        for (int j = 0; j < r->keys; j++) p[j] = 0;
        return top;
    }
    float sum = 0;
    for (int j = 0; j < r->keys; j++) sum += p[j] = isnan(top) ? top : expf(p[j] - top);
    for (int j = 0; j < r->keys; j++) p[j] /= sum;
    return top + logf(sum);
}

static float forward_row(const query *r, act_t *ctx, float *p)
{
    const b2_attn *a = r->a;
    const float lse = softmax(r, p);
    for (int d = 0; d < a->dim; d++) {
        float sum = 0;
        for (int j = 0; j < r->keys; j++) sum += p[j] * keep(r, j) * r->v[(int64_t)j * a->ldv + d];
        ctx[d] = act_store(sum);
    }
    return lse;
}

void B2_REF(attn_fwd)(b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws)
{
    for (int b = 0; b < a->batch; b++) {
        for (int h = 0; h < a->heads; h++) {
            for (int i = 0; i < a->tq; i++) {
                const query r = query_at(q, a, b, h, i);
                const int64_t at = ((int64_t)b * a->tq + i) * a->heads + h;
                const float l = forward_row(&r, (act_t *)ctx + at * a->dim, ws);
                if (lse) lse[((int64_t)b * a->heads + h) * a->tq + i] = l;
            }
        }
    }
}

void B2_REF(attn_append)(b2_queue *q, void *ctx, float *kcache, float *vcache, const float *kv, int ld,
                         int k0, int v0, const b2_attn *a, void *ws)
{
    b2_append_rows(kcache, vcache, kv, ld, k0, v0, a);
    B2_REF(attn_fwd)(q, ctx, NULL, a, ws);
}

size_t B2_REF(attn_fwd_ws)(const b2_attn *a, int threads)
{
    (void)threads;
    return (size_t)a->tk * sizeof(float);
}

/* Where one row's gradients go: head columns of its query and of key row 0; all of dbias. Or NULL. */
typedef struct grads {
    float *q, *k, *v, *bias;
    int ldk, ldv;
} grads;

static void backward_row(const query *r, const grads *g, const float *dctx, float lse, float *p, float *dp)
{
    const b2_attn *a = r->a;
    if (lse == -INFINITY) return;
    float mean = 0;
    for (int j = 0; j < r->keys; j++) {
        p[j] = expf(score(r, j) - lse);
        dp[j] = keep(r, j) * dot(dctx, r->v + (int64_t)j * a->ldv, a->dim);
        mean += dp[j] * p[j];
    }
    for (int j = 0; j < r->keys; j++) {
        const float ds = p[j] * (dp[j] - mean);
        if (g->v) add_scaled(g->v + (int64_t)j * g->ldv, p[j] * keep(r, j), dctx, a->dim);
        if (g->q) add_scaled(g->q, a->scale * ds, r->k + (int64_t)j * a->ldk, a->dim);
        if (g->k) add_scaled(g->k + (int64_t)j * g->ldk, a->scale * ds, r->q, a->dim);
        if (g->bias) g->bias[r->bias_at + j] += ds;
    }
}

static void clear(float *x, int ld, int64_t rows, int cols)
{
    for (int64_t i = 0; x && i < rows; i++, x += ld) {
        for (int c = 0; c < cols; c++) x[c] = 0;
    }
}

void B2_REF(attn_bwd)(b2_queue *q, float *dq, int lddq, float *dk, int lddk, float *dv, int lddv,
                      float *dbias, const float *dctx, const float *lse, const b2_attn *a, void *ws)
{
    const int width = a->heads * a->dim;
    clear(dq, lddq, (int64_t)a->batch * a->tq, width);
    clear(dk, lddk, (int64_t)a->batch * a->krows, width);
    clear(dv, lddv, (int64_t)a->batch * a->krows, width);
    for (int b = 0; b < a->batch; b++) {
        const int64_t key0 = (int64_t)b * a->krows;
        for (int h = 0; h < a->heads; h++) {
            const int column = h * a->dim;
            for (int i = 0; i < a->tq; i++) {
                const query r = query_at(q, a, b, h, i);
                const int64_t row = (int64_t)b * a->tq + i;
                const grads g = {.q = dq ? dq + row * lddq + column : NULL,
                                 .k = dk ? dk + key0 * lddk + column : NULL,
                                 .v = dv ? dv + key0 * lddv + column : NULL,
                                 .bias = dbias,
                                 .ldk = lddk,
                                 .ldv = lddv};
                const float l = lse[((int64_t)b * a->heads + h) * a->tq + i];
                backward_row(&r, &g, dctx + row * width + column, l, ws, (float *)ws + a->tk);
            }
        }
    }
}

size_t B2_REF(attn_bwd_ws)(const b2_attn *a, int threads)
{
    (void)threads;
    return (size_t)a->tk * 2 * sizeof(float);
}

/* T5Attention._relative_position_bucket (transformers, models/t5): half the buckets exact, the rest
 * logarithmic. */
static int bucket(int relative, int buckets, int max_distance, int bidirectional)
{
    int base = 0, n = -relative;
    if (bidirectional) {
        buckets /= 2;
        base = relative > 0 ? buckets : 0;
        n = relative > 0 ? relative : -relative;
    }
    if (n < 0) n = 0;
    const int exact = buckets / 2;
    if (n < exact) return base + n;
    const float octave = logf((float)n / (float)exact) / (float)log((double)max_distance / exact);
    const int far = exact + (int)(octave * (float)(buckets - exact));
    return base + (far < buckets ? far : buckets - 1);
}

void B2_REF(relbias_fwd)(b2_queue *q, float *bias, const float *table, int heads, int buckets,
                         int max_distance, int bidirectional, int zero, int n)
{
    (void)q;
    for (int h = 0; h < heads; h++) {
        for (int c = 0; c < n; c++) {
            bias[(int64_t)h * n + c] =
                table[bucket(c - zero, buckets, max_distance, bidirectional) * heads + h];
        }
    }
}

void B2_REF(relbias_bwd)(b2_queue *q, float *dtable, const float *dbias, int heads, int buckets,
                         int max_distance, int bidirectional, int zero, int n)
{
    (void)q;
    for (int h = 0; h < heads; h++) {
        for (int c = 0; c < n; c++) {
            dtable[bucket(c - zero, buckets, max_distance, bidirectional) * heads + h] +=
                dbias[(int64_t)h * n + c];
        }
    }
}
