/* Pictures → features. */
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"

static blip2_status check(const blip2_session *s, const void *in, int n, int adapter, blip2_features **out,
                          blip2_error *e)
{
    if (!s || (!in && n > 0) || n < 0 || (!out && n > 0))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "encode: session, input and out must not be NULL");
    if (adapter < -1 || adapter >= s->n_adapters)
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "adapter: expected -1 to %d (adapters bound to the session), found %d",
                       s->n_adapters - 1, adapter);
    for (int i = 0; i < n; i++) out[i] = NULL;
    return BLIP2_OK;
}

static size_t pixels_each(const blip2_session *s)
{
    return 3 * (size_t)s->net->c.vit.image * (size_t)s->net->c.vit.image;
}

/* ---- pictures → pixels, on all threads ----------------------------------------------------------------- */

typedef struct prepared {
    blip2_status status;
    blip2_error error;
} prepared;
typedef struct prepare_job {
    const blip2_session *s;
    const blip2_image *images;
    float *pixels;
    prepared *done;
} prepare_job;

static void prepare_one(void *ctx, int64_t i, int worker)
{
    const prepare_job *j = ctx;
    prepared *p = &j->done[i];
    (void)worker;
    p->error = (blip2_error)BLIP2_ERROR_INIT;
    p->status = b2_preprocess_run(&j->s->model->prep, &j->images[i],
                                  j->pixels + (size_t)i * pixels_each(j->s), &p->error);
}

static blip2_status prepare(const blip2_session *s, const blip2_image *images, int n, float *pixels,
                            blip2_error *e)
{
    prepare_job j = {s, images, pixels, malloc((size_t)n * sizeof(prepared))};
    blip2_status st = BLIP2_OK;
    if (!j.done) return B2_NOMEM(e, "pictures");
    b2_pool_run(s->model->device->pool, n, prepare_one, &j);
    for (int i = 0; i < n && st == BLIP2_OK; i++)
        if (j.done[i].status) st = b2_fail(e, j.done[i].status, "%s", j.done[i].error.text);
    free(j.done);
    return st;
}

/* ---- pixels → features: while a GPU encodes one turn's pictures, the next one's are prepared ----------- */

/* What is to be encoded: pictures, or ready pixels. */
typedef struct source {
    const blip2_image *images;
    const float *pixels;
} source;

static blip2_status fill(const blip2_session *s, const source *in, int first, int n, float *pixels,
                         blip2_error *e)
{
    if (in->images) return prepare(s, in->images + first, n, pixels, e);
    memcpy(pixels, in->pixels + (size_t)first * pixels_each(s), (size_t)n * pixels_each(s) * sizeof(float));
    return BLIP2_OK;
}

/* Waits for the turn that is on its way, of n pictures (0: none). */
static blip2_status collect(blip2_session *s, int n, blip2_features **out, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    if (n == 0) return BLIP2_OK;
    b2_session_fetch_tokens(s, n);
    s->q.where[0] = 0;
    B2_TRY(b2_queue_finish(&s->q, e));
    for (int i = 0; i < n; i++) {
        const float *tokens = s->tokens + (size_t)i * (size_t)c->qf.queries * (size_t)c->t5.d;
        B2_TRY(b2_features_from(tokens, c->qf.queries, c->t5.d, &out[i], e));
    }
    return BLIP2_OK;
}

static blip2_status encode(blip2_session *s, const source *in, int n, int adapter, blip2_features **out,
                           blip2_error *e)
{
    const size_t set = (size_t)s->images * pixels_each(s);
    int first = 0, away = 0; /* pictures on their way, from `first` on */
    s->cancel = 0;
    for (int i = 0; i < n; i += s->images) {
        const int turn = n - i < s->images ? n - i : s->images;
        float *pixels = s->pixels + (size_t)(i / s->images % s->sets) * set;
        blip2_status st = fill(s, in, i, turn, pixels, e);
        if (st != BLIP2_OK) {
            blip2_error later = BLIP2_ERROR_INIT; /* the first failure is the story */
            (void)b2_queue_finish(&s->q, &later);
            return st;
        }
        B2_TRY(collect(s, away, out + first, e));
        b2_session_images(s, pixels, turn, adapter, NULL);
        first = i, away = turn;
    }
    return collect(s, away, out + first, e);
}

static blip2_status undo(blip2_status st, int n, blip2_features **out)
{
    for (int i = 0; st != BLIP2_OK && i < n; i++) {
        blip2_features_close(out[i]);
        out[i] = NULL;
    }
    return st;
}

blip2_status blip2_session_encode(blip2_session *s, const blip2_image *images, int n, int adapter,
                                  blip2_features **out, blip2_error *err)
{
    const source in = {images, NULL};
    B2_TRY(check(s, images, n, adapter, out, err));
    return undo(encode(s, &in, n, adapter, out, err), n, out);
}

blip2_status blip2_session_encode_pixels(blip2_session *s, const float *pixels, int n, int adapter,
                                         blip2_features **out, blip2_error *err)
{
    const source in = {NULL, pixels};
    B2_TRY(check(s, pixels, n, adapter, out, err));
    return undo(encode(s, &in, n, adapter, out, err), n, out);
}
