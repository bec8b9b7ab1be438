/* Ops of attention: scores, relative bias, KV cache. */
#include "op/op_core.h"

static bool sane(const b2_attn *a)
{
    const int width = a->heads * a->dim;
    return a->batch >= 0 && a->tq >= 0 && a->tk >= 0 && a->tk <= a->krows && a->heads > 0 && a->heads < 256 &&
           a->dim > 0 && a->ldq >= width && a->ldk >= width && a->ldv >= width && a->tq <= 4096 &&
           a->tk <= 4096;
}

void b2_attention(b2_queue *q, b2_tensor *ctx, float *lse, const b2_attn *a)
{
    b2_op o;
    const bool ok = sane(a) && b2_is(ctx, a->batch * a->tq, a->heads * a->dim) && b2_dense(ctx);
    if (!b2_op_begin(&o, q, "attention", ok,
                     "batch %d, heads %d x %d, %d queries (at most 4096), %d keys (at most 4096)", a->batch,
                     a->heads, a->dim, a->tq, a->tk))
        return;
    const b2_kernels *t = q->k[ctx->type];
    void *ws = b2_op_ws(&o, t->attn_fwd_ws(a, q->threads));
    if (!b2_op_launch(&o)) return;
    t->attn_fwd(q, ctx->p, lse, a, ws);
    b2_op_end(&o, ctx);
}

void b2_attention_bwd(b2_queue *q, b2_tensor *dq, b2_tensor *dk, b2_tensor *dv, float *dbias,
                      const b2_tensor *dctx, const float *lse, const b2_attn *a)
{
    b2_op o;
    const int width = a->heads * a->dim;
    const bool ok = sane(a) && !a->kvrow && b2_is(dq, a->batch * a->tq, width) &&
                    b2_is(dk, a->batch * a->krows, width) && b2_same(dk, dv) && b2_same(dctx, dq) &&
                    dq->type == dctx->type && dk->type == dctx->type && dv->type == dctx->type &&
                    b2_dense(dctx);
    if (!b2_op_begin(&o, q, "attention_bwd", ok, "batch %d, heads %d x %d, %d queries, %d keys", a->batch,
                     a->heads, a->dim, a->tq, a->tk))
        return;
    const b2_kernels *t = q->k[dctx->type];
    void *ws = b2_op_ws(&o, t->attn_bwd_ws(a, q->threads));
    if (!b2_op_launch(&o)) return;
    t->attn_bwd(q, dq->p, dq->ld, dk->p, dk->ld, dv->p, dv->ld, dbias, dctx->p, lse, a, ws);
    b2_op_end(&o, dq);
}

void b2_relbias(b2_queue *q, float *bias, const b2_param *table, int max_distance, bool bidirectional,
                int zero, int n)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "relbias", zero >= 0 && zero < n && table->type == B2_F32, "zero %d of %d", zero,
                     n) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->relbias_fwd(q, bias, table->p, table->cols, table->rows, max_distance, bidirectional, zero,
                              n);
    const b2_tensor out = b2_view_f32(bias, table->cols, n);
    b2_op_end(&o, &out);
}

void b2_relbias_bwd(b2_queue *q, const float *dbias, const b2_param *table, int max_distance,
                    bool bidirectional, int zero, int n)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "relbias_bwd", zero >= 0 && zero < n, "zero %d of %d", zero, n) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->relbias_bwd(q, table->g, dbias, table->cols, table->rows, max_distance, bidirectional, zero,
                              n);
    const b2_tensor out = b2_view_f32(table->g, table->rows, table->cols);
    b2_op_end(&o, &out);
}

void b2_attention_append(b2_queue *q, b2_tensor *ctx, b2_tensor *k, b2_tensor *v, const b2_tensor *kv, int k0,
                         int v0, const b2_attn *a)
{
    b2_op o;
    const int cols = a->heads * a->dim;
    const bool ok = sane(a) && b2_same(k, v) && k->cols == cols && kv->rows >= a->batch &&
                    k->rows >= a->batch * a->krows && kv->type == ctx->type && k->type == ctx->type &&
                    v->type == ctx->type && b2_dense(k) && b2_dense(v) && k0 + cols <= kv->cols &&
                    v0 + cols <= kv->cols && a->tq == 1 && a->qpos && !a->kvrow && a->k == k->p &&
                    a->v == v->p && a->ldk == cols && a->ldv == cols && b2_is(ctx, a->batch, cols);
    if (!b2_op_begin(&o, q, "attn_append", ok, "%d items, %d heads of %d, cache %dx%d, kv %dx%d", a->batch,
                     a->heads, a->dim, k->rows, k->cols, kv->rows, kv->cols))
        return;
    const b2_kernels *t = q->k[ctx->type];
    void *ws = b2_op_ws(&o, t->attn_fwd_ws(a, q->threads));
    if (!b2_op_launch(&o)) return;
    t->attn_append(q, ctx->p, k->p, v->p, kv->p, kv->ld, k0, v0, a, ws);
    b2_op_end(&o, ctx);
}
