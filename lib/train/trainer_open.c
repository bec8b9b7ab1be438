/* Opening a trainer: chosen, planned by running its largest steps dry, then allocated once. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "infer/session.h"
#include "text/text.h"
#include "train/trainer.h"

static blip2_status copy_text(const char **s, blip2_error *e)
{
    if (!*s) return BLIP2_OK;
    *s = b2_strdup(*s);
    return *s ? BLIP2_OK : B2_NOMEM(e, "a trainer's options");
}

/* All strings are copied, or NULL once one copy failed: close frees them either way. */
static blip2_status copy_options(blip2_trainer *t, const blip2_trainer_options *o, blip2_error *e)
{
    blip2_trainer_options *x = &t->o;
    const char **text[] = {&x->lora_targets, &x->init_adapter, &x->cache_path, &x->prompt_template,
                           &x->base_model_name};
    blip2_status s = BLIP2_OK;
    *x = *o;
    if (!x->prompt_template) x->prompt_template = B2_DEFAULT_TEMPLATE;
    if (!x->base_model_name) x->base_model_name = t->model->dir;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        if (s != BLIP2_OK)
            *text[i] = NULL;
        else
            s = copy_text(text[i], e);
    }
    return s;
}

static void plan_steps(blip2_trainer *t)
{
    const int64_t per_epoch = b2_loader_steps_per_epoch(t->data->rows, &t->lo);
    t->lo.steps = t->o.max_steps > 0 ? t->o.max_steps : per_epoch * t->o.epochs;
    t->schedule = (b2_schedule){t->o.schedule, t->o.lr, t->o.warmup, t->lo.steps};
    if (t->o.warmup >= 0) return;
    t->schedule.warmup = t->lo.steps / 10 < 100 ? t->lo.steps / 10 : 100;
}

b2_pass b2_trainer_pass(blip2_trainer *t)
{
    return (b2_pass){.q = &t->q, .act = t->model->act, .save = &t->save, .recompute = t->o.recompute != 0};
}

/* Any address will do: a dry run follows none. */
static void dry_pass(blip2_trainer *t, int batch, int tenc, int tdec)
{
    static const float f[1] = {0};
    static const int32_t id[1] = {0};
    static const uint64_t sample[1] = {0};
    b2_batch b = {.batch = batch,
                  .tenc = tenc,
                  .tdec = tdec,
                  .enc_ids = id,
                  .enc_len = id,
                  .dec_ids = id,
                  .labels = id};
    const b2_pass p = b2_trainer_pass(t);
    if (t->o.feature_cache)
        b.features = f;
    else
        b.pixels = f;
    t->step.sample = sample;
    b2_train_pass(&p, t->net, &b, t->run.sums, false);
}

/* The last batch of an epoch and single samples are smaller, but a kernel may want more workspace for few
 * rows. */
static void dry_passes(blip2_trainer *t)
{
    const int64_t rest = t->data->rows % t->o.batch;
    const int most = t->data->rows < t->o.batch ? (int)t->data->rows : t->o.batch;
    const int batch[3] = {most, rest ? (int)rest : most, 1};
    const int least = t->net->c.qf.queries + 1 < t->texts.max_in ? t->net->c.qf.queries + 1 : t->texts.max_in;
    const int tenc[3] = {t->texts.max_in, least, (t->texts.max_in + least) / 2},
              tdec[2] = {t->texts.max_out, 1};
    for (int i = 0; i < 18; i++) dry_pass(t, batch[i / 6], tenc[i % 3], tdec[i / 3 % 2]);
}

static b2_encoder_work encoder_work(blip2_trainer *t)
{
    return (b2_encoder_work){t->model, &t->pictures, &t->q};
}

/* Everything that stays for the whole run. */
static void take_state(blip2_trainer *t)
{
    const b2_config *c = &t->net->c;
    b2_arena *host = b2_device_is_host(t->model->device) ? &t->state : &t->host;
    b2_trainer_bind(t, &t->state);
    b2_trainer_run_take(t, &t->state, host);
    b2_pictures_init(&t->pictures, t->data, &t->model->prep, !t->o.feature_cache, host);
    if (t->o.feature_cache && !t->o.cache_path)
        t->features = b2_arena_take(host, (size_t)t->data->images * (size_t)c->qf.queries * (size_t)c->t5.d *
                                              sizeof(float));
}

