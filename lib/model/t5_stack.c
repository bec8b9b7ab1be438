/* T5's encoder and decoder stacks (T5Stack in modeling_t5.py): pre-norm, RMS norms, relative bias shared
 * by all layers of a stack, dropout on the input, the probabilities, each sub-layer, the inner product and
 * the output. */
#include "model/parts.h"

/* The relative bias by distance: columns are key - query + t-1. */
typedef struct bias_view {
    float *p, *g;
    int n, zero;
} bias_view;

static bias_view bias_fwd(const b2_pass *p, const b2_t5_stack *s, const b2_config *c, int t)
{
    bias_view b = {.n = 2 * t - 1, .zero = t - 1};
    b.p = b2_keep(p, B2_F32, c->t5.heads, b.n).p;
    b2_relbias(p->q, b.p, &s->relbias, c->t5.max_distance, !s->decoder, b.zero, b.n);
    return b;
}

static b2_mha_io self_io(const b2_t5_stack *s, const b2_stack_io *io, const bias_view *b)
{
    const b2_mha_io r = {.batch = io->batch,
                         .tq = io->t,
                         .tk = io->t,
                         .klen = s->decoder ? NULL : io->len,
                         .bias = b->p,
                         .dbias = b->g,
                         .ldbias = b->n,
                         .bias0 = b->zero,
                         .causal = s->decoder};
    return r;
}

static b2_mha_io cross_io(const b2_stack_io *io)
{
    const b2_mha_io r = {.batch = io->batch, .tq = io->t, .tk = io->tenc, .klen = io->enc_len};
    return r;
}

/* x += drop(mha(norm(x))) */
static void attend_fwd(const b2_pass *p, const b2_norm *n, const b2_mha *m, b2_norm_saved *ns,
                       b2_mha_saved *ms, const b2_mha_io *io, b2_tensor *x, const b2_tensor *enc, float drop,
                       uint32_t site)
{
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor h = b2_keep(p, p->act, x->rows, x->cols);
    b2_norm_fwd_keep(p, n, ns, &h, x);
    if (drop <= 0.0f) {
        b2_mha_fwd(p, m, ms, io, x, &h, enc, 1.0f);
    } else {
        b2_tensor y = b2_scratch(p->q, B2_F32, x->rows, x->cols);
        b2_mha_fwd(p, m, ms, io, &y, &h, enc, 0.0f);
        b2_dropout_add(p->q, x, &y, io->batch, drop, site, 1.0f);
    }
    b2_arena_release(p->q->scratch, mark);
}

/* dx += norm'(mha'(drop(dx)));  below: false when nothing under this sub-layer wants a gradient. */
static void attend_bwd(const b2_pass *p, const b2_norm *n, const b2_mha *m, const b2_norm_saved *ns,
                       const b2_mha_saved *ms, const b2_mha_io *io, b2_tensor *dx, b2_tensor *denc,
                       float beta_enc, float drop, uint32_t site, bool below)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    const bool want = below || b2_norm_trains(n);
    b2_tensor dh = {0};
    if (want) dh = b2_scratch(q, B2_F32, dx->rows, dx->cols);
    const b2_tensor dy = b2_grad_of(p, dx, io->batch, drop, site);
    b2_mha_bwd(p, m, ms, io, want ? &dh : NULL, 0.0f, denc, beta_enc, &dy);
    if (want) b2_norm_bwd(p, n, ns, dx, &dh, 1.0f);
    b2_arena_release(q->scratch, mark);
}

static void feed_fwd(const b2_pass *p, const b2_t5_layer *l, b2_t5_saved *s, b2_tensor *x, int items,
                     float drop, uint32_t site)
{
    const size_t mark = b2_arena_mark(p->q->scratch);
    b2_tensor h = b2_keep(p, p->act, x->rows, x->cols);
    b2_norm_fwd_keep(p, &l->ln_ff, &s->ln_ff, &h, x);
    if (drop <= 0.0f) {
        b2_mlp_fwd(p, &l->ff, &s->ff, x, &h, items, 1.0f);
    } else {
        b2_tensor y = b2_scratch(p->q, B2_F32, x->rows, x->cols);
        b2_mlp_fwd(p, &l->ff, &s->ff, &y, &h, items, 0.0f);
        b2_dropout_add(p->q, x, &y, items, drop, site, 1.0f);
    }
    b2_arena_release(p->q->scratch, mark);
}

static void feed_bwd(const b2_pass *p, const b2_t5_layer *l, const b2_t5_saved *s, b2_tensor *dx, int items,
                     float drop, uint32_t site)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor dh = b2_scratch(q, B2_F32, dx->rows, dx->cols);
    const b2_tensor dy = b2_grad_of(p, dx, items, drop, site);
    b2_mlp_bwd(p, &l->ff, &s->ff, &dh, 0.0f, &dy, items);
    b2_norm_bwd(p, &l->ln_ff, &s->ln_ff, dx, &dh, 1.0f);
    b2_arena_release(q->scratch, mark);
}

