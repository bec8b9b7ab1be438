/* Reference of attention: one query row of one head at a time, its probabilities in a row of scratch. */
#include <math.h>
#include "base/rng.h"
#include "kernels/append.h"
#include "kernels/act.h"

/* One query row of one head. */
typedef struct query {
    const b2_attn *a;
    const act_t *q, *k, *v; /* the row's head columns; those of key row 0 */
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
    r.q = (const act_t *)a->q + ((int64_t)b * a->tq + i) * a->ldq + (int64_t)h * a->dim;
    r.k = (const act_t *)a->k + first * a->ldk + (int64_t)h * a->dim;
    r.v = (const act_t *)a->v + first * a->ldv + (int64_t)h * a->dim;
    r.bias_at = (int64_t)h * a->ldbias + a->bias0 - at;
    r.keys = a->tk;
    if (a->klen && a->klen[b] < r.keys) r.keys = a->klen[b];
    if (a->causal && at + 1 < r.keys) r.keys = at + 1;
    if (r.keys < 0) r.keys = 0;
    if (a->drop > 0)
        r.drop_key = b2_drop_key(line->step->seed, line->step->step, line->step->sample[b], a->site);
    return r;
}

static float dot(const act_t *x, const act_t *y, int n)
{
    float sum = 0;
    for (int d = 0; d < n; d++) sum += act_load(x[d]) * act_load(y[d]);
    return sum;
}

static void add_scaled(float *y, float s, const act_t *x, int n)
{
    for (int d = 0; d < n; d++) y[d] += s * act_load(x[d]);
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
        for (int j = 0; j < r->keys; j++) sum += p[j] * keep(r, j) * act_load(r->v[(int64_t)j * a->ldv + d]);
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

void B2_REF(attn_append)(b2_queue *q, void *ctx, void *kcache, void *vcache, const void *kv, int ld, int k0,
                         int v0, const b2_attn *a, void *ws)
{
    b2_append_rows(kcache, vcache, kv, ld, k0, v0, a, sizeof(act_t));
    B2_REF(attn_fwd)(q, ctx, NULL, a, ws);
}

size_t B2_REF(attn_fwd_ws)(const b2_attn *a, int threads)
{
    (void)threads;
    return (size_t)a->tk * sizeof(float);
}

/* Sums of one head's gradients, rows of dim: of the query in hand, of all keys. All of dbias, or NULL. */
typedef struct grads {
    float *q, *k, *v, *bias;
} grads;

static void backward_row(const query *r, const grads *g, const act_t *dctx, float lse, float *p, float *dp)
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
        add_scaled(g->v + (int64_t)j * a->dim, p[j] * keep(r, j), dctx, a->dim);
        add_scaled(g->q, a->scale * ds, r->k + (int64_t)j * a->ldk, a->dim);
        add_scaled(g->k + (int64_t)j * a->dim, a->scale * ds, r->q, a->dim);
        if (g->bias) g->bias[r->bias_at + j] += ds;
    }
}

/* Rows of a head to where they belong, NULL: not wanted; then they are 0 again. */
static void put_head(void *to, int64_t at, int ld, float *from, int rows, int dim)
{
    for (int i = 0; i < rows; i++) {
        for (int d = 0; d < dim; d++, from++) {
            if (to) ((act_t *)to)[at + (int64_t)i * ld + d] = act_store(*from);
            *from = 0;
        }
    }
}

void B2_REF(attn_bwd)(b2_queue *q, void *dq, int lddq, void *dk, int lddk, void *dv, int lddv, float *dbias,
                      const void *dctx, const float *lse, const b2_attn *a, void *ws)
{
    const int width = a->heads * a->dim;
    const int64_t cells = (int64_t)a->krows * a->dim;
    float *p = ws;
    const grads g = {
        .q = p + 2 * a->tk, .k = p + 2 * a->tk + a->dim, .v = p + 2 * a->tk + a->dim + cells, .bias = dbias};
    for (int64_t i = 0; i < a->dim + 2 * cells; i++) g.q[i] = 0;
    for (int b = 0; b < a->batch; b++) {
        for (int h = 0; h < a->heads; h++) {
            const int column = h * a->dim;
            for (int i = 0; i < a->tq; i++) {
                const query r = query_at(q, a, b, h, i);
                const int64_t row = (int64_t)b * a->tq + i;
                const float l = lse[((int64_t)b * a->heads + h) * a->tq + i];
                backward_row(&r, &g, (const act_t *)dctx + row * width + column, l, p, p + a->tk);
                put_head(dq, row * lddq + column, lddq, g.q, 1, a->dim);
            }
            put_head(dk, (int64_t)b * a->krows * lddk + column, lddk, g.k, a->krows, a->dim);
            put_head(dv, (int64_t)b * a->krows * lddv + column, lddv, g.v, a->krows, a->dim);
        }
    }
}

size_t B2_REF(attn_bwd_ws)(const b2_attn *a, int threads)
{
    (void)threads;
    return ((size_t)a->tk * 2 + (size_t)a->dim * (1 + 2 * (size_t)a->krows)) * sizeof(float);
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
