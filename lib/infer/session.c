/* Opening a session: memory is planned by running its largest steps dry, then allocated once. */
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"

static blip2_status check_options(const blip2_session_options *o, const b2_config *c, blip2_error *e)
{
    if (o->size != sizeof *o)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_session_options.size: expected %zu, found %zu",
                       sizeof *o, o->size);
    if (o->max_batch < 1 || o->max_batch > 4096)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_batch: expected 1 to 4096, found %d", o->max_batch);
    if (o->max_images < 1 || o->max_images > 4096)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_images: expected 1 to 4096, found %d", o->max_images);
    if (o->max_prompt_tokens < 1 || o->max_prompt_tokens > 4096 - c->qf.queries)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_prompt_tokens: expected 1 to %d, found %d",
                       4096 - c->qf.queries, o->max_prompt_tokens);
    if (o->max_new_tokens < 1 || o->max_new_tokens > 4096)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_new_tokens: expected 1 to 4096, found %d",
                       o->max_new_tokens);
    if (o->n_adapters < 0 || o->n_adapters > B2_MAX_ADAPTERS || (o->n_adapters && !o->adapters))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "n_adapters: expected 0 to %d, found %d", B2_MAX_ADAPTERS,
                       o->n_adapters);
    return BLIP2_OK;
}

static int32_t *take_ids(blip2_session *s, int n)
{
    return b2_twin_take(&s->twin, (size_t)n * sizeof(int32_t));
}
static float *take_floats(blip2_session *s, int rows, int cols)
{
    return b2_twin_take(&s->twin, (size_t)rows * (size_t)cols * sizeof(float));
}

/* What host and device exchange; first, so that both arenas begin with it. */
static void take_twins(blip2_session *s)
{
    const b2_config *c = &s->net->c;
    const int b = s->batch;
    s->twin = b2_twin_of(s->model->device, &s->state, &s->staging);
    s->which = take_ids(s, b > s->images ? b : s->images);
    s->enc_len = take_ids(s, b);
    s->enc_ids = take_ids(s, b * s->tenc);
    s->ids = take_ids(s, 4 * b);
    s->pos = s->ids + b;
    s->seen = s->ids + 2 * b;
    s->forbid = s->ids + 3 * b;
    s->chosen = take_ids(s, 2 * b);
    s->logp = (float *)(void *)(s->chosen + b);
    s->feats = take_floats(s, b * c->qf.queries, c->t5.d);
    s->sets = b2_device_is_host(s->model->device) ? 1 : 2;
    s->pixels = take_floats(s, s->sets * s->images, 3 * c->vit.image * c->vit.image);
    s->tokens = take_floats(s, s->images * c->qf.queries, c->t5.d);
}

/* Everything that outlives a step; run dry it counts, run for real it hands out. */
static void take_state(blip2_session *s)
{
    b2_queue *q = &s->q;
    b2_arena *a = &s->state;
    const b2_config *c = &s->net->c;
    const int inner = c->t5.heads * c->t5.dkv, b = s->batch;
    take_twins(s);
    for (int i = 0; i < c->t5.dec_layers; i++) {
        s->kv[i].k = b2_new(q, a, s->pass.act, b * s->tdec, inner);
        s->kv[i].v = b2_new(q, a, s->pass.act, b * s->tdec, inner);
        s->kv[i].cross = b2_new(q, a, s->pass.act, b * s->tenc, 2 * inner);
    }
    s->enc = b2_new(q, a, s->pass.act, b * s->tenc, c->t5.d);
    s->logits = b2_new(q, a, B2_F32, b, c->t5.vocab);
    s->bias = b2_new(q, a, B2_F32, c->t5.heads, s->tdec);
}

/* The largest steps this session will ever take. */
static void largest_steps(blip2_session *s)
{
    b2_session_images(s, s->pixels, s->images, -1, NULL);
    b2_session_prefill(s, s->batch, s->tenc);
    b2_session_decode(s, s->batch, s->tenc, s->tdec - 1);
}

static blip2_status dry_run(blip2_session *s, blip2_error *e)
{
    b2_arena_dry(&s->state);
    b2_arena_dry(&s->scratch);
    b2_arena_dry(&s->staging);
    s->q.dry = true;
    take_state(s);
    largest_steps(s);
    s->q.dry = false;
    return b2_queue_finish(&s->q, e);
}

/* The trainer's adapter on this session's tree: the same A and B, no dropout, no gradients. */
static blip2_status share_slots(blip2_session *s, const b2_net *net, blip2_error *e)
{
    s->net->slots = calloc((size_t)net->n_slots, sizeof *s->net->slots);
    if (!s->net->slots) return B2_NOMEM(e, "a session");
    s->net->n_slots = net->n_slots;
    s->trained_net = true;
    for (int i = 0; i < net->refs; i++) {
        const b2_param_ref *from = &net->ref[i], *to = &s->net->ref[i];
        const b2_lora_slot *slot = from->linear ? from->linear->lora[from->block] : NULL;
        if (!slot) continue;
        b2_lora_slot *mine = &s->net->slots[slot - net->slots];
        *mine = *slot;
        mine->drop = 0.0f;
        mine->ga = mine->gb = NULL;
        to->linear->lora[to->block] = mine;
    }
    return BLIP2_OK;
}

