/* The Q-Former: post-norm BERT over learnt queries with cross-attention to the picture
 * (Blip2QFormerModel). */
#include "model/parts.h"

/* h = LN(t), t = h + drop(sub-layer);  the norm's input is kept for backward. */
static void post_norm(const b2_pass *p, const b2_norm *n, b2_norm_saved *s, const b2_tensor *t, b2_dual *h)
{
    *h = b2_dual_new(p, p->save ? p->save : p->q->scratch, t->rows, t->cols);
    b2_norm_fwd(p, n, s, p->act == B2_F32 ? NULL : &h->t, &h->f, t);
}

/* What a sub-layer adds to: a copy of the residual that the norm will read. */
static b2_tensor residual(const b2_pass *p, const b2_tensor *h)
{
    b2_tensor t = b2_keep(p, B2_F32, h->rows, h->cols);
    b2_copy(p->q, &t, h);
    return t;
}

static b2_mha_io io_of(int n, int tq, int tk)
{
    const b2_mha_io io = {.batch = n, .tq = tq, .tk = tk};
    return io;
}

static b2_tensor attend_fwd(const b2_pass *p, const b2_mha *m, b2_mha_saved *s, const b2_dual *h,
                            const b2_tensor *e, int n, float drop, uint32_t site)
{
    const b2_mha_io io = io_of(n, h->f.rows / n, (e ? e->rows : h->f.rows) / n);
    b2_tensor t = residual(p, &h->f);
    if (drop <= 0.0f) {
        b2_mha_fwd(p, m, s, &io, &t, &h->t, e, 1.0f);
        return t;
    }
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor y = b2_scratch(p->q, B2_F32, t.rows, t.cols);
    b2_mha_fwd(p, m, s, &io, &y, &h->t, e, 0.0f);
    b2_dropout_add(p->q, &t, &y, n, drop, site, 1.0f);
    b2_arena_release(p->q->scratch, mark);
    return t;
}

static b2_tensor feed_fwd(const b2_pass *p, const b2_mlp *m, b2_mlp_saved *s, const b2_dual *h, int n,
                          float drop, uint32_t site)
{
    b2_tensor t = residual(p, &h->f);
    if (drop <= 0.0f) {
        b2_mlp_fwd(p, m, s, &t, &h->t, n, 1.0f);
        return t;
    }
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor y = b2_scratch(p->q, B2_F32, t.rows, t.cols);
    b2_mlp_fwd(p, m, s, &y, &h->t, n, 0.0f);
    b2_dropout_add(p->q, &t, &y, n, drop, site, 1.0f);
    b2_arena_release(p->q->scratch, mark);
    return t;
}

static void layer_fwd(const b2_pass *p, const b2_qf_layer *l, b2_qf_saved *s, b2_dual *h, const b2_tensor *e,
                      int n, float drop)
{
    b2_tensor t = attend_fwd(p, &l->self, &s->self, h, NULL, n, drop, l->site);
    post_norm(p, &l->ln_self, &s->ln_self, &t, h);
    if (l->has_cross) {
        t = attend_fwd(p, &l->cross, &s->cross, h, e, n, drop, l->site + 1);
        post_norm(p, &l->ln_cross, &s->ln_cross, &t, h);
    }
    t = feed_fwd(p, &l->ff, &s->ff, h, n, drop, l->site + 2);
    post_norm(p, &l->ln_ff, &s->ln_ff, &t, h);
}

/* dh: gradient of the layer's output on entry, of its input on return. */
static void layer_bwd(const b2_pass *p, const b2_qf_layer *l, const b2_qf_saved *s, b2_tensor *dh,
                      b2_tensor *de, float beta_e, int n, float drop)
{
    const int tq = dh->rows / n;
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor dt = b2_scratch(p->q, B2_F32, dh->rows, dh->cols);
    b2_norm_bwd(p, &l->ln_ff, &s->ln_ff, &dt, dh, 0.0f);
    b2_tensor dy = b2_grad_of(p, &dt, n, drop, l->site + 2);
    b2_mlp_bwd(p, &l->ff, &s->ff, &dt, 1.0f, &dy, n);
    if (l->has_cross) {
        const b2_mha_io io = io_of(n, tq, s->cross.kv2.rows / n);
        b2_norm_bwd(p, &l->ln_cross, &s->ln_cross, dh, &dt, 0.0f);
        dy = b2_grad_of(p, dh, n, drop, l->site + 1);
        b2_mha_bwd(p, &l->cross, &s->cross, &io, dh, 1.0f, de, beta_e, &dy);
    } else {
        b2_copy(p->q, dh, &dt);
    }
    const b2_mha_io io = io_of(n, tq, tq);
    b2_norm_bwd(p, &l->ln_self, &s->ln_self, &dt, dh, 0.0f);
    dy = b2_grad_of(p, &dt, n, drop, l->site);
    b2_mha_bwd(p, &l->self, &s->self, &io, &dt, 1.0f, NULL, 0.0f, &dy);
    b2_copy(p->q, dh, &dt);
    b2_arena_release(p->q->scratch, mark);
}

