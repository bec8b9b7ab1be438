/* Ops of nn.Linear and LoRA. */
#include "op/op_core.h"

int b2_wblocks_out(const b2_wblocks *w)
{
    int n = 0;
    for (int i = 0; i < w->n; i++) n += w->w[i]->rows;
    return n;
}

/* Kernel arguments of the blocks; false when they do not share a type and an input width. */
static bool blocks(b2_rows r[3], const b2_wblocks *w, int k)
{
    if (w->n < 1 || w->n > 3) return false;
    for (int i = 0; i < w->n; i++) {
        const b2_param *b = w->b[i];
        if (w->w[i]->cols != k || w->w[i]->type != w->w[0]->type) return false;
        if (w->w[i]->type >= B2_I8 && !w->w[i]->scale) return false;
        if (b && (b->type != B2_F32 || b->cols != w->w[i]->rows)) return false;
        r[i] = (b2_rows){w->w[i]->p, b ? b->p : NULL, w->w[i]->rows, w->w[i]->scale};
    }
    return true;
}

void b2_gemm(b2_queue *q, b2_tensor *y, const b2_tensor *x, const b2_wblocks *w, float alpha, float beta)
{
    b2_op o;
    b2_rows r[3];
    const int m = x->rows, k = x->cols, n = b2_wblocks_out(w);
    const bool ok = blocks(r, w, k) && b2_is(y, m, n) && b2_dense(x) && b2_sum_or(y, x->type) &&
                    (b2_f32(y) || beta == 0.0f);
    if (!b2_op_begin(&o, q, "gemm", ok, "y %dx%d %s = x %dx%d %s times w %dx%d, beta %g", y->rows, y->cols,
                     b2_type_of(y), m, k, b2_type_of(x), n, w->w[0]->cols, (double)beta))
        return;
    const b2_kernels *t = q->k[x->type];
    void *ws = b2_op_ws(&o, t->gemm_ws(m, n, k, q->threads));
    if (!b2_op_launch(&o)) return;
    void (*const by_format[])(b2_queue *, b2_out, const void *, const b2_rows *, int, int, int, float, float,
                              void *) = {t->gemm_wf32, t->gemm_wbf16, t->gemm_wi8, t->gemm_wi4};
    by_format[w->w[0]->type](q, b2_out_of(y), x->p, r, w->n, m, k, alpha, beta, ws);
    b2_op_end(&o, y);
}

void b2_gemm_dx(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_wblocks *w, float alpha, float beta)
{
    b2_op o;
    b2_rows r[3];
    const int m = dy->rows, k = dx->cols, n = b2_wblocks_out(w);
    const bool ok = blocks(r, w, k) && b2_is(dy, m, n) && dx->rows == m && b2_sum_or(dx, q->act) &&
                    b2_sum_or(dy, q->act) && (b2_f32(dx) || beta == 0.0f);
    if (!b2_op_begin(&o, q, "gemm_dx", ok, "dx %dx%d %s = dy %dx%d %s times w %dx%d, beta %g", dx->rows, k,
                     b2_type_of(dx), m, dy->cols, b2_type_of(dy), n, w->w[0]->cols, (double)beta))
        return;
    const b2_kernels *t = q->k[q->act];
    void *ws = b2_op_ws(&o, t->gemm_dx_ws(m, n, k, q->threads));
    if (!b2_op_launch(&o)) return;
    void (*const by_format[])(b2_queue *, b2_out, b2_in, const b2_rows *, int, int, int, float, float,
                              void *) = {t->gemm_dx_wf32, t->gemm_dx_wbf16, t->gemm_dx_wi8, t->gemm_dx_wi4};
    by_format[w->w[0]->type](q, b2_out_of(dx), b2_in_of(dy), r, w->n, m, k, alpha, beta, ws);
    b2_op_end(&o, dx);
}

void b2_gemm_dw(b2_queue *q, float *dw, const b2_tensor *dy, const b2_tensor *x, float alpha)
{
    b2_op o;
    const int m = x->rows, n = dy->cols, k = x->cols;
    if (!b2_op_begin(&o, q, "gemm_dw", dy->rows == m && b2_sum_or(dy, x->type) && b2_dense(x),
                     "dy %dx%d, x %dx%d", dy->rows, n, m, k))
        return;
    const b2_kernels *t = q->k[x->type];
    void *ws = b2_op_ws(&o, t->gemm_dw_ws(m, n, k, q->threads));
    if (!b2_op_launch(&o)) return;
    t->gemm_dw(q, dw, b2_in_of(dy), x->p, m, n, k, alpha, ws);
    const b2_tensor out = b2_view_f32(dw, n, k);
    b2_op_end(&o, &out);
}

