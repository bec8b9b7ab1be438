/* RMS norm (no bias) and layer norm behind one face. */
#include "nn/nn.h"

void b2_norm_fwd(const b2_pass *p, const b2_norm *n, b2_norm_saved *s, b2_tensor *y, b2_tensor *y32,
                 const b2_tensor *x)
{
    const bool rms = !n->b.cols;
    float *stat = NULL;
    if (s && p->save) {
        s->x = *x;
        s->stat = stat = b2_new(p->q, p->save, B2_F32, x->rows, rms ? 1 : 2).p;
    }
    if (!rms) {
        b2_layernorm(p->q, y, y32, stat, x, &n->w, &n->b, n->eps);
        return;
    }
    b2_rmsnorm(p->q, y ? y : y32, stat, x, &n->w, n->eps);
    if (y && y32) b2_rmsnorm(p->q, y32, NULL, x, &n->w, n->eps);
}

void b2_norm_bwd(const b2_pass *p, const b2_norm *n, const b2_norm_saved *s, b2_tensor *dx,
                 const b2_tensor *dy, float beta)
{
    if (!n->b.cols)
        b2_rmsnorm_bwd(p->q, dx, dy, &s->x, s->stat, &n->w, beta);
    else
        b2_layernorm_bwd(p->q, dx, dy, &s->x, s->stat, &n->w, &n->b, beta);
}

void b2_norm_fwd_keep(const b2_pass *p, const b2_norm *n, b2_norm_saved *s, b2_tensor *y, const b2_tensor *x)
{
    if (!s || !p->save) {
        b2_norm_fwd(p, n, NULL, y, NULL, x);
        return;
    }
    b2_tensor kept = b2_new(p->q, p->save, B2_F32, x->rows, x->cols);
    b2_copy(p->q, &kept, x);
    b2_norm_fwd(p, n, s, y, NULL, &kept);
}

bool b2_norm_trains(const b2_norm *n) { return n->w.g || n->b.g; }
