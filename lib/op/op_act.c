/* Elementwise ops. */
#include <string.h>
#include "op/op_core.h"

void b2_act(b2_queue *q, b2_tensor *y, const b2_tensor *x, b2_act_fn fn)
{
    b2_op o;
    const bool ok = b2_same(y, x) && y->type == x->type && b2_dense(x) && b2_dense(y);
    if (!b2_op_begin(&o, q, "act", ok, "y %dx%d %s, x %dx%d %s", y->rows, y->cols, b2_type_of(y), x->rows,
                     x->cols, b2_type_of(x)) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->act_fwd(q, y->p, x->p, b2_numel(x), fn);
    b2_op_end(&o, y);
}

void b2_act_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, b2_act_fn fn)
{
    b2_op o;
    const bool ok = b2_same(dx, x) && b2_same(dy, x) && dx->type == x->type && dy->type == x->type &&
                    b2_dense(x) && b2_dense(dx) && b2_dense(dy);
    if (!b2_op_begin(&o, q, "act_bwd", ok, "dx %dx%d, x %dx%d", dx->rows, dx->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[x->type]->act_bwd(q, dx->p, dy->p, x->p, b2_numel(x), fn);
    b2_op_end(&o, dx);
}

/* Do rows make whole samples? */
static bool drop_fits(const b2_drop *d, int rows)
{
    return d->p <= 0.0f || rows == 0 || (d->p < 1.0f && d->rows > 0 && rows % d->rows == 0);
}

void b2_glu(b2_queue *q, b2_tensor *y, const b2_tensor *gu, b2_act_fn fn, b2_drop drop)
{
    b2_op o;
    const bool ok = gu->rows == y->rows && gu->cols == 2 * y->cols && gu->type == y->type &&
                    drop_fits(&drop, y->rows) && b2_dense(gu) && b2_dense(y);
    if (!b2_op_begin(&o, q, "glu", ok, "y %dx%d, gu %dx%d", y->rows, y->cols, gu->rows, gu->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->glu_fwd(q, y->p, gu->p, y->rows, y->cols, fn, drop);
    b2_op_end(&o, y);
}

void b2_glu_bwd(b2_queue *q, b2_tensor *dgu, const b2_tensor *dy, const b2_tensor *gu, b2_act_fn fn,
                b2_drop drop)
{
    b2_op o;
    const bool ok = b2_same(dgu, gu) && gu->cols == 2 * dy->cols && dy->rows == gu->rows &&
                    drop_fits(&drop, dy->rows) && dgu->type == gu->type && dy->type == gu->type &&
                    b2_dense(gu) && b2_dense(dgu) && b2_dense(dy);
    if (!b2_op_begin(&o, q, "glu_bwd", ok, "dgu %dx%d, dy %dx%d", dgu->rows, dgu->cols, dy->rows, dy->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[gu->type]->glu_bwd(q, dgu->p, dy->p, gu->p, dy->rows, dy->cols, fn, drop);
    b2_op_end(&o, dgu);
}

void b2_cast(b2_queue *q, b2_tensor *y, const b2_tensor *x, b2_drop drop)
{
    b2_op o;
    const bool ok = b2_same(y, x) && b2_f32(x) && b2_dense(x) && b2_dense(y) && drop_fits(&drop, x->rows);
    if (!b2_op_begin(&o, q, "cast", ok, "y %dx%d, x %dx%d", y->rows, y->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->cast(q, y->p, x->p, x->rows, x->cols, drop);
    b2_op_end(&o, y);
}

void b2_add(b2_queue *q, b2_tensor *y, const b2_tensor *x)
{
    b2_op o;
    const bool ok = b2_same(y, x) && b2_f32(x) && b2_f32(y) && b2_dense(x) && b2_dense(y);
    if (!b2_op_begin(&o, q, "add", ok, "y %dx%d, x %dx%d", y->rows, y->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->add(q, y->p, x->p, b2_numel(x));
    b2_op_end(&o, y);
}

void b2_zero(b2_queue *q, b2_tensor *y)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "zero", b2_dense(y), "y %dx%d", y->rows, y->cols) || !b2_op_launch(&o)) return;
    b2_clear(q, y->p, (size_t)b2_numel(y) * b2_dtype_size(y->type));
    b2_op_end(&o, NULL);
}

void b2_copy(b2_queue *q, b2_tensor *y, const b2_tensor *x)
{
    b2_op o;
    const bool ok = b2_same(y, x) && y->type == x->type && b2_dense(x) && b2_dense(y);
    if (!b2_op_begin(&o, q, "copy", ok, "y %dx%d, x %dx%d", y->rows, y->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    b2_move(q, y->p, x->p, (size_t)b2_numel(y) * b2_dtype_size(y->type));
    b2_op_end(&o, NULL);
}

void b2_dropout(b2_queue *q, b2_tensor *y, const b2_tensor *x, int samples, float p, uint32_t site)
{
    b2_op o;
    if (p <= 0.0f) {
        if (y->p != x->p) b2_copy(q, y, x);
        return;
    }
    const bool ok = b2_same(y, x) && y->type == x->type && samples > 0 && x->rows % samples == 0 &&
                    b2_dense(x) && b2_dense(y);
    if (!b2_op_begin(&o, q, "dropout", ok, "y %dx%d, x %dx%d, %d samples", y->rows, y->cols, x->rows, x->cols,
                     samples) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->dropout(q, y->p, x->p, b2_numel(x) / samples, samples, p, site);
    b2_op_end(&o, y);
}

void b2_dropout_add(b2_queue *q, b2_tensor *y, const b2_tensor *x, int samples, float p, uint32_t site,
                    float beta)
{
    b2_op o;
    if (p <= 0.0f) {
        if (beta != 0.0f)
            b2_add(q, y, x);
        else if (y->p != x->p)
            b2_copy(q, y, x);
        return;
    }
    const bool ok = b2_same(y, x) && b2_f32(x) && b2_f32(y) && samples > 0 && x->rows % samples == 0 &&
                    b2_dense(x) && b2_dense(y);
    if (!b2_op_begin(&o, q, "dropout_add", ok, "y %dx%d, x %dx%d, %d samples", y->rows, y->cols, x->rows,
                     x->cols, samples) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->dropout_add(q, y->p, x->p, b2_numel(x) / samples, samples, p, site, beta);
    b2_op_end(&o, y);
}