void b2_bias_grad(b2_queue *q, float *db, const b2_tensor *dy)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "bias_grad", b2_sum_or(dy, q->act), "dy %dx%d", dy->rows, dy->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[dy->type]->bias_grad(q, db, b2_in_of(dy), dy->rows, dy->cols);
    const b2_tensor out = b2_view_f32(db, 1, dy->cols);
    b2_op_end(&o, &out);
}

/* x [m,k] and y (or dy), which holds all of l's blocks. */
static bool lora_fits(const b2_lora *l, const b2_tensor *x, const b2_tensor *y)
{
    bool ok = l->items > 0 && l->per_item > 0 && x->rows == l->items * l->per_item && y->rows == x->rows &&
              x->cols == l->k && b2_dense(x) && l->blocks >= 1 && l->blocks <= 3;
    for (int i = 0; ok && i < l->blocks; i++) {
        const b2_lora_block *b = &l->block[i];
        ok = b->c0 >= 0 && b->n >= 0 && b->c0 + b->n <= y->cols && !(b->u && l->which) && b->drop < 1;
    }
    return ok;
}

/* Do l's blocks lie side by side over all of y? */
static bool lora_covers(const b2_lora *l, const b2_tensor *y)
{
    int c = 0;
    for (int i = 0; i < l->blocks && l->block[i].c0 == c; i++) c += l->block[i].n;
    return c == y->cols;
}

void b2_lora_fwd(b2_queue *q, b2_tensor *y, b2_tensor *base, const b2_tensor *x, const b2_lora *l)
{
    b2_op o;
    const bool in_place = base->p == y->p && base->ld == y->ld && b2_f32(y);
    const bool ok = lora_fits(l, x, y) && b2_same(base, y) && b2_f32(base) &&
                    (in_place || (b2_sum_or(y, x->type) && lora_covers(l, y)));
    if (!b2_op_begin(&o, q, "lora", ok, "y %dx%d, x %dx%d, %d blocks, %d items of %d rows of %d", y->rows,
                     y->cols, x->rows, x->cols, l->blocks, l->items, l->per_item, l->k))
        return;
    const b2_kernels *t = q->k[x->type];
    void *ws = b2_op_ws(&o, t->lora_fwd_ws(l, q->threads));
    if (!b2_op_launch(&o)) return;
    t->lora_fwd(q, b2_out_of(y), base->p, base->ld, x->p, l, ws);
    b2_op_end(&o, y);
}

void b2_lora_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const b2_lora *l)
{
    b2_op o;
    bool ok = lora_fits(l, x, dy) && b2_sum_or(dy, x->type) && !l->which &&
              (!dx || (b2_same(dx, x) && b2_f32(dx) && b2_dense(dx)));
    for (int i = 0; ok && i < l->blocks; i++) ok = !l->block[i].gb || l->block[i].u;
    if (!b2_op_begin(&o, q, "lora_bwd", ok, "dy %dx%d, x %dx%d, %d blocks, %d items of %d rows of %d",
                     dy->rows, dy->cols, x->rows, x->cols, l->blocks, l->items, l->per_item, l->k))
        return;
    const b2_kernels *t = q->k[x->type];
    void *ws = b2_op_ws(&o, t->lora_bwd_ws(l, q->threads));
    if (!b2_op_launch(&o)) return;
    t->lora_bwd(q, dx ? dx->p : NULL, b2_in_of(dy), x->p, l, ws);
    const b2_tensor first = b2_view_f32(l->block[0].ga, l->block[0].ab[0].r, l->k);
    b2_op_end(&o, dx ? dx : &first); /* never dy: what it holds is not this op's doing */
    for (int i = 0; i < l->blocks; i++) {
        const b2_lora_block *b = &l->block[i];
        const b2_tensor ga = b2_view_f32(b->ga, b->ab[0].r, l->k), gb = b2_view_f32(b->gb, b->n, b->ab[0].r);
        b2_op_look(&o, &ga);
        b2_op_look(&o, &gb);
    }
}
