/* Ops of the loss, of choosing tokens, and of the optimizer. */
#include "op/op_core.h"

void b2_xent(b2_queue *q, float *row_loss, b2_tensor *logits, const int32_t *labels, bool want_grad)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "cross_entropy", b2_f32(logits) && b2_dense(logits), "logits %dx%d", logits->rows,
                     logits->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->xent(q, row_loss, logits->p, labels, logits->rows, logits->cols, want_grad);
    const b2_tensor out = b2_view_f32(row_loss, logits->rows, 1);
    b2_op_end(&o, &out);
}

void b2_argmax(b2_queue *q, int32_t *ids, float *logp, const b2_tensor *logits, const int32_t *forbid)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "argmax", b2_f32(logits) && b2_dense(logits), "logits %dx%d", logits->rows,
                     logits->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->argmax(q, ids, logp, logits->p, forbid, logits->rows, logits->cols);
    const b2_tensor out = b2_view_f32(logp, logits->rows, 1);
    b2_op_end(&o, &out);
}

void b2_sum(b2_queue *q, double *out, const float *x, int64_t n)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "sum", n >= 0, "%lld", (long long)n) || !b2_op_launch(&o)) return;
    q->k[B2_F32]->sum(q, out, x, n);
    b2_op_end(&o, NULL);
}

void b2_sumsq(b2_queue *q, double *out, const float *x, int64_t n)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "sumsq", n >= 0, "%lld", (long long)n)) return;
    void *ws = b2_op_ws(&o, q->k[B2_F32]->sumsq_ws(n, q->threads));
    if (!b2_op_launch(&o)) return;
    q->k[B2_F32]->sumsq(q, out, x, n, ws);
    b2_op_end(&o, NULL);
}

void b2_step_scale(b2_queue *q, b2_step *step, const double *sums, const float *count, double clip)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "step_scale", step && sums && count, "clip %g", clip) || !b2_op_launch(&o))
        return;
    q->k[B2_F32]->step_scale(q, step, sums, count, clip);
    b2_op_end(&o, NULL);
}

void b2_adamw(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "adamw", n >= 0 && q->step, "%lld", (long long)n) || !b2_op_launch(&o)) return;
    q->k[B2_F32]->adamw(q, w, g, m, v, n, decay);
    b2_op_end(&o, NULL);
}
