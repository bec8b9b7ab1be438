/* Filling micro-batches: which rows, their ids and labels, their pictures. */
#include <string.h>
#include "base/rng.h"
#include "train/loader_rows.h"

void b2_epoch_order(int32_t *order, int64_t rows, bool shuffle, uint64_t seed, uint64_t epoch)
{
    b2_rng r = {b2_mix64(b2_mix64(seed ^ 0x0DE2ULL) ^ epoch), 0};
    for (int64_t i = 0; i < rows; i++) order[i] = (int32_t)i;
    for (int64_t i = rows - 1; shuffle && i > 0; i--) {
        const int64_t j = (int64_t)b2_rng_below(&r, (uint64_t)i + 1);
        const int32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

int b2_caption_cut(uint64_t seed, uint64_t epoch, uint64_t row, int n)
{
    b2_rng r = {b2_mix64(b2_mix64(b2_mix64(seed ^ 0xC07ULL) ^ epoch) ^ row), 0};
    if (n < 2 || b2_rng_below(&r, 3) != 0) return 0;
    return (int)b2_rng_below(&r, (uint64_t)n);
}

int64_t b2_loader_steps_per_epoch(int64_t rows, const b2_loader_options *o)
{
    const int64_t per_step = (int64_t)o->batch * o->accumulate;
    return (rows + per_step - 1) / per_step;
}

void b2_micro_init(b2_micro *x, const b2_filler *f, bool cached, b2_arena *a)
{
    const b2_config *c = &f->m->config;
    const size_t n = (size_t)f->o.batch, in = (size_t)f->t->max_in, out = (size_t)f->t->max_out,
                 size = (size_t)f->m->prep.size;
    memset(x, 0, sizeof *x);
    x->sample = b2_arena_take(a, n * sizeof *x->sample);
    x->row = b2_arena_take(a, n * sizeof *x->row);
    x->enc_ids = b2_arena_take(a, n * in * sizeof *x->enc_ids);
    x->enc_len = b2_arena_take(a, n * sizeof *x->enc_len);
    x->dec_ids = b2_arena_take(a, n * out * sizeof *x->dec_ids);
    x->dec_len = b2_arena_take(a, n * sizeof *x->dec_len);
    x->labels = b2_arena_take(a, n * out * sizeof *x->labels);
    x->text = b2_arena_take(a, in * sizeof *x->text);
    if (cached) {
        x->features = b2_arena_take(a, n * (size_t)c->qf.queries * (size_t)c->t5.d * sizeof *x->features);
        return;
    }
    x->pixels = b2_arena_take(a, n * 3 * size * size * sizeof *x->pixels);
    for (int i = 0; i < 2; i++) x->picture[i] = b2_arena_take(a, 3 * size * size);
}

/* Row r of x at the widest stride; compact() moves rows together once all lengths are known. */
static blip2_status fill_text(b2_micro *x, const b2_filler *f, int r, int64_t row, uint64_t epoch)
{
    const b2_texts *t = f->t;
    const b2_config *c = &f->m->config;
    const b2_span in = t->in[row], out = t->out[row];
    const int32_t *text = t->ids + in.at, *label = t->ids + out.at;
    int n = in.n, labels = out.n;
    if (!in.n) {
        int cut = b2_caption_cut(f->o.seed, epoch, (uint64_t)row, out.n - 1);
        if (cut > t->max_prompt - 1) cut = t->max_prompt - 1;
        memcpy(x->text, label, (size_t)cut * sizeof *x->text);
        x->text[cut] = cut ? c->t5.eos : c->t5.bos; /* nothing asked: what a session feeds then */
        text = x->text;
        n = cut + 1;
        label += cut;
        labels -= cut;
    }
    const int len = b2_encoder_ids(c, text, n, r * c->qf.queries, x->enc_ids + (size_t)r * (size_t)t->max_in);
    if (len < 0)
        return b2_fail(&x->error, BLIP2_ERR_DATA,
                       "%s: line %zu: the text holds image placeholders, but not %d of them", f->d->name,
                       f->d->row[row].line, c->qf.queries);
    x->enc_len[r] = len;
    x->dec_len[r] = labels;
    memcpy(x->labels + (size_t)r * (size_t)t->max_out, label, (size_t)labels * sizeof *label);
    x->tokens += labels;
    return BLIP2_OK;
}

/* Encoder ids, labels and decoder ids from the widest stride to this batch's own, with padding. */
static void compact(b2_micro *x, const b2_filler *f)
{
    const b2_config *c = &f->m->config;
    int tenc = 0, tdec = 0;
    for (int r = 0; r < x->b.batch; r++) {
        if (x->enc_len[r] > tenc) tenc = x->enc_len[r];
        if (x->dec_len[r] > tdec) tdec = x->dec_len[r];
    }
    for (int r = 0; r < x->b.batch; r++) {
        int32_t *enc = x->enc_ids + (size_t)r * (size_t)tenc, *lab = x->labels + (size_t)r * (size_t)tdec,
                *dec = x->dec_ids + (size_t)r * (size_t)tdec;
        memmove(enc, x->enc_ids + (size_t)r * (size_t)f->t->max_in, (size_t)x->enc_len[r] * sizeof *enc);
        memmove(lab, x->labels + (size_t)r * (size_t)f->t->max_out, (size_t)x->dec_len[r] * sizeof *lab);
        for (int i = x->enc_len[r]; i < tenc; i++) enc[i] = c->t5.pad;
        for (int i = x->dec_len[r]; i < tdec; i++) lab[i] = -1;
        for (int i = 0; i < tdec; i++)
            dec[i] = i == 0 ? c->t5.start : lab[i - 1] >= 0 ? lab[i - 1] : c->t5.pad;
    }
    x->b.tenc = tenc;
    x->b.tdec = tdec;
}

static blip2_status fill_image(b2_micro *x, const b2_filler *f, int r, int64_t row, uint64_t epoch)
{
    const int64_t image = f->d->row[row].image;
    if (x->features) {
        const size_t n = (size_t)f->m->config.qf.queries * (size_t)f->m->config.t5.d;
        memcpy(x->features + (size_t)r * n, f->features + (size_t)image * n, n * sizeof *x->features);
        return BLIP2_OK;
    }
    const int size = f->m->prep.size;
    const uint8_t *rgb = NULL;
    B2_TRY(b2_picture_get(f->pictures, image, x->picture[0], &rgb, &x->error));
    if (f->o.augment) {
        b2_augment(x->picture[1], rgb, size, f->o.augment, b2_augment_key(f->o.seed, epoch, (uint64_t)row));
        rgb = x->picture[1];
    }
    return b2_picture_pixels(f->pictures, rgb, x->pixels + (size_t)r * 3 * (size_t)size * (size_t)size,
                             &x->error);
}

void b2_micro_fill(b2_micro *x, b2_filler *f, int64_t micro)
{
    const int64_t per_epoch = b2_loader_steps_per_epoch(f->d->rows, &f->o), step = micro / f->o.accumulate,
                  epoch = step / per_epoch;
    const int64_t first =
        (step % per_epoch) * f->o.batch * f->o.accumulate + (micro % f->o.accumulate) * f->o.batch;
    int64_t n = f->d->rows - first;
    n = n < 0 ? 0 : n > f->o.batch ? f->o.batch : n;
    if (f->epoch != epoch) b2_epoch_order(f->order, f->d->rows, f->o.shuffle, f->o.seed, (uint64_t)epoch);
    f->epoch = epoch;
    x->error = (blip2_error)BLIP2_ERROR_INIT;
    x->status = BLIP2_OK;
    x->tokens = 0;
    x->b = (b2_batch){.batch = (int)n,
                      .pixels = x->pixels,
                      .features = x->features,
                      .enc_ids = x->enc_ids,
                      .enc_len = x->enc_len,
                      .dec_ids = x->dec_ids,
                      .labels = x->labels};
    for (int r = 0; r < (int)n && x->status == BLIP2_OK; r++) {
        const int64_t row = f->order[first + r];
        x->row[r] = row;
        x->sample[r] = (uint64_t)epoch * (uint64_t)f->d->rows + (uint64_t)row;
        x->status = fill_text(x, f, r, row, (uint64_t)epoch);
        if (x->status == BLIP2_OK) x->status = fill_image(x, f, r, row, (uint64_t)epoch);
    }
    if (x->status == BLIP2_OK) compact(x, f);
}
