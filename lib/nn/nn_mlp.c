/* Feed forward: down(drop(fn(up x))) or, gated, down(drop(fn(wi_0 x) * wi_1 x)). */
#include "nn/nn.h"

static b2_drop drop_of(const b2_mlp *m, int rows, int items)
{
    return (b2_drop){m->drop, m->site, items > 0 ? rows / items : 0};
}

void b2_mlp_fwd(const b2_pass *p, const b2_mlp *m, b2_mlp_saved *s, b2_tensor *y, const b2_tensor *x,
                int items, float beta)
{
    b2_queue *q = p->q;
    const bool keep = s && p->save;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor gu = b2_keep(p, p->act, x->rows, b2_linear_out(&m->up));
    b2_tensor a = b2_keep(p, p->act, x->rows, b2_linear_in(&m->down));
    b2_linear_fwd(p, &m->up, keep ? &s->up : NULL, &gu, x, items, 1.0f, 0.0f);
    if (m->gated) {
        b2_glu(q, &a, &gu, m->fn, drop_of(m, x->rows, items));
    } else {
        b2_act(q, &a, &gu, m->fn);
        b2_dropout(q, &a, &a, items, m->drop, m->site);
    }
    b2_linear_fwd(p, &m->down, keep ? &s->down : NULL, y, &a, items, 1.0f, beta);
    if (keep) s->gu = gu;
    b2_arena_release(q->scratch, mark);
}

void b2_mlp_bwd(const b2_pass *p, const b2_mlp *m, const b2_mlp_saved *s, b2_tensor *dx, float beta,
                const b2_tensor *dy, int items)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor da = b2_scratch(q, p->act, dy->rows, b2_linear_in(&m->down));
    b2_tensor dgu = m->gated ? b2_scratch(q, p->act, dy->rows, s->gu.cols) : da;
    b2_linear_bwd(p, &m->down, &s->down, &da, dy, 1.0f, 0.0f);
    if (m->gated) {
        b2_glu_bwd(q, &dgu, &da, &s->gu, m->fn, drop_of(m, dy->rows, items));
    } else {
        b2_dropout(q, &da, &da, items, m->drop, m->site);
        b2_act_bwd(q, &dgu, &da, &s->gu, m->fn);
    }
    b2_linear_bwd(p, &m->up, &s->up, dx, &dgu, 1.0f, beta);
    b2_arena_release(q->scratch, mark);
}

bool b2_mlp_trains(const b2_mlp *m) { return b2_linear_trains(&m->up) || b2_linear_trains(&m->down); }
