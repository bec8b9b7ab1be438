/* The steps of answering: pictures, the encoder with the cross-attention keys, one decoder step. */
#include <math.h>
#include "infer/session_core.h"

static void push(blip2_session *s, const void *host, size_t count)
{
    b2_twin_push(&s->q, &s->twin, host, count * sizeof(int32_t));
}
static void *on_device(const blip2_session *s, const void *host) { return b2_twin_device(&s->twin, host); }

static size_t count_of(const b2_tensor *x) { return (size_t)x->rows * (size_t)x->cols; }
static b2_tensor on_device_f32(const blip2_session *s, const float *host, int rows, int cols)
{
    return b2_view_f32(on_device(s, host), rows, cols);
}

void b2_session_images(blip2_session *s, const float *pixels, int n, int adapter, const b2_taps *taps)
{
    b2_pass p = s->pass;
    const b2_config *c = &s->net->c;
    b2_tensor out = on_device_f32(s, s->tokens, n * c->qf.queries, c->t5.d);
    if (!s->q.dry) {
        for (int i = 0; i < n; i++) s->which[i] = s->trained_net ? 0 : adapter;
    }
    push(s, s->which, (size_t)n);
    push(s, pixels, (size_t)n * 3 * (size_t)c->vit.image * (size_t)c->vit.image);
    p.which = on_device(s, s->which);
    b2_image_infer(&p, s->net, on_device(s, pixels), n, &out, taps);
}

void b2_session_fetch_tokens(blip2_session *s, int n)
{
    const b2_config *c = &s->net->c;
    const size_t count = (size_t)n * (size_t)c->qf.queries * (size_t)c->t5.d;
    b2_twin_pull(&s->q, &s->twin, s->tokens, count * sizeof(float));
}

void b2_session_prefill(blip2_session *s, int rows, int t)
{
    b2_pass p = s->pass;
    const b2_config *c = &s->net->c;
    const b2_tensor feats = on_device_f32(s, s->feats, rows * c->qf.queries, c->t5.d);
    b2_tensor enc = b2_rows_of(&s->enc, 0, rows * t);
    push(s, s->which, (size_t)rows);
    push(s, s->enc_len, (size_t)rows);
    push(s, s->enc_ids, (size_t)rows * (size_t)t);
    push(s, s->feats, count_of(&feats));
    p.which = on_device(s, s->which);
    b2_encoder_infer(&p, s->net, &feats, on_device(s, s->enc_ids), on_device(s, s->enc_len), rows, t, &enc);
    for (int i = 0; i < s->net->dec.layers && b2_queue_at(&s->q, "cross-attention keys", i); i++) {
        b2_tensor kv = b2_rows_of(&s->kv[i].cross, 0, rows * t);
        b2_linear_fwd(&p, &s->net->dec.layer[i].cross.kv, NULL, &kv, &enc, rows, 1.0f, 0.0f);
    }
}

/* x += o(attention(q, the layer's cache up to position `at`)) */
static void self_attention(const b2_pass *p, blip2_session *s, int layer, b2_tensor *x, const b2_tensor *h,
                           int at)
{
    const b2_mha *m = &s->net->dec.layer[layer].self;
    b2_kv *kv = &s->kv[layer];
    const int rows = x->rows, inner = m->heads * m->dim;
    b2_tensor q3 = b2_scratch(p->q, p->act, rows, 3 * inner), ctx = b2_scratch(p->q, p->act, rows, inner);
    b2_linear_fwd(p, &m->qkv, NULL, &q3, h, rows, 1.0f, 0.0f);
    const b2_attn a = {.q = q3.p,
                       .k = kv->k.p,
                       .v = kv->v.p,
                       .ldq = q3.ld,
                       .ldk = inner,
                       .ldv = inner,
                       .batch = rows,
                       .heads = m->heads,
                       .dim = m->dim,
                       .tq = 1,
                       .tk = b2_device_is_host(p->q->device) ? at + 1 : s->tdec, /* recorded: klen says it */
                       .krows = s->tdec,
                       .scale = m->scale,
                       .bias = s->bias.p,
                       .ldbias = s->tdec,
                       .bias0 = s->tdec - 1,
                       .klen = on_device(s, s->seen),
                       .qpos = on_device(s, s->pos)};
    b2_attention_append(p->q, &ctx, &kv->k, &kv->v, &q3, inner, 2 * inner, &a);
    b2_linear_fwd(p, &m->o, NULL, x, &ctx, rows, 1.0f, 1.0f);
}

