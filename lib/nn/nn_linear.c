/* nn.Linear with LoRA inside: y = x W^T + b + scale * B(A(drop(x))). */
#include "nn/nn.h"

b2_tensor b2_keep(const b2_pass *p, b2_dtype t, int rows, int cols)
{
    return b2_new(p->q, p->save ? p->save : p->q->scratch, t, rows, cols);
}

b2_tensor b2_grad_of(const b2_pass *p, const b2_tensor *dx, int items, float drop, uint32_t site)
{
    if (drop <= 0.0f && p->act == B2_F32) return *dx;
    b2_tensor dy = b2_scratch(p->q, p->act, dx->rows, dx->cols);
    b2_cast(p->q, &dy, dx, (b2_drop){drop, site, items > 0 ? dx->rows / items : 0});
    return dy;
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

static const b2_lora_slot *slot_of(const b2_linear *l, int i)
{
    return l->lora[i] && l->lora[i]->n ? l->lora[i] : NULL;
}

/* What l's adapters are to the kernels; false: there is none, or x has no rows. Of s come the kept u. all:
 * blocks without an adapter too. */
static bool lora_of(b2_lora *t, const b2_pass *p, const b2_linear *l, const b2_linear_saved *s,
                    const b2_tensor *x, int items, float alpha, bool all)
{
    if (!slot_of(l, 0) && !slot_of(l, 1) && !slot_of(l, 2)) return false;
    *t = (b2_lora){
        .which = p->which, .items = items, .per_item = items > 0 ? x->rows / items : 0, .k = x->cols};
    for (int i = 0, c = 0; i < l->n; c += l->w[i].rows, i++) {
        const b2_lora_slot *slot = slot_of(l, i);
        if (!slot && !all) continue;
        b2_lora_block *b = &t->block[t->blocks++];
        b->c0 = c;
        b->n = l->w[i].rows;
        if (!slot) continue;
        b->u = s ? s->u[i].p : NULL;
        b->ga = slot->ga;
        b->gb = slot->gb;
        b->drop = slot->drop;
        b->site = slot->site;
        for (int k = 0; k < slot->n; k++) {
            b->ab[k] = slot->ab[k];
            b->ab[k].scale *= alpha;
        }
    }
    return t->blocks > 0 && t->per_item > 0;
}

/* What the backward wants of the forward: x, and room for each adapter's u. */
static void keep_inputs(const b2_pass *p, const b2_linear *l, b2_linear_saved *s, const b2_tensor *x,
                        int items)
{
    s->x = *x;
    s->items = items;
    for (int i = 0; i < l->n; i++) {
        const b2_lora_slot *slot = slot_of(l, i);
        if (slot) s->u[i] = b2_new(p->q, p->save, B2_F32, x->rows, slot->ab[0].r);
    }
}

void b2_linear_fwd(const b2_pass *p, const b2_linear *l, b2_linear_saved *s, b2_tensor *y, const b2_tensor *x,
                   int items, float alpha, float beta)
{
    const b2_wblocks w = blocks_of(l);
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_lora lora;
    b2_tensor base = *y; /* rounded only when LoRA is on top: its steps may be smaller than y's own */
    if (!p->save) s = NULL;
    if (s) keep_inputs(p, l, s, x, items);
    const bool adapts = lora_of(&lora, p, l, s, x, items, alpha, y->type != B2_F32);
    const bool apart = adapts && y->type != B2_F32 && beta == 0.0f; /* no other beta: b2_gemm refuses */
    if (apart) base = b2_scratch(p->q, B2_F32, y->rows, y->cols);
    b2_gemm(p->q, &base, x, &w, alpha, beta);
    if (adapts) b2_lora_fwd(p->q, y, &base, x, &lora);
    b2_arena_release(p->q->scratch, mark);
}

void b2_linear_bwd(const b2_pass *p, const b2_linear *l, const b2_linear_saved *s, b2_tensor *dx,
                   const b2_tensor *dy, float alpha, float beta)
{
    const b2_wblocks w = blocks_of(l);
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_lora lora;
    const bool adapts = lora_of(&lora, p, l, s, &s->x, s->items, alpha, false);
    const bool apart = dx && adapts && dx->type != B2_F32 && beta == 0.0f; /* LoRA adds to sums */
    b2_tensor sum = apart ? b2_scratch(p->q, B2_F32, dx->rows, dx->cols) : dx ? *dx : (b2_tensor){0};
    if (dx) b2_gemm_dx(p->q, &sum, dy, &w, alpha, beta);
    for (int i = 0, c = 0; i < l->n; c += l->w[i].rows, i++) {
        const b2_tensor dyb = b2_cols(dy, c, l->w[i].rows);
        if (l->w[i].g) b2_gemm_dw(p->q, l->w[i].g, &dyb, &s->x, alpha);
        if (l->b[i].g) b2_bias_grad(p->q, l->b[i].g, &dyb);
    }
    if (adapts) b2_lora_bwd(p->q, dx ? &sum : NULL, dy, &s->x, &lora);
    if (apart) b2_cast(p->q, dx, &sum, (b2_drop){0});
    b2_arena_release(p->q->scratch, mark);
}

bool b2_linear_trains(const b2_linear *l)
{
    for (int i = 0; i < l->n; i++) {
        const b2_lora_slot *s = slot_of(l, i);
        if (l->w[i].g || l->b[i].g || (s && (s->ga || s->gb))) return true;
    }
    return false;
}
