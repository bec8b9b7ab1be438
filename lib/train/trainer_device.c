/* What a trainer has where the kernels run, and what the host sees of it. On the host itself nothing is
 * copied. */
#include <string.h>
#include "train/trainer.h"

static bool on_host(const blip2_trainer *t) { return b2_device_is_host(t->model->device); }

void b2_trainer_run_take(blip2_trainer *t, b2_arena *device, b2_arena *host)
{
    const b2_config *c = &t->net->c;
    b2_trainer_run *r = &t->run;
    const size_t b = (size_t)t->o.batch, ids = sizeof(int32_t);
    const size_t input = t->o.feature_cache ? (size_t)c->qf.queries * (size_t)c->t5.d
                                            : 3 * (size_t)c->vit.image * (size_t)c->vit.image;
    r->sums = b2_arena_take(device, 2 * sizeof *r->sums);
    r->step = &t->step;
    r->exchange = &t->own_exchange;
    if (on_host(t)) return;
    r->exchange = b2_arena_take(&t->pinned, sizeof *r->exchange);
    r->step = b2_arena_take(device, sizeof *r->step);
    r->sample = b2_arena_take(device, b * sizeof *r->sample);
    r->input = b2_arena_take(device, b * input * sizeof *r->input);
    r->enc_ids = b2_arena_take(device, b * (size_t)t->texts.max_in * ids);
    r->enc_len = b2_arena_take(device, b * ids);
    r->dec_ids = b2_arena_take(device, b * (size_t)t->texts.max_out * ids);
    r->labels = b2_arena_take(device, b * (size_t)t->texts.max_out * ids);
    r->mirror = b2_arena_take(host, (size_t)t->flat.total * sizeof *r->mirror);
}

void b2_trainer_lay_out(blip2_trainer *t, int64_t tokens)
{
    b2_exchange *x = t->run.exchange;
    x->count = (float)tokens;
    x->step = t->step;
    x->step.sample = t->run.sample;
}

b2_batch b2_trainer_send(blip2_trainer *t, const b2_batch *b, const uint64_t *sample)
{
    const b2_config *c = &t->net->c;
    const b2_trainer_run *r = &t->run;
    b2_queue *q = &t->q;
    b2_batch sent = *b;
    const size_t n = (size_t)b->batch, ids = n * sizeof(int32_t), in = (size_t)b->tenc, out = (size_t)b->tdec;
    if (on_host(t)) {
        t->step.sample = sample;
        return sent;
    }
    b2_upload(q, r->sample, sample, n * sizeof *sample);
    b2_upload(q, r->enc_ids, b->enc_ids, ids * in);
    b2_upload(q, r->enc_len, b->enc_len, ids);
    b2_upload(q, r->dec_ids, b->dec_ids, ids * out);
    b2_upload(q, r->labels, b->labels, ids * out);
    if (b->features)
        b2_upload(q, r->input, b->features, n * (size_t)c->qf.queries * (size_t)c->t5.d * sizeof(float));
    else
        b2_upload(q, r->input, b->pixels,
                  n * 3 * (size_t)c->vit.image * (size_t)c->vit.image * sizeof(float));
    b2_upload(q, r->step, &r->exchange->step, sizeof *r->step);
    sent.enc_ids = r->enc_ids;
    sent.enc_len = r->enc_len;
    sent.dec_ids = r->dec_ids;
    sent.labels = r->labels;
    sent.features = b->features ? r->input : NULL;
    sent.pixels = b->features ? NULL : r->input;
    return sent;
}

float *b2_trainer_host(const blip2_trainer *t, float *flat) { return on_host(t) ? flat : t->run.mirror; }

blip2_status b2_trainer_pull(const blip2_trainer *t, float *flat, const float **host, blip2_error *e)
{
    b2_queue *q = &((blip2_trainer *)(uintptr_t)t)->q; /* copying changes nothing that a caller can see */
    *host = b2_trainer_host(t, flat);
    if (on_host(t)) return BLIP2_OK;
    b2_download(q, t->run.mirror, flat, (size_t)t->flat.total * sizeof *flat);
    return b2_queue_finish(q, e);
}

blip2_status b2_trainer_push(blip2_trainer *t, float *flat, blip2_error *e)
{
    if (on_host(t)) return BLIP2_OK;
    b2_upload(&t->q, flat, t->run.mirror, (size_t)t->flat.total * sizeof *flat);
    return b2_queue_finish(&t->q, e);
}