static blip2_status dry_run(blip2_trainer *t, blip2_error *e)
{
    b2_arena_dry(&t->host);
    b2_arena_dry(&t->pinned);
    b2_arena_dry(&t->state);
    b2_arena_dry(&t->save);
    b2_arena_dry(&t->scratch);
    b2_queue_init(&t->q, t->model->device, &t->scratch, &t->step);
    t->q.act = t->model->act;
    t->q.dry = true;
    take_state(t);
    dry_passes(t);
    b2_sumsq(&t->q, t->run.sums + 1, t->flat.g, t->flat.total);
    const b2_encoder_work w = encoder_work(t);
    if (t->o.feature_cache) b2_feature_dry(&w);
    b2_queue_close(&t->q);
    B2_TRY(b2_queue_finish(&t->q, e));
    t->size =
        (b2_trainer_sizes){t->state.peak,
                           t->save.peak,
                           t->scratch.peak,
                           b2_loader_bytes(t->data, t->model, &t->texts, &t->lo, t->o.feature_cache != 0),
                           0,
                           t->host.peak,
                           t->pinned.peak};
    if (t->o.feature_cache && t->o.cache_path)
        t->size.mapped = b2_feature_file_bytes(t->model, t->data->images);
    t->features = NULL;
    t->state = t->save = t->scratch = t->host = t->pinned = (b2_arena){0};
    t->q.dry = false;
    return BLIP2_OK;
}

static blip2_status check_image_side(const blip2_trainer *t, blip2_error *e)
{
    if (t->o.augment && !b2_net_image_trains(t->net))
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "augment: nothing in the image side trains; flips and shifts need that");
    return BLIP2_OK;
}

static blip2_status prepare(blip2_trainer *t, const blip2_model *m, const blip2_dataset *d,
                            const blip2_trainer_options *o, blip2_error *e)
{
    t->model = b2_model_ref((blip2_model *)(uintptr_t)m);
    t->data = d;
    B2_TRY(copy_options(t, o, e));
    t->lo = (b2_loader_options){o->batch, o->accumulate, 0, o->shuffle != 0, o->augment, o->seed};
    plan_steps(t);
    const b2_texts_options to = {t->o.prompt_template, o->max_prompt_tokens, o->max_answer_tokens};
    B2_TRY(b2_texts_open(&t->texts, d, m, &to, b2_device_host(m->device), e));
    B2_TRY(b2_trainer_select(t, e));
    B2_TRY(dry_run(t, e));
    return check_image_side(t, e);
}

static blip2_status new_trainer(const blip2_model *m, const blip2_dataset *d, const blip2_trainer_options *o,
                                blip2_trainer **out, blip2_error *e)
{
    if (!m || !d || !o || !out)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "trainer: model, data, options and out must not be NULL");
    *out = NULL;
    B2_TRY(b2_trainer_options_check(o, e));
    blip2_trainer *t = calloc(1, sizeof *t);
    if (!t) return B2_NOMEM(e, "a trainer");
    const blip2_status s = prepare(t, m, d, o, e);
    if (s != BLIP2_OK) {
        blip2_trainer_close(t);
        return s;
    }
    *out = t;
    return BLIP2_OK;
}

static blip2_status open_features(blip2_trainer *t, blip2_error *e)
{
    const b2_encoder_work w = encoder_work(t);
    if (!t->o.feature_cache) return BLIP2_OK;
    if (!t->o.cache_path) return b2_features_compute(&w, t->features, e);
    return b2_feature_file_open(&t->file, t->o.cache_path, &w, e);
}

