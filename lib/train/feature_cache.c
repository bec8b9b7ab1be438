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

blip2_status b2_features_chunk(const b2_encoder_work *w, const int64_t *image, int n, float *out,
                               blip2_error *e)
{
    b2_queue *q = w->q;
    const blip2_model *m = w->model;
    const size_t mark = b2_arena_mark(q->scratch);
    const int px = (int)pixel_count(m);
    b2_tensor pixels = b2_scratch(q, B2_F32, n, px), rgb = b2_scratch(q, B2_F32, n, (px + 3) / 4 + 1);
    b2_tensor tokens = b2_view_f32(out, n * m->config.qf.queries, m->config.t5.d);
    const b2_pass p = {.q = q, .act = m->act};
    decode_job *j = NULL;
    blip2_status s = BLIP2_OK;
    if (!q->dry) {
        j = calloc(1, sizeof *j);
        if (!j) return B2_NOMEM(e, "decoding photos");
        j->w = w;
        j->image = image;
        j->pixels = pixels.p;
        j->rgb = rgb.p;
        s = b2_queue_failed(q) ? BLIP2_OK : decode_all(j, n, e);
        free(j);
    }
    if (s == BLIP2_OK) b2_image_infer(&p, m->run, pixels.p, n, &tokens, NULL);
    b2_arena_release(q->scratch, mark);
    q->where[0] = 0;
    const blip2_status run = b2_queue_finish(q, e);
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
