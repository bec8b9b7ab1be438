/* Computing image tokens once a photo. */
#include <stdlib.h>
#include <string.h>
#include "train/feature_cache.h"
#include "train/feature_file.h"

typedef struct decode_job {
    const b2_encoder_work *w;
    const int64_t *image;
    float *pixels;
    uint8_t *rgb;
    blip2_status status[B2_ENCODE_BATCH];
    blip2_error error[B2_ENCODE_BATCH];
} decode_job;

static size_t pixel_count(const blip2_model *m) { return 3 * (size_t)m->prep.size * (size_t)m->prep.size; }

static void decode_one(void *ctx, int64_t i, int worker)
{
    decode_job *j = ctx;
    const size_t n = pixel_count(j->w->model);
    const uint8_t *at = NULL;
    (void)worker;
    j->status[i] = b2_picture_get(j->w->pictures, j->image[i], j->rgb + (size_t)i * n, &at, &j->error[i]);
    if (j->status[i] == BLIP2_OK)
        j->status[i] = b2_picture_pixels(j->w->pictures, at, j->pixels + (size_t)i * n, &j->error[i]);
}

static blip2_status decode_all(decode_job *j, int n, blip2_error *e)
{
    for (int i = 0; i < n; i++) j->error[i] = (blip2_error)BLIP2_ERROR_INIT;
    b2_pool_run(j->w->q->pool, n, decode_one, j);
    for (int i = 0; i < n; i++) {
        if (j->status[i] != BLIP2_OK) return b2_fail(e, j->status[i], "%s", j->error[i].text);
    }
    return BLIP2_OK;
}

/* What the host prepares and gets: in scratch where that is the host's, else beside it. */
typedef struct chunk_room {
    float *pixels;
    uint8_t *rgb;
    void *own; /* free() */
} chunk_room;

static blip2_status take_room(chunk_room *r, b2_queue *q, int n, size_t px, float *device_pixels,
                              blip2_error *e)
{
    *r = (chunk_room){device_pixels, NULL, NULL};
    if (q->dry || b2_device_is_host(q->device)) {
        r->rgb = b2_scratch(q, B2_F32, n, (int)(px + 3) / 4 + 1).p;
        return BLIP2_OK;
    }
    r->own = malloc((size_t)n * px * (sizeof(float) + 1));
    if (!r->own) return B2_NOMEM(e, "decoding photos");
    r->pixels = r->own;
    r->rgb = (uint8_t *)(r->pixels + (size_t)n * px);
    return BLIP2_OK;
}

static blip2_status decode_chunk(const b2_encoder_work *w, const int64_t *image, int n, const chunk_room *r,
                                 blip2_error *e)
{
    decode_job *j = calloc(1, sizeof *j);
    if (!j) return B2_NOMEM(e, "decoding photos");
    j->w = w;
    j->image = image;
    j->pixels = r->pixels;
    j->rgb = r->rgb;
    const blip2_status s = decode_all(j, n, e);
    free(j);
    return s;
}

blip2_status b2_features_chunk(const b2_encoder_work *w, const int64_t *image, int n, float *out,
                               blip2_error *e)
{
    b2_queue *q = w->q;
    const blip2_model *m = w->model;
    const size_t mark = b2_arena_mark(q->scratch), px = pixel_count(m);
    const bool apart = !b2_device_is_host(m->device);
    b2_tensor pixels = b2_scratch(q, B2_F32, n, (int)px);
    b2_tensor tokens = b2_view_f32(out, n * m->config.qf.queries, m->config.t5.d);
    const b2_pass p = {.q = q, .act = m->act};
    chunk_room r;
    if (apart) tokens = b2_scratch(q, B2_F32, tokens.rows, tokens.cols);
    blip2_status s = take_room(&r, q, n, px, pixels.p, e);
    if (s == BLIP2_OK && !q->dry && !b2_queue_failed(q)) s = decode_chunk(w, image, n, &r, e);
    if (s == BLIP2_OK) {
        b2_upload(q, pixels.p, r.pixels, (size_t)n * px * sizeof(float));
        b2_image_infer(&p, m->run, pixels.p, n, &tokens, NULL);
        b2_download(q, out, tokens.p, (size_t)tokens.rows * (size_t)tokens.cols * sizeof(float));
    }
    b2_arena_release(q->scratch, mark);
    q->where[0] = 0;
    const blip2_status run = b2_queue_finish(q, e);
    free(r.own);
    return s != BLIP2_OK ? s : run;
}

void b2_feature_dry(const b2_encoder_work *w)
{
    const size_t mark = b2_arena_mark(w->q->scratch);
    const b2_tensor out =
        b2_scratch(w->q, B2_F32, 2 * B2_ENCODE_BATCH * w->model->config.qf.queries, w->model->config.t5.d);
    for (int n = 1; n <= B2_ENCODE_BATCH; n++) (void)!b2_features_chunk(w, NULL, n, out.p, NULL);
    b2_arena_release(w->q->scratch, mark);
}

blip2_status b2_features_compute(const b2_encoder_work *w, float *out, blip2_error *e)
{
    const int64_t images = w->pictures->d->images;
    const size_t each = (size_t)w->model->config.qf.queries * (size_t)w->model->config.t5.d;
    int64_t image[B2_ENCODE_BATCH];
    for (int64_t i = 0; i < images; i += B2_ENCODE_BATCH) {
        int n = 0;
        while (n < B2_ENCODE_BATCH && i + n < images) {
            image[n] = i + n;
            n++;
        }
        B2_TRY(b2_features_chunk(w, image, n, out + (size_t)i * each, e));
    }
    return BLIP2_OK;
}
