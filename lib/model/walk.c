/* The whole model: picture → tokens → encoder → decoder → loss, and back. Read it beside model.md's
 * section 3. */
#include <math.h>
#include "model/parts.h"

int b2_encoder_ids(const b2_config *c, const int32_t *text, int n, int base, int32_t *out)
{
    int placeholders = 0, image = 0, at = 0;
    for (int i = 0; i < n; i++) placeholders += c->image_token >= 0 && text[i] == c->image_token;
    if (placeholders && placeholders != c->qf.queries) return -1;
    if (!placeholders) {
        while (image < c->qf.queries) out[at++] = -1 - (base + image++);
    }
    for (int i = 0; i < n; i++)
        out[at++] = c->image_token >= 0 && text[i] == c->image_token ? -1 - (base + image++) : text[i];
    return at;
}

static void tap(const b2_pass *p, float *to, const b2_tensor *x)
{
    if (!to) return;
    b2_tensor y = b2_view_f32(to, x->rows, x->cols);
    b2_copy(p->q, &y, x);
}

void b2_image_infer(const b2_pass *p, const b2_net *net, const float *pixels, int n, b2_tensor *out,
                    const b2_taps *taps)
{
    b2_queue *q = p->q;
    const b2_config *c = &net->c;
    const size_t mark = b2_arena_mark(q->scratch);
    const int rows = n * b2_config_vit_tokens(c);
    b2_tensor e = b2_scratch(q, p->act, rows, c->vit.hidden), e32 = {0};
    const bool want = taps && taps->vit;
    if (want) e32 = b2_view_f32(taps->vit, rows, c->vit.hidden);
    b2_vit_fwd(p, net, pixels, n, &e, want ? &e32 : NULL);
    b2_dual h = b2_dual_new(p, q->scratch, n * c->qf.queries, c->qf.hidden);
    b2_qformer_fwd(p, net, &e, n, &h);
    b2_queue_at(q, "language_projection", -1);
    b2_linear_fwd(p, &net->proj, NULL, out, &h.t, n, 1.0f, 0.0f);
    if (taps) {
        tap(p, taps->qformer, &h.f);
        tap(p, taps->projection, out);
    }
    b2_arena_release(q->scratch, mark);
}

void b2_encoder_infer(const b2_pass *p, const b2_net *net, const b2_tensor *image, const int32_t *ids,
                      const int32_t *len, int batch, int t, b2_tensor *enc)
{
    b2_queue *q = p->q;
    const b2_config *c = &net->c;
    const size_t mark = b2_arena_mark(q->scratch);
    const b2_stack_io io = {.batch = batch, .t = t, .len = len};
    b2_tensor x = b2_scratch(q, B2_F32, batch * t, c->t5.d);
    b2_embed(q, &x, &net->shared, image, ids);
    b2_stack_fwd(p, &net->enc, net->tape->enc, &net->tape->enc_final, c, &io, &x, NULL, enc);
    b2_arena_release(q->scratch, mark);
}

/* What one training pass has in hand. */
typedef struct pass_state {
    b2_tensor image, enc, y,
        logits; /* image tokens; encoder output; decoder output; logits, later their gradient */
    b2_dual h;  /* Q-Former output */
    bool image_trains, enc_trains;
} pass_state;

static void image_fwd(const b2_pass *p, const b2_net *net, const b2_batch *b, pass_state *s)
{
    b2_queue *q = p->q;
    const b2_config *c = &net->c;
    b2_pass infer = *p;
    const int n = b->batch;
    s->image = b2_new(q, p->save, B2_F32, n * c->qf.queries, c->t5.d);
    if (b->features) {
        const b2_tensor f = b2_view_f32((float *)(uintptr_t)b->features, s->image.rows, s->image.cols);
        b2_copy(q, &s->image, &f);
        return;
    }
    infer.save = NULL;
    if (!s->image_trains) {
        b2_image_infer(&infer, net, b->pixels, n, &s->image, NULL);
        return;
    }
    b2_tensor *e = &net->tape->e;
    *e = b2_new(q, p->save, p->act, n * b2_config_vit_tokens(c), c->vit.hidden);
    b2_vit_fwd(b2_vit_trains(net) ? p : &infer, net, b->pixels, n, e, NULL);
    s->h = b2_dual_new(p, p->save, n * c->qf.queries, c->qf.hidden);
    b2_qformer_fwd(p, net, e, n, &s->h);
    b2_queue_at(q, "language_projection", -1);
    b2_linear_fwd(p, &net->proj, &net->tape->proj, &s->image, &s->h.t, n, 1.0f, 0.0f);
}

static void image_bwd(const b2_pass *p, const b2_net *net, const b2_batch *b, const b2_tensor *dimage)
{
    b2_queue *q = p->q;
    const size_t mark = b2_arena_mark(q->scratch);
    const bool vit = b2_vit_trains(net);
    const b2_tensor *e = &net->tape->e;
    b2_tensor dh = b2_scratch(q, B2_F32, dimage->rows, net->c.qf.hidden), de = {0};
    b2_linear_bwd(p, &net->proj, &net->tape->proj, &dh, dimage, 1.0f, 0.0f);
    if (vit) de = b2_scratch(q, B2_F32, e->rows, e->cols);
    b2_qformer_bwd(p, net, &dh, vit ? &de : NULL, b->batch);
    if (vit) b2_vit_bwd(p, net, &de, b->batch);
    b2_arena_release(q->scratch, mark);
}

