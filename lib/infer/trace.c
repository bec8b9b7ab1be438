/* Tracing one picture and one question: every stage's activation as a safetensors file. */
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"

typedef struct trace {
    const char *name;
    int rank;
    int64_t shape[4];
    float *data, *run; /* the host's; where the kernels run */
} trace;
enum { PIXELS, VIT, QFORMER, PROJECTION, ENCODER, LOGITS, STAGES };

static size_t count(const trace *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->shape[i];
    return n;
}

/* The first stages come from inside a walk: they get room where the kernels run. */
static blip2_status stages_place(trace t[STAGES], blip2_device *d, blip2_error *e)
{
    for (int i = VIT; i <= PROJECTION; i++) {
        t[i].run =
            b2_device_is_host(d) ? t[i].data : b2_account_alloc(&d->memory, count(&t[i]) * sizeof(float));
        if (!t[i].run) return B2_NOMEM(e, "a trace");
    }
    return BLIP2_OK;
}

static void stages_free(trace t[STAGES], blip2_device *d)
{
    for (int i = 0; i < STAGES; i++) {
        if (t[i].run != t[i].data) b2_account_free(&d->memory, t[i].run, count(&t[i]) * sizeof(float));
        free(t[i].data);
    }
}

static blip2_status stages_new(trace t[STAGES], const blip2_session *s, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    const trace init[STAGES] = {{"pixel_values", 4, {1, 3, c->vit.image, c->vit.image}, NULL, NULL},
                                {"vit", 3, {1, b2_config_vit_tokens(c), c->vit.hidden, 0}, NULL, NULL},
                                {"qformer", 3, {1, c->qf.queries, c->qf.hidden, 0}, NULL, NULL},
                                {"projection", 3, {1, c->qf.queries, c->t5.d, 0}, NULL, NULL},
                                {"encoder", 3, {1, s->tenc, c->t5.d, 0}, NULL, NULL},
                                {"logits", 2, {s->tdec, c->t5.vocab, 0, 0}, NULL, NULL}};
    memcpy(t, init, sizeof init);
    for (int i = 0; i < STAGES; i++) {
        t[i].data = malloc(count(&t[i]) * sizeof(float));
        if (!t[i].data) return B2_NOMEM(e, "a trace");
    }
    return stages_place(t, s->model->device, e);
}

static blip2_status feed(b2_st_writer *w, const trace t[STAGES], blip2_error *e)
{
    for (int i = 0; i < STAGES; i++)
        B2_TRY(b2_st_writer_declare(w, t[i].name, B2_ST_F32, t[i].rank, t[i].shape, e));
    B2_TRY(b2_st_writer_begin(w, e));
    for (size_t i = 0; i < STAGES; i++) {
        const trace *x = &t[b2_st_writer_order(w, i)];
        B2_TRY(b2_st_writer_data(w, x->data, count(x) * sizeof(float), e));
    }
    return BLIP2_OK;
}

static blip2_status write_stages(const trace t[STAGES], const char *path, blip2_error *e)
{
    b2_st_writer *w = NULL;
    B2_TRY(b2_st_writer_open(&w, path, e));
    const blip2_status st = feed(w, t, e);
    if (st == BLIP2_OK) return b2_st_writer_commit(w, e);
    b2_st_writer_abort(w);
    return st;
}

static blip2_status run(blip2_session *s, const blip2_image *image, const blip2_request *request,
                        trace t[STAGES], blip2_answer *answer, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    const b2_taps taps = {.vit = t[VIT].run, .qformer = t[QFORMER].run, .projection = t[PROJECTION].run};
    blip2_features *f = NULL;
    blip2_request r = *request;
    b2_trace_sink sink = {.encoder = t[ENCODER].data, .logits = t[LOGITS].data};
    B2_TRY(b2_preprocess_run(&s->model->prep, image, s->pixels, e));
    memcpy(t[PIXELS].data, s->pixels, count(&t[PIXELS]) * sizeof(float));
    b2_session_images(s, s->pixels, 1, r.adapter, &taps);
    b2_session_fetch_tokens(s, 1);
    for (int i = VIT; i <= PROJECTION; i++)
        b2_download(&s->q, t[i].data, t[i].run, count(&t[i]) * sizeof(float));
    B2_TRY(b2_queue_finish(&s->q, e));
    B2_TRY(b2_features_from(s->tokens, c->qf.queries, c->t5.d, &f, e));
    r.features = f;
    const blip2_status st = b2_session_generate_traced(s, &r, 1, answer, &sink, e);
    blip2_features_close(f);
    t[ENCODER].shape[1] = sink.t;
    t[LOGITS].shape[0] = st == BLIP2_OK ? answer->count : 0;
    return st;
}

blip2_status blip2_session_trace(blip2_session *s, const blip2_image *image, const blip2_request *request,
                                 const char *path, blip2_answer *answer, blip2_error *err)
{
    trace t[STAGES] = {{0}};
    if (!s || !image || !request || !path || !answer)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "trace: no argument may be NULL");
    B2_TRY(b2_session_check_request(s, request, err));
    s->cancel = 0;
    blip2_status st = stages_new(t, s, err);
    if (st == BLIP2_OK) st = run(s, image, request, t, answer, err);
    if (st == BLIP2_OK) st = write_stages(t, path, err);
    stages_free(t, s->model->device);
    return st;
}
