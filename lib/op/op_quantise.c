/* Ops that quantise rows and read them back. */
#include "op/op_core.h"

static bool narrow(const b2_param *w)
{
    return w->scale && (w->type == B2_I8 || (w->type == B2_I4 && w->cols % B2_I4_GROUP == 0));
}

void b2_quantise_rows(b2_queue *q, const b2_param *w, const b2_tensor *x)
{
    b2_op o;
    void *to = (void *)(uintptr_t)w->p,
         *scale = (void *)(uintptr_t)w->scale; /* the one op that writes them */
    const bool ok = narrow(w) && b2_is(x, w->rows, w->cols) && b2_dense(x) && x->type <= B2_BF16;
    if (!b2_op_begin(&o, q, "quantise", ok, "w %dx%d, x %dx%d", w->rows, w->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    if (w->type == B2_I8)
        q->k[x->type]->quantise_i8(q, to, scale, x->p, x->rows, x->cols);
    else
        q->k[x->type]->quantise_i4(q, to, scale, x->p, x->rows, x->cols);
    b2_op_end(&o, NULL);
}

void b2_dequantise_rows(b2_queue *q, b2_tensor *y, const b2_param *w)
{
    b2_op o;
    const bool ok = narrow(w) && b2_is(y, w->rows, w->cols) && b2_dense(y) && y->type <= B2_BF16;
    if (!b2_op_begin(&o, q, "dequantise", ok, "y %dx%d, w %dx%d", y->rows, y->cols, w->rows, w->cols) ||
        !b2_op_launch(&o))
        return;
    if (w->type == B2_I8)
        q->k[y->type]->dequantise_i8(q, y->p, w->p, w->scale, y->rows, y->cols);
    else
        q->k[y->type]->dequantise_i4(q, y->p, w->p, w->scale, y->rows, y->cols);
    b2_op_end(&o, y);
}