/* h = drop(LN(query tokens)), the same for every picture. */
static b2_dual queries_fwd(const b2_pass *p, const b2_net *net, int n)
{
    b2_tensor x = b2_keep(p, B2_F32, n * net->c.qf.queries, net->c.qf.hidden);
    b2_dual h;
    b2_queue_at(p->q, "Q-Former queries", -1);
    b2_tile(p->q, &x, &net->qf.query, n);
    post_norm(p, &net->qf.ln, &net->tape->qf_ln, &x, &h);
    if (net->qf.drop > 0.0f) {
        b2_dropout(p->q, &h.f, &h.f, n, net->qf.drop, net->qf.site);
        if (p->act != B2_F32) b2_cast(p->q, &h.t, &h.f, (b2_drop){0});
    }
    return h;
}

/* The layer's input as kept for recomputing: h.f copied, h.t rounded again when needed. */
static b2_dual restore(const b2_pass *p, const b2_tensor *x)
{
    b2_dual h = b2_dual_new(p, p->save, x->rows, x->cols);
    b2_copy(p->q, &h.f, x);
    if (p->act != B2_F32) b2_cast(p->q, &h.t, &h.f, (b2_drop){0});
    return h;
}

void b2_qformer_fwd(const b2_pass *p, const b2_net *net, const b2_tensor *e, int n, b2_dual *out)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_pass inner = *p;
    if (p->recompute) inner.save = NULL;
    b2_dual h = queries_fwd(p, net, n);
    for (int i = 0; i < net->c.qf.layers && b2_queue_at(q, "Q-Former", i); i++) {
        b2_qf_saved *s = &net->tape->qf[i];
        if (p->save && p->recompute) {
            s->x = b2_new(q, p->save, B2_F32, h.f.rows, h.f.cols);
            b2_copy(q, &s->x, &h.f);
        }
        layer_fwd(&inner, &net->qf.layer[i], s, &h, e, n, net->qf.drop);
    }
    b2_copy(q, &out->f, &h.f);
    if (p->act != B2_F32) b2_copy(q, &out->t, &h.t);
    b2_arena_release(q->scratch, mark);
}

void b2_qformer_bwd(const b2_pass *p, const b2_net *net, b2_tensor *dh, b2_tensor *de, int n)
{
    b2_queue *q = p->q;
    float beta_e = 0.0f;
    for (int i = net->c.qf.layers - 1; i >= 0 && b2_queue_at(q, "Q-Former backward", i); i--) {
        b2_qf_saved *s = &net->tape->qf[i];
        const size_t saved = b2_arena_mark(p->save);
        if (p->recompute) {
            b2_dual h = restore(p, &s->x);
            layer_fwd(p, &net->qf.layer[i], s, &h, &net->tape->e, n, net->qf.drop);
        }
        layer_bwd(p, &net->qf.layer[i], s, dh, de, beta_e, n, net->qf.drop);
        if (net->qf.layer[i].has_cross) beta_e = 1.0f;
        b2_arena_release(p->save, saved);
    }
    const size_t mark = b2_arena_mark(q->scratch);
    b2_dropout(q, dh, dh, n, net->qf.drop, net->qf.site);
    b2_tensor dx = b2_scratch(q, B2_F32, dh->rows, dh->cols);
    b2_norm_bwd(p, &net->qf.ln, &net->tape->qf_ln, &dx, dh, 0.0f);
    if (net->qf.query.g) b2_tile_bwd(q, &net->qf.query, &dx, n);
    b2_arena_release(q->scratch, mark);
}