static float head_scale(const b2_config *c) { return c->t5.scale_out ? 1.0f / sqrtf((float)c->t5.d) : 1.0f; }

static void language_fwd(const b2_pass *p, const b2_net *net, const b2_batch *b, pass_state *s, double *loss,
                         bool loss_only)
{
    b2_queue *q = p->q;
    const b2_config *c = &net->c;
    const b2_stack_io eio = {.batch = b->batch, .t = b->tenc, .len = b->enc_len};
    const b2_stack_io dio = {.batch = b->batch, .t = b->tdec, .tenc = b->tenc, .enc_len = b->enc_len};
    const int er = b->batch * b->tenc, dr = b->batch * b->tdec;
    b2_tensor x = b2_keep(p, B2_F32, er, c->t5.d), z = b2_keep(p, B2_F32, dr, c->t5.d);
    s->enc = b2_new(q, p->save, p->act, er, c->t5.d);
    b2_embed(q, &x, &net->shared, &s->image, b->enc_ids);
    b2_stack_fwd(p, &net->enc, net->tape->enc, &net->tape->enc_final, c, &eio, &x, NULL, &s->enc);
    s->y = b2_new(q, p->save, p->act, dr, c->t5.d);
    b2_embed(q, &z, &net->shared, NULL, b->dec_ids);
    b2_stack_fwd(p, &net->dec, net->tape->dec, &net->tape->dec_final, c, &dio, &z, &s->enc, &s->y);
    b2_queue_at(q, "lm_head", -1);
    s->logits = b2_new(q, p->save, B2_F32, dr, c->t5.vocab);
    b2_tensor row_loss = b2_new(q, p->save, B2_F32, dr, 1);
    b2_linear_fwd(p, &net->head, &net->tape->head, &s->logits, &s->y, b->batch, head_scale(c), 0.0f);
    b2_xent(q, row_loss.p, &s->logits, b->labels, !loss_only);
    b2_sum(q, loss, row_loss.p, dr);
}

static void language_bwd(const b2_pass *p, const b2_net *net, const b2_batch *b, pass_state *s)
{
    b2_queue *q = p->q;
    const b2_config *c = &net->c;
    const b2_stack_io eio = {.batch = b->batch, .t = b->tenc, .len = b->enc_len};
    const b2_stack_io dio = {.batch = b->batch, .t = b->tdec, .tenc = b->tenc, .enc_len = b->enc_len};
    const size_t mark = b2_arena_mark(q->scratch);
    const bool words = net->shared.g != NULL;
    b2_tensor dz = b2_scratch(q, B2_F32, s->y.rows, c->t5.d), dx = {0};
    b2_queue_at(q, "lm_head backward", -1);
    b2_linear_bwd(p, &net->head, &net->tape->head, &dz, &s->logits, head_scale(c), 0.0f);
    if (s->enc_trains) dx = b2_scratch(q, B2_F32, s->enc.rows, c->t5.d);
    if (s->enc_trains || words || b2_stack_trains(&net->dec))
        b2_stack_bwd(p, &net->dec, net->tape->dec, &net->tape->dec_final, c, &dio, &dz, &s->enc,
                     s->enc_trains ? &dx : NULL, words);
    if (words) b2_embed_bwd(q, &net->shared, NULL, &dz, b->dec_ids);
    if (s->enc_trains) {
        const bool bottom = words || s->image_trains;
        b2_tensor dimage = b2_scratch(q, B2_F32, s->image.rows, s->image.cols);
        b2_stack_bwd(p, &net->enc, net->tape->enc, &net->tape->enc_final, c, &eio, &dx, NULL, NULL, bottom);
        if (bottom)
            b2_embed_bwd(q, words ? &net->shared : NULL, s->image_trains ? &dimage : NULL, &dx, b->enc_ids);
        if (s->image_trains) image_bwd(p, net, b, &dimage);
    }
    b2_arena_release(q->scratch, mark);
}

void b2_train_pass(const b2_pass *p, const b2_net *net, const b2_batch *b, double *loss, bool loss_only)
{
    const size_t mark = b2_arena_mark(p->save), scratch = b2_arena_mark(p->q->scratch);
    pass_state s = {0};
    s.image_trains = !b->features && b2_net_image_trains(net);
    s.enc_trains = s.image_trains || net->shared.g || b2_stack_trains(&net->enc);
    image_fwd(p, net, b, &s);
    language_fwd(p, net, b, &s, loss, loss_only);
    if (!loss_only) language_bwd(p, net, b, &s);
    p->q->where[0] = 0;
    b2_arena_release(p->save, mark);
    b2_arena_release(p->q->scratch, scratch);
}
