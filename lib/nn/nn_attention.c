/* Multi-head attention with its projections: self (one packed q,k,v linear) and cross (q, and k,v from
 * elsewhere). */
#include "nn/nn.h"

static bool is_cross(const b2_mha *m) { return m->kv.n > 0; }

/* The geometry for the kernel: q,k,v are column ranges of the projections, whose type is T. */
static b2_attn geometry(const b2_mha *m, const b2_mha_io *io, const b2_tensor *q3, const b2_tensor *kv2)
{
    const int width = m->heads * m->dim;
    const b2_tensor *from = is_cross(m) ? kv2 : q3;
    const b2_tensor k = b2_cols(from, is_cross(m) ? 0 : width, width),
                    v = b2_cols(from, is_cross(m) ? width : 2 * width, width);
    b2_attn a = {.q = q3->p,
                 .k = k.p,
                 .v = v.p,
                 .ldq = q3->ld,
                 .ldk = k.ld,
                 .ldv = v.ld,
                 .batch = io->batch,
                 .heads = m->heads,
                 .dim = m->dim,
                 .tq = io->tq,
                 .tk = io->tk,
                 .krows = io->tk,
                 .scale = m->scale,
                 .bias = io->bias,
                 .ldbias = io->ldbias,
                 .bias0 = io->bias0,
                 .klen = io->klen,
                 .causal = io->causal,
                 .drop = m->drop,
                 .site = m->site};
    return a;
}

void b2_mha_fwd(const b2_pass *p, const b2_mha *m, b2_mha_saved *s, const b2_mha_io *io, b2_tensor *y,
                const b2_tensor *x, const b2_tensor *enc, float beta)
{
    b2_queue *q = p->q;
    const bool keep = s && p->save;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor kv2 = {0}, q3 = b2_keep(p, p->act, x->rows, b2_linear_out(&m->qkv));
    b2_linear_fwd(p, &m->qkv, keep ? &s->qkv : NULL, &q3, x, io->batch, 1.0f, 0.0f);
    if (is_cross(m)) {
        kv2 = b2_keep(p, p->act, enc->rows, b2_linear_out(&m->kv));
        b2_linear_fwd(p, &m->kv, keep ? &s->kv : NULL, &kv2, enc, io->batch, 1.0f, 0.0f);
    }
    b2_tensor ctx = b2_keep(p, p->act, x->rows, m->heads * m->dim);
    float *lse = keep ? b2_new(q, p->save, B2_F32, io->batch * m->heads, io->tq).p : NULL;
    const b2_attn a = geometry(m, io, &q3, &kv2);
    b2_attention(q, &ctx, lse, &a);
    b2_linear_fwd(p, &m->o, keep ? &s->o : NULL, y, &ctx, io->batch, 1.0f, beta);
    if (keep) {
        s->q3 = q3;
        s->kv2 = kv2;
        s->lse = lse;
    }
    b2_arena_release(q->scratch, mark);
}

void b2_mha_bwd(const b2_pass *p, const b2_mha *m, const b2_mha_saved *s, const b2_mha_io *io, b2_tensor *dx,
                float beta, b2_tensor *denc, float beta_enc, const b2_tensor *dy)
{
    b2_queue *q = p->q;
    const int width = m->heads * m->dim;
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor dctx = b2_scratch(q, p->act, dy->rows, width);
    b2_linear_bwd(p, &m->o, &s->o, &dctx, dy, 1.0f, 0.0f);
    b2_tensor d3 = b2_scratch(q, p->act, s->q3.rows, s->q3.cols), d2 = d3;
    if (is_cross(m)) d2 = b2_scratch(q, p->act, s->kv2.rows, s->kv2.cols);
    b2_tensor dq = b2_cols(&d3, 0, width), dk = b2_cols(&d2, is_cross(m) ? 0 : width, width),
              dv = b2_cols(&d2, is_cross(m) ? width : 2 * width, width);
    const b2_attn a = geometry(m, io, &s->q3, &s->kv2);
    b2_attention_bwd(q, &dq, &dk, &dv, io->dbias, &dctx, s->lse, &a);
    if (is_cross(m)) b2_linear_bwd(p, &m->kv, &s->kv, denc, &d2, 1.0f, beta_enc);
    b2_linear_bwd(p, &m->qkv, &s->qkv, dx, &d3, 1.0f, beta);
    b2_arena_release(q->scratch, mark);
}

bool b2_mha_trains(const b2_mha *m)
{
    return b2_linear_trains(&m->qkv) || b2_linear_trains(&m->kv) || b2_linear_trains(&m->o);
}