static blip2_status prepare(blip2_session *s, const blip2_model *m, const b2_net *net,
                            const blip2_session_options *o, blip2_error *e)
{
    const b2_config *c = &m->config;
    s->model = b2_model_ref((blip2_model *)(uintptr_t)m);
    s->batch = o->max_batch;
    s->images = o->max_images;
    s->tenc = c->qf.queries + o->max_prompt_tokens;
    s->tdec = o->max_new_tokens;
    s->kv = calloc((size_t)c->t5.dec_layers, sizeof *s->kv);
    if (!s->kv) return B2_NOMEM(e, "a session");
    B2_TRY(b2_net_new(&s->net, c, e));
    b2_net_view(s->net, net);
    if (net->n_slots) B2_TRY(share_slots(s, net, e));
    for (int i = 0; i < o->n_adapters; i++) s->adapter[s->n_adapters++] = b2_adapter_ref(o->adapters[i]);
    if (o->n_adapters) B2_TRY(b2_adapters_attach(s->net, s->adapter, s->n_adapters, e));
    b2_queue_init(&s->q, m->device, &s->scratch, &s->step);
    s->q.cancel = &s->cancel;
    s->q.act = m->act;
    b2_recordings_init(&s->graphs);
    s->pass = (b2_pass){.q = &s->q, .act = m->act};
    return BLIP2_OK;
}

static blip2_status allocate(blip2_session *s, blip2_error *e)
{
    const size_t state = s->state.peak, scratch = s->scratch.peak, staging = s->staging.peak;
    const b2_config *c = &s->net->c;
    blip2_device *d = s->model->device;
    B2_TRY(b2_device_room(d, state + scratch, "a session", e));
    s->state = s->scratch = s->staging = (b2_arena){0};
    B2_TRY(b2_arena_init(&s->state, state, &d->memory, e));
    B2_TRY(b2_arena_init(&s->scratch, scratch, &d->memory, e));
    if (staging) B2_TRY(b2_arena_init(&s->staging, staging, &d->pinned, e));
    take_state(s);
    b2_relbias(&s->q, s->bias.p, &s->net->dec.relbias, c->t5.max_distance, false, s->tdec - 1, s->tdec);
    return b2_queue_finish(&s->q, e);
}

static blip2_status new_session(const blip2_model *m, const b2_net *net, const blip2_session_options *options,
                                blip2_session **out, blip2_error *e)
{
    const blip2_session_options defaults = BLIP2_SESSION_OPTIONS_INIT;
    const blip2_session_options *o = options ? options : &defaults;
    if (!m || !out) return b2_fail(e, BLIP2_ERR_ARGUMENT, "session: model and out must not be NULL");
    *out = NULL;
    B2_TRY(check_options(o, &m->config, e));
    blip2_session *s = calloc(1, sizeof *s);
    if (!s) return B2_NOMEM(e, "a session");
    blip2_status st = prepare(s, m, net, o, e);
    if (st == BLIP2_OK) st = dry_run(s, e);
    if (st != BLIP2_OK) {
        blip2_session_close(s);
        return st;
    }
    *out = s;
    return BLIP2_OK;
}

blip2_status b2_session_open_net(const blip2_model *m, const b2_net *net, const blip2_session_options *o,
                                 blip2_session **out, blip2_error *e)
{
    B2_TRY(new_session(m, net, o, out, e));
    const blip2_status st = allocate(*out, e);
    if (st == BLIP2_OK) return st;
    blip2_session_close(*out);
    *out = NULL;
    return st;
}

blip2_status blip2_session_open(const blip2_model *m, const blip2_session_options *options,
                                blip2_session **out, blip2_error *err)
{
    return b2_session_open_net(m, m ? m->run : NULL, options, out, err);
}

blip2_status blip2_session_plan(const blip2_model *m, const blip2_session_options *o, blip2_plan *plan,
                                blip2_error *err)
{
    blip2_session *s = NULL;
    if (!plan || plan->size != sizeof *plan)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_plan.size: expected %zu", sizeof *plan);
    B2_TRY(new_session(m, m ? m->run : NULL, o, &s, err));
    plan->weights = m->weight_bytes;
    plan->state = s->state.peak;
    plan->saved = 0;
    plan->scratch = s->scratch.peak;
    plan->total = plan->weights + plan->state + plan->scratch;
    blip2_session_close(s);
    return BLIP2_OK;
}

void blip2_session_close(blip2_session *s)
{
    if (!s) return;
    b2_answers_free(&s->answers);
    b2_recordings_free(&s->q, &s->graphs);
    b2_queue_close(&s->q);
    b2_arena_free(&s->scratch);
    b2_arena_free(&s->staging);
    b2_arena_free(&s->state);
    b2_net_free(s->net);
    for (int i = 0; i < s->n_adapters; i++) blip2_adapter_close(s->adapter[i]);
    blip2_model_close(s->model);
    free(s->kv);
    free(s);
}

void blip2_session_cancel(blip2_session *s)
{
    if (s) s->cancel = 1;
}
