/* Ops of RMS norm and layer norm. */
#include "op/op_core.h"

static bool vector(const b2_param *p, int n)
{
    return p->p && p->type == B2_F32 && p->rows == 1 && p->cols == n;
}

void b2_rmsnorm(b2_queue *q, b2_tensor *y, float *r, const b2_tensor *x, const b2_param *w, float eps)
{
    b2_op o;
    const bool ok =
        b2_same(y, x) && b2_f32(x) && b2_dense(x) && b2_dense(y) && (q->dry || vector(w, x->cols));
    if (!b2_op_begin(&o, q, "rmsnorm", ok, "y %dx%d, x %dx%d, w %d", y->rows, y->cols, x->rows, x->cols,
                     w->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->rmsnorm_fwd(q, y->p, r, x->p, w->p, x->rows, x->cols, eps);
    b2_op_end(&o, y);
}

void b2_rmsnorm_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const float *r,
                    const b2_param *w, float beta)
{
    b2_op o;
    const bool ok = (!dx || (b2_same(dx, x) && b2_f32(dx))) && b2_same(dy, x) && b2_f32(dy) && b2_f32(x);
    if (!b2_op_begin(&o, q, "rmsnorm_bwd", ok, "dy %dx%d, x %dx%d", dy->rows, dy->cols, x->rows, x->cols))
        return;
    const b2_kernels *t = q->k[B2_F32];
    void *ws = b2_op_ws(&o, t->norm_bwd_ws(x->rows, x->cols, q->threads));
    if (!b2_op_launch(&o)) return;
    t->rmsnorm_bwd(q, dx ? dx->p : NULL, w->g, dy->p, x->p, r, w->p, x->rows, x->cols, beta, ws);
    b2_op_end(&o, dx);
}

void b2_layernorm(b2_queue *q, b2_tensor *y, b2_tensor *y32, float *stat, const b2_tensor *x,
                  const b2_param *g, const b2_param *b, float eps)
{
    b2_op o;
    const bool ok = (!y || b2_same(y, x)) && (!y32 || (b2_same(y32, x) && b2_f32(y32))) && b2_f32(x) &&
                    (q->dry || (vector(g, x->cols) && vector(b, x->cols)));
    if (!b2_op_begin(&o, q, "layernorm", ok, "x %dx%d, g %d, b %d", x->rows, x->cols, g->cols, b->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[y ? y->type : B2_F32]->layernorm_fwd(q, y ? y->p : NULL, y32 ? y32->p : NULL, stat, x->p, g->p, b->p,
                                              x->rows, x->cols, eps);
    b2_op_end(&o, y ? y : y32);
}

void b2_layernorm_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const float *stat,
                      const b2_param *g, const b2_param *b, float beta)
{
    b2_op o;
    const bool ok = (!dx || (b2_same(dx, x) && b2_f32(dx))) && b2_same(dy, x) && b2_f32(dy) && b2_f32(x);
    if (!b2_op_begin(&o, q, "layernorm_bwd", ok, "dy %dx%d, x %dx%d", dy->rows, dy->cols, x->rows, x->cols))
        return;
    const b2_kernels *t = q->k[B2_F32];
    void *ws = b2_op_ws(&o, t->norm_bwd_ws(x->rows, x->cols, q->threads));
    if (!b2_op_launch(&o)) return;
    t->layernorm_bwd(q, dx ? dx->p : NULL, g->g, b->g, dy->p, x->p, stat, g->p, x->rows, x->cols, beta, ws);
    b2_op_end(&o, dx);
}