static void layer_fwd(const b2_pass *p, const b2_t5_stack *st, int i, b2_t5_saved *s, const b2_stack_io *io,
                      const bias_view *b, b2_tensor *x, const b2_tensor *enc)
{
    const b2_t5_layer *l = &st->layer[i];
    const b2_mha_io self = self_io(st, io, b), cross = cross_io(io);
    attend_fwd(p, &l->ln_self, &l->self, &s->ln_self, &s->self, &self, x, NULL, st->drop, l->site);
    if (st->decoder)
        attend_fwd(p, &l->ln_cross, &l->cross, &s->ln_cross, &s->cross, &cross, x, enc, st->drop,
                   l->site + 1);
    feed_fwd(p, l, s, x, io->batch, st->drop, l->site + 2);
}

static void layer_bwd(const b2_pass *p, const b2_t5_stack *st, int i, const b2_t5_saved *s,
                      const b2_stack_io *io, const bias_view *b, b2_tensor *dx, b2_tensor *denc,
                      float beta_enc, bool below)
{
    const b2_t5_layer *l = &st->layer[i];
    const b2_mha_io self = self_io(st, io, b), cross = cross_io(io);
    feed_bwd(p, l, s, dx, io->batch, st->drop, l->site + 2);
    if (st->decoder)
        attend_bwd(p, &l->ln_cross, &l->cross, &s->ln_cross, &s->cross, &cross, dx, denc, beta_enc, st->drop,
                   l->site + 1, true);
    attend_bwd(p, &l->ln_self, &l->self, &s->ln_self, &s->self, &self, dx, NULL, 0.0f, st->drop, l->site,
               below);
}

void b2_stack_fwd(const b2_pass *p, const b2_t5_stack *s, b2_t5_saved *tape, b2_norm_saved *final,
                  const b2_config *c, const b2_stack_io *io, b2_tensor *x, const b2_tensor *enc, b2_tensor *y)
{
    b2_queue *q = p->q;
    const char *part = s->decoder ? "decoder" : "encoder";
    const size_t mark = b2_arena_mark(q->scratch);
    b2_pass inner = *p;
    if (p->recompute) inner.save = NULL;
    b2_queue_at(q, part, -1);
    b2_dropout(q, x, x, io->batch, s->drop, s->site);
    const bias_view b = bias_fwd(p, s, c, io->t);
    for (int i = 0; i < s->layers && b2_queue_at(q, part, i); i++) {
        if (p->save && p->recompute) {
            tape[i].x = b2_new(q, p->save, B2_F32, x->rows, x->cols);
            b2_copy(q, &tape[i].x, x);
        }
        layer_fwd(&inner, s, i, &tape[i], io, &b, x, enc);
    }
    b2_norm_fwd_keep(p, &s->final, final, y, x);
    b2_dropout(q, y, y, io->batch, s->drop, s->site + 1);
    b2_arena_release(q->scratch, mark);
}

static bool layer_trains(const b2_t5_layer *l)
{
    return b2_mha_trains(&l->self) || b2_mha_trains(&l->cross) || b2_mlp_trains(&l->ff) ||
           b2_norm_trains(&l->ln_self) || b2_norm_trains(&l->ln_cross) || b2_norm_trains(&l->ln_ff);
}

/* The lowest layer that the backward pass must reach. */
static int lowest(const b2_t5_stack *s, bool bottom)
{
    int i = 0;
    if (bottom || s->relbias.g) return 0;
    while (i < s->layers && !layer_trains(&s->layer[i])) i++;
    return i;
}

bool b2_stack_trains(const b2_t5_stack *s)
{
    return b2_norm_trains(&s->final) || s->relbias.g || lowest(s, false) < s->layers;
}

void b2_stack_bwd(const b2_pass *p, const b2_t5_stack *s, b2_t5_saved *tape, b2_norm_saved *final,
                  const b2_config *c, const b2_stack_io *io, b2_tensor *dx, const b2_tensor *enc,
                  b2_tensor *denc, bool bottom)
{
    b2_queue *q = p->q;
    const int low = denc ? 0 : lowest(s, bottom);
    const size_t mark = b2_arena_mark(q->scratch), saved_all = b2_arena_mark(p->save);
    b2_tensor dy = b2_scratch(q, B2_F32, dx->rows, dx->cols), db = {0};
    b2_dropout(q, &dy, dx, io->batch, s->drop, s->site + 1);
    b2_norm_bwd(p, &s->final, final, dx, &dy, 0.0f);
    bias_view b = bias_fwd(p, s, c, io->t);
    if (s->relbias.g) {
        db = b2_scratch(q, B2_F32, c->t5.heads, b.n);
        b2_zero(q, &db);
        b.g = db.p;
    }
    for (int i = s->layers - 1;
         i >= low && b2_queue_at(q, s->decoder ? "decoder backward" : "encoder backward", i); i--) {
        const size_t saved = b2_arena_mark(p->save);
        if (p->recompute) layer_fwd(p, s, i, &tape[i], io, &b, &tape[i].x, enc);
        layer_bwd(p, s, i, &tape[i], io, &b, dx, denc, i == s->layers - 1 ? 0.0f : 1.0f, bottom || i > low);
        b2_arena_release(p->save, saved);
    }
    if (s->relbias.g) b2_relbias_bwd(q, db.p, &s->relbias, c->t5.max_distance, !s->decoder, b.zero, b.n);
    b2_dropout(q, dx, dx, io->batch, s->drop, s->site);
    b2_arena_release(p->save, saved_all);
    b2_arena_release(q->scratch, mark);
}