static void cross_attention(const b2_pass *p, blip2_session *s, int layer, b2_tensor *x, const b2_tensor *h,
                            int t)
{
    const b2_mha *m = &s->net->dec.layer[layer].cross;
    const int rows = x->rows, inner = m->heads * m->dim;
    b2_tensor q1 = b2_scratch(p->q, p->act, rows, inner), ctx = b2_scratch(p->q, p->act, rows, inner);
    const b2_tensor k = b2_cols(&s->kv[layer].cross, 0, inner),
                    v = b2_cols(&s->kv[layer].cross, inner, inner);
    b2_linear_fwd(p, &m->qkv, NULL, &q1, h, rows, 1.0f, 0.0f);
    const b2_attn a = {.q = q1.p,
                       .k = k.p,
                       .v = v.p,
                       .ldq = inner,
                       .ldk = 2 * inner,
                       .ldv = 2 * inner,
                       .batch = rows,
                       .heads = m->heads,
                       .dim = m->dim,
                       .tq = 1,
                       .tk = t,
                       .krows = t,
                       .scale = m->scale,
                       .klen = on_device(s, s->enc_len)};
    b2_attention(p->q, &ctx, NULL, &a);
    b2_linear_fwd(p, &m->o, NULL, x, &ctx, rows, 1.0f, 1.0f);
}

void b2_session_decode(blip2_session *s, int rows, int t, int at)
{
    b2_queue *q = &s->q;
    const b2_config *c = &s->net->c;
    b2_pass p = s->pass;
    p.which = on_device(s, s->which);
    push(s, s->ids, 4 * (size_t)s->batch);
    const size_t mark = b2_arena_mark(q->scratch);
    b2_tensor x = b2_scratch(q, B2_F32, rows, c->t5.d), h = b2_scratch(q, p.act, rows, c->t5.d);
    b2_embed(q, &x, &s->net->shared, NULL, on_device(s, s->ids));
    for (int i = 0; i < s->net->dec.layers && b2_queue_at(q, "decoder", i); i++) {
        const b2_t5_layer *l = &s->net->dec.layer[i];
        const size_t inside = b2_arena_mark(q->scratch);
        b2_norm_fwd(&p, &l->ln_self, NULL, &h, NULL, &x);
        self_attention(&p, s, i, &x, &h, at);
        b2_norm_fwd(&p, &l->ln_cross, NULL, &h, NULL, &x);
        cross_attention(&p, s, i, &x, &h, t);
        b2_norm_fwd(&p, &l->ln_ff, NULL, &h, NULL, &x);
        b2_mlp_fwd(&p, &l->ff, NULL, &x, &h, rows, 1.0f);
        b2_arena_release(q->scratch, inside);
    }
    b2_queue_at(q, "lm_head", -1);
    b2_norm_fwd(&p, &s->net->dec.final, NULL, &h, NULL, &x);
    b2_tensor logits = b2_rows_of(&s->logits, 0, rows);
    b2_linear_fwd(&p, &s->net->head, NULL, &logits, &h, rows,
                  c->t5.scale_out ? 1.0f / sqrtf((float)c->t5.d) : 1.0f, 0.0f);
    b2_arena_release(q->scratch, mark);
}

void b2_session_choose(blip2_session *s, int rows)
{
    b2_tensor logits = b2_rows_of(&s->logits, 0, rows);
    b2_argmax(&s->q, on_device(s, s->chosen), on_device(s, s->logp), &logits, on_device(s, s->forbid));
    b2_twin_pull(&s->q, &s->twin, s->chosen, 2 * (size_t)s->batch * sizeof *s->chosen);
}

typedef struct next_step {
    blip2_session *s;
    int rows, t, at;
} next_step;

static void launch_next(void *ctx)
{
    const next_step *n = ctx;
    b2_session_decode(n->s, n->rows, n->t, n->at);
    b2_session_choose(n->s, n->rows);
}

void b2_session_next(blip2_session *s, int rows, int t, int at)
{
    next_step n = {s, rows, t, at};
    const b2_record_key key = {{(uint64_t)rows, (uint64_t)t}};
    b2_run_recorded(&s->q, &s->graphs, &key, launch_next, &n);
}
