/* nn.Linear with LoRA inside: y = x W^T + b + scale * B(A(drop(x))). */
#include "nn/nn.h"

b2_tensor b2_keep(const b2_pass *p, b2_dtype t, int rows, int cols)
{
    return b2_new(p->q, p->save ? p->save : p->q->scratch, t, rows, cols);
}

int b2_linear_out(const b2_linear *l)
{
    int n = 0;
    for (int i = 0; i < l->n; i++) n += l->w[i].rows;
    return n;
}

int b2_linear_in(const b2_linear *l) { return l->w[0].cols; }

static b2_wblocks blocks_of(const b2_linear *l)
{
    b2_wblocks w = {{NULL}, {NULL}, l->n};
    for (int i = 0; i < l->n; i++) {
        w.w[i] = &l->w[i];
        w.b[i] = l->b[i].p ? &l->b[i] : NULL;
    }
    return w;
}

static b2_wblocks one(const b2_param *w)
{
    const b2_wblocks b = {{w}, {NULL}, 1};
    return b;
}

static b2_param matrix(const float *p, int rows, int cols)
{
    const b2_param m = {p, B2_F32, rows, cols, NULL, NULL};
    return m;
}

static const b2_lora_slot *slot_of(const b2_linear *l, int i)
{
    return l->lora[i] && l->lora[i]->n ? l->lora[i] : NULL;
}

/* x itself, or a dropped copy in scratch. */
static b2_tensor lora_input(const b2_pass *p, const b2_lora_slot *s, const b2_tensor *x, int items)
{
    if (s->drop <= 0.0f) return *x;
    b2_tensor d = b2_scratch(p->q, x->type, x->rows, x->cols);
    b2_dropout(p->q, &d, x, items, s->drop, s->site);
    return d;
}

static void lora_fwd(const b2_pass *p, const b2_lora_slot *slot, b2_tensor *keep_u, b2_tensor *y,
                     const b2_tensor *x, int items, float alpha)
{
    b2_lora_ab ab[B2_MAX_ADAPTERS];
    const int per_item = items > 0 ? x->rows / items : 0;
    if (per_item == 0) return;
    for (int i = 0; i < slot->n; i++) {
        ab[i] = slot->ab[i];
        ab[i].scale *= alpha;
    }
    const size_t mark = b2_arena_mark(p->q->scratch);
    if (keep_u) *keep_u = b2_new(p->q, p->save, B2_F32, x->rows, ab[0].r);
    const b2_tensor xd = lora_input(p, slot, x, items);
    b2_lora(p->q, y, keep_u, &xd, ab, slot->n, p->which, per_item);
    b2_arena_release(p->q->scratch, mark);
}

void b2_linear_fwd(const b2_pass *p, const b2_linear *l, b2_linear_saved *s, b2_tensor *y, const b2_tensor *x,
                   int items, float alpha, float beta)
{
    const b2_wblocks w = blocks_of(l);
    b2_gemm(p->q, y, x, &w, alpha, beta);
    const bool keep = s && p->save;
    if (keep) {
        s->x = *x;
        s->items = items;
    }
    for (int i = 0, c = 0; i < l->n; c += l->w[i].rows, i++) {
        const b2_lora_slot *slot = slot_of(l, i);
        if (!slot) continue;
        b2_tensor yb = b2_cols(y, c, l->w[i].rows);
        lora_fwd(p, slot, keep ? &s->u[i] : NULL, &yb, x, items, alpha);
    }
}

/* du = scale dy B;  dB += scale dy^T u;  dA += du^T drop(x);  dx += mask(du A) */
static void lora_bwd(const b2_pass *p, const b2_lora_slot *slot, const b2_linear_saved *s, const b2_tensor *u,
                     b2_tensor *dx, const b2_tensor *dy, float alpha)
{
    b2_queue *q = p->q;
    const b2_lora_ab *ab = &slot->ab[0];
    const size_t mark = b2_arena_mark(q->scratch);
    const b2_param a = matrix(ab->a, ab->r, s->x.cols), b = matrix(ab->b, dy->cols, ab->r);
    const b2_wblocks wa = one(&a), wb = one(&b);
    b2_tensor du = b2_scratch(q, B2_F32, dy->rows, ab->r);
    b2_gemm_dx(q, &du, dy, &wb, ab->scale * alpha, 0.0f);
    if (slot->gb) b2_gemm_dw(q, slot->gb, dy, u, ab->scale * alpha);
    if (slot->ga) {
        const b2_tensor xd = lora_input(p, slot, &s->x, s->items);
        b2_gemm_dw(q, slot->ga, &du, &xd, 1.0f);
    }
    if (dx && slot->drop <= 0.0f) {
        b2_gemm_dx(q, dx, &du, &wa, 1.0f, 1.0f);
    } else if (dx) {
        b2_tensor t = b2_scratch(q, B2_F32, dx->rows, dx->cols);
        b2_gemm_dx(q, &t, &du, &wa, 1.0f, 0.0f);
        b2_dropout_add(q, dx, &t, s->items, slot->drop, slot->site, 1.0f);
    }
    b2_arena_release(q->scratch, mark);
}

void b2_linear_bwd(const b2_pass *p, const b2_linear *l, const b2_linear_saved *s, b2_tensor *dx,
                   const b2_tensor *dy, float alpha, float beta)
{
    const b2_wblocks w = blocks_of(l);
    if (dx) b2_gemm_dx(p->q, dx, dy, &w, alpha, beta);
    for (int i = 0, c = 0; i < l->n; c += l->w[i].rows, i++) {
        const b2_tensor dyb = b2_cols(dy, c, l->w[i].rows);
        const b2_lora_slot *slot = slot_of(l, i);
        if (l->w[i].g) b2_gemm_dw(p->q, l->w[i].g, &dyb, &s->x, alpha);
        if (l->b[i].g) b2_bias_grad(p->q, l->b[i].g, &dyb);
        if (slot) lora_bwd(p, slot, s, &s->u[i], dx, &dyb, alpha);
    }
}

bool b2_linear_trains(const b2_linear *l)
{
    for (int i = 0; i < l->n; i++) {
        const b2_lora_slot *s = slot_of(l, i);
        if (l->w[i].g || l->b[i].g || (s && (s->ga || s->gb))) return true;
    }
    return false;
}