static blip2_status allocate(blip2_trainer *t, blip2_error *e)
{
    blip2_device *d = t->model->device;
    b2_account *acc = &d->memory, *host = b2_device_host(d);
    B2_TRY(b2_device_room(d, t->size.state + t->size.save + t->size.scratch, "a trainer", e));
    if (t->size.host) B2_TRY(b2_arena_init(&t->host, t->size.host, host, e));
    if (t->size.pinned) B2_TRY(b2_arena_init(&t->pinned, t->size.pinned, &d->pinned, e));
    b2_recordings_init(&t->graphs);
    B2_TRY(b2_arena_init(&t->state, t->size.state, acc, e));
    B2_TRY(b2_arena_init(&t->save, t->size.save, acc, e));
    B2_TRY(b2_arena_init(&t->scratch, t->size.scratch, acc, e));
    b2_queue_init(&t->q, t->model->device, &t->scratch, &t->step);
    b2_queue_init(&t->up, t->model->device, NULL, NULL);
    B2_TRY(b2_queue_finish(&t->q, e)); /* have both got their streams? */
    B2_TRY(b2_queue_finish(&t->up, e));
    t->q.cancel = &t->cancel;
    t->q.act = t->model->act;
    take_state(t);
    t->q.step = t->run.step;
    B2_TRY(b2_trainer_init_values(t, e));
    blip2_adapter_close(t->init);
    t->init = NULL;
    B2_TRY(open_features(t, e));
    const float *tokens = t->file.tokens ? t->file.tokens : t->features;
    return b2_loader_open(&t->loader, t->data, t->model, &t->texts, &t->pictures, tokens, &t->lo,
                          b2_device_is_host(d) ? acc : &d->pinned, e);
}

blip2_status blip2_trainer_open(const blip2_model *m, const blip2_dataset *d, const blip2_trainer_options *o,
                                blip2_trainer **out, blip2_error *e)
{
    B2_TRY(new_trainer(m, d, o, out, e));
    const blip2_status s = allocate(*out, e);
    if (s == BLIP2_OK) return s;
    blip2_trainer_close(*out);
    *out = NULL;
    return s;
}

blip2_status blip2_trainer_plan(const blip2_model *m, const blip2_dataset *d, const blip2_trainer_options *o,
                                blip2_plan *plan, blip2_error *e)
{
    blip2_trainer *t = NULL;
    if (!plan || plan->size != sizeof *plan)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_plan.size: expected %zu", sizeof *plan);
    B2_TRY(new_trainer(m, d, o, &t, e));
    plan->weights = m->weight_bytes;
    const bool one = b2_device_is_host(m->device); /* a GPU's plan counts what is on the GPU */
    plan->state = t->size.state + (one ? t->size.mapped + t->texts.bytes : 0);
    plan->saved = t->size.save;
    plan->scratch = t->size.scratch + (one ? t->size.loader : 0);
    plan->total = plan->weights + plan->state + plan->saved + plan->scratch;
    blip2_trainer_close(t);
    return BLIP2_OK;
}

void blip2_trainer_close(blip2_trainer *t)
{
    blip2_error moot = BLIP2_ERROR_INIT;
    if (!t) return;
    (void)b2_queue_finish(&t->up, &moot); /* it may still be reading what the loader holds */
    b2_queue_close(&t->up);
    b2_loader_close(t->loader);
    b2_feature_file_close(&t->file);
    b2_texts_close(&t->texts);
    b2_recordings_free(&t->q, &t->graphs);
    b2_queue_close(&t->q);
    b2_arena_free(&t->pinned);
    b2_arena_free(&t->host);
    b2_arena_free(&t->scratch);
    b2_arena_free(&t->save);
    b2_arena_free(&t->state);
    blip2_adapter_close(t->init);
    b2_net_free(t->net);
    free(t->tensor);
    free(t->lora.targets);
    const char *text[] = {t->o.lora_targets, t->o.init_adapter, t->o.cache_path, t->o.prompt_template,
                          t->o.base_model_name};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) free((char *)(uintptr_t)text[i]);
    blip2_model_close(t->model);
    free(t);
}

void blip2_trainer_cancel(blip2_trainer *t)
{
    if (t) t->cancel = 1;
}

blip2_status blip2_trainer_session(blip2_trainer *t, const blip2_session_options *o, blip2_session **out,
                                   blip2_error *e)
{
    if (!t) return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_trainer_session: trainer must not be NULL");
    return b2_session_open_net(t->model, t->net, o, out, e);
}
