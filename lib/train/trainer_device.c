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
    for (int i = 0; i < 2; i++) {
        struct b2_inputs *in = &r->set[i];
        in->sample = b2_arena_take(device, b * sizeof *in->sample);
        in->input = b2_arena_take(device, b * input * sizeof *in->input);
        in->enc_ids = b2_arena_take(device, b * (size_t)t->texts.max_in * ids);
        in->enc_len = b2_arena_take(device, b * ids);
        in->dec_ids = b2_arena_take(device, b * (size_t)t->texts.max_out * ids);
        in->labels = b2_arena_take(device, b * (size_t)t->texts.max_out * ids);
    }
    r->mirror = b2_arena_take(host, (size_t)t->flat.total * sizeof *r->mirror);
}

void b2_trainer_send(blip2_trainer *t, b2_queue *q, int set, const b2_batch *b, const uint64_t *sample)
{
    const b2_config *c = &t->net->c;
    const struct b2_inputs *to = &t->run.set[set];
    const size_t n = (size_t)b->batch, ids = n * sizeof(int32_t), in = (size_t)b->tenc, out = (size_t)b->tdec;
    if (on_host(t)) return;
    b2_upload(q, to->sample, sample, n * sizeof *sample);
    b2_upload(q, to->enc_ids, b->enc_ids, ids * in);
    b2_upload(q, to->enc_len, b->enc_len, ids);
    b2_upload(q, to->dec_ids, b->dec_ids, ids * out);
    b2_upload(q, to->labels, b->labels, ids * out);
    if (b->features)
        b2_upload(q, to->input, b->features, n * (size_t)c->qf.queries * (size_t)c->t5.d * sizeof(float));
    else
        b2_upload(q, to->input, b->pixels,
                  n * 3 * (size_t)c->vit.image * (size_t)c->vit.image * sizeof(float));
}

void b2_trainer_lay_out(blip2_trainer *t, int set, const uint64_t *sample, int64_t tokens)
{
    b2_exchange *x = t->run.exchange;
    t->step.sample = on_host(t) ? sample : t->run.set[set].sample;
    x->count = (float)tokens;
    x->step = t->step;
}

b2_batch b2_trainer_arrived(blip2_trainer *t, int set, const b2_batch *b)
{
    const b2_trainer_run *r = &t->run;
    const struct b2_inputs *in = &r->set[set];
    b2_batch here = *b;
    if (on_host(t)) return here;
    b2_upload(&t->q, r->step, &r->exchange->step, sizeof *r->step);
    here.enc_ids = in->enc_ids;
    here.enc_len = in->enc_len;
    here.dec_ids = in->dec_ids;
    here.labels = in->labels;
    here.features = b->features ? in->input : NULL;
    here.pixels = b->features ? NULL : in->input;
    return here;
}

/* ---- one micro-batch runs, the next is on its way ------------------------------------------------------ */

/* The set that the running micro-batch does not use takes the next. */
static void fetch_next(blip2_trainer *t)
{
    const b2_micro *x = b2_loader_next(t->loader);
    t->ahead = x;
    t->ahead_set = !t->ahead_set;
    if (x->status == BLIP2_OK && x->b.batch) b2_trainer_send(t, &t->up, t->ahead_set, &x->b, x->sample);
}

blip2_status b2_trainer_next(blip2_trainer *t, const b2_micro **out, int *set, blip2_error *e)
{
    if (!t->ahead) fetch_next(t);
    *out = t->ahead;
    *set = t->ahead_set;
    t->ahead = NULL;
    return b2_queue_finish(&t->up, e);
}

void b2_trainer_look_ahead(blip2_trainer *t, int64_t micro)
{
    if (on_host(t) || b2_queue_failed(&t->q)) return;
    if (micro + 1 < t->lo.steps * t->o.accumulate) fetch_next(t);
}

void b2_trainer_seek(blip2_trainer *t, int64_t micro)
{
    blip2_error moot = BLIP2_ERROR_INIT; /* of copies that nobody wants any more */
    (void)b2_queue_finish(&t->up, &moot);
    t->ahead = NULL;
    b2_loader_seek(t->loader, micro);
}

/* ---- flat buffers as the host sees them ---------------------------------------------------------------- */

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
