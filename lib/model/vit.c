/* The vision transformer (EVA-CLIP g): Blip2VisionModel in modeling_blip_2.py. Pre-norm, no mask, no
 * dropout. */
#include "model/parts.h"

b2_dual b2_dual_new(const b2_pass *p, b2_arena *a, int rows, int cols)
{
    b2_dual d;
    d.f = b2_new(p->q, a, B2_F32, rows, cols);
    d.t = p->act == B2_F32 ? d.f : b2_new(p->q, a, p->act, rows, cols);
    return d;
}

static b2_mha_io self_io(int n, int t)
{
    const b2_mha_io io = {.batch = n, .tq = t, .tk = t};
    return io;
}

/* x += attention(LN1 x);  x += mlp(LN2 x) */
static void layer_fwd(const b2_pass *p, const b2_vit_layer *l, b2_vit_saved *s, b2_tensor *x, int n)
{
    const b2_mha_io io = self_io(n, x->rows / n);
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor h = b2_keep(p, p->act, x->rows, x->cols);
    b2_norm_fwd_keep(p, &l->ln1, &s->ln1, &h, x);
    b2_mha_fwd(p, &l->attn, &s->attn, &io, x, &h, NULL, 1.0f);
    if (p->save) h = b2_keep(p, p->act, x->rows, x->cols);
    b2_norm_fwd_keep(p, &l->ln2, &s->ln2, &h, x);
    b2_mlp_fwd(p, &l->mlp, &s->mlp, x, &h, n, 1.0f);
    b2_arena_release(p->q->scratch, mark);
}

static void layer_bwd(const b2_pass *p, const b2_vit_layer *l, const b2_vit_saved *s, b2_tensor *dx, int n)
{
    const b2_mha_io io = self_io(n, dx->rows / n);
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor dh = b2_scratch(p->q, B2_F32, dx->rows, dx->cols);
    b2_tensor dy = b2_grad_of(p, dx, n, 0.0f, 0);
    b2_mlp_bwd(p, &l->mlp, &s->mlp, &dh, 0.0f, &dy, n);
    b2_norm_bwd(p, &l->ln2, &s->ln2, dx, &dh, 1.0f);
    dy = b2_grad_of(p, dx, n, 0.0f, 0);
    b2_mha_bwd(p, &l->attn, &s->attn, &io, &dh, 0.0f, NULL, 0.0f, &dy);
    b2_norm_bwd(p, &l->ln1, &s->ln1, dx, &dh, 1.0f);
    b2_arena_release(p->q->scratch, mark);
}

static void patches_fwd(const b2_pass *p, const b2_net *net, const float *pixels, int n, b2_tensor *x)
{
    const b2_config *c = &net->c;
    const int np = b2_config_patches(c);
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor cols = b2_keep(p, p->act, n * np, 3 * c->vit.patch * c->vit.patch);
    b2_tensor px = b2_scratch(p->q, B2_F32, n * np, c->vit.hidden);
    b2_patchify(p->q, &cols, pixels, n, c->vit.image, c->vit.patch);
    b2_linear_fwd(p, &net->vit.patch, &net->tape->patch, &px, &cols, n, 1.0f, 0.0f);
    b2_vit_embed(p->q, x, &px, &net->vit.cls, &net->vit.pos, n);
    b2_arena_release(p->q->scratch, mark);
}

void b2_vit_fwd(const b2_pass *p, const b2_net *net, const float *pixels, int n, b2_tensor *e, b2_tensor *e32)
{
    const b2_config *c = &net->c;
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_pass inner = *p;
    if (p->recompute) inner.save = NULL;
    b2_tensor x = b2_keep(p, B2_F32, n * b2_config_vit_tokens(c), c->vit.hidden);
    b2_queue_at(p->q, "vision embeddings", -1);
    patches_fwd(p, net, pixels, n, &x);
    for (int i = 0; i < c->vit.layers && b2_queue_at(p->q, "vision", i); i++) {
        b2_vit_saved *s = &net->tape->vit[i];
        if (p->save && p->recompute) {
            s->x = b2_new(p->q, p->save, B2_F32, x.rows, x.cols);
            b2_copy(p->q, &s->x, &x);
        }
        layer_fwd(&inner, &net->vit.layer[i], s, &x, n);
    }
    b2_queue_at(p->q, "vision post_layernorm", -1);
    b2_norm_fwd(p, &net->vit.post, &net->tape->vit_post, e, e32, &x);
    b2_arena_release(p->q->scratch, mark);
}

void b2_vit_bwd(const b2_pass *p, const b2_net *net, b2_tensor *de, int n)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor dx = b2_scratch(q, B2_F32, de->rows, de->cols);
    b2_norm_bwd(p, &net->vit.post, &net->tape->vit_post, &dx, de, 0.0f);
    for (int i = net->c.vit.layers - 1; i >= 0 && b2_queue_at(q, "vision backward", i); i--) {
        b2_vit_saved *s = &net->tape->vit[i];
        const size_t saved = b2_arena_mark(p->save);
        if (p->recompute) layer_fwd(p, &net->vit.layer[i], s, &s->x, n);
        layer_bwd(p, &net->vit.layer[i], s, &dx, n);
        b2_arena_release(p->save, saved);
    }
    b2_tensor dpx = b2_scratch(q, B2_F32, n * b2_config_patches(&net->c), de->cols);
    b2_vit_embed_bwd(q, &dpx, &net->vit.cls, &net->vit.pos, &dx, n);
    b2_linear_bwd(p, &net->vit.patch, &net->tape->patch, NULL, &dpx, 1.0f, 0.0f);
    b2_arena_release(q->scratch, mark);
}

bool b2_vit_trains(const b2_net *net)
{
    for (int i = 0; i < net->refs; i++) {
        const b2_param_ref *r = &net->ref[i];
        if (r->part == B2_PART_VIT && (r->param->g || (r->linear && b2_linear_trains(r->linear))))
            return true;
    }
    return false;
}
