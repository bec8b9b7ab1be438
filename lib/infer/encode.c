/* Pictures → features. */
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

/* The pixels of n pictures stand in s->pixels. */
static blip2_status run(blip2_session *s, int n, int adapter, blip2_features **out, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    b2_session_images(s, n, adapter, NULL);
    s->q.where[0] = 0;
    B2_TRY(b2_queue_finish(&s->q, e));
    for (int i = 0; i < n; i++) {
        const float *tokens = s->tokens + (size_t)i * (size_t)c->qf.queries * (size_t)c->t5.d;
        B2_TRY(b2_features_from(tokens, c->qf.queries, c->t5.d, &out[i], e));
    }
    return BLIP2_OK;
}

static blip2_status undo(blip2_status st, int n, blip2_features **out)
{
    for (int i = 0; st != BLIP2_OK && i < n; i++) {
        blip2_features_close(out[i]);
        out[i] = NULL;
    }
    return st;
}

static size_t pixels_each(const blip2_session *s)
{
    return 3 * (size_t)s->net->c.vit.image * (size_t)s->net->c.vit.image;
}

static blip2_status encode_turn(blip2_session *s, const blip2_image *images, int n, int adapter,
                                blip2_features **out, blip2_error *e)
{
    for (int i = 0; i < n; i++)
        B2_TRY(b2_preprocess_run(&s->model->prep, &images[i], s->pixels + (size_t)i * pixels_each(s), e));
    return run(s, n, adapter, out, e);
}

blip2_status blip2_session_encode(blip2_session *s, const blip2_image *images, int n, int adapter,
                                  blip2_features **out, blip2_error *err)
{
    blip2_status st = check(s, images, n, adapter, out, err);
    if (st != BLIP2_OK) return st;
    s->cancel = 0;
    for (int i = 0; i < n && st == BLIP2_OK; i += s->images) {
        const int turn = n - i < s->images ? n - i : s->images;
        st = encode_turn(s, images + i, turn, adapter, out + i, err);
    }
    return undo(st, n, out);
}

blip2_status blip2_session_encode_pixels(blip2_session *s, const float *pixels, int n, int adapter,
                                         blip2_features **out, blip2_error *err)
{
    blip2_status st = check(s, pixels, n, adapter, out, err);
    if (st != BLIP2_OK) return st;
    s->cancel = 0;
    for (int i = 0; i < n && st == BLIP2_OK; i += s->images) {
        const int turn = n - i < s->images ? n - i : s->images;
        memcpy(s->pixels, pixels + (size_t)i * pixels_each(s), (size_t)turn * pixels_each(s) * sizeof(float));
        st = run(s, turn, adapter, out + i, err);
    }
    return undo(st, n, out);
}
