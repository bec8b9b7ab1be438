/* Decoded photos: the store, and flips and shifts. */
#include <string.h>
#include "base/rng.h"
#include "train/pictures.h"

static size_t picture_bytes(const b2_preprocess *prep) { return (size_t)prep->size * (size_t)prep->size * 3; }

void b2_pictures_init(b2_pictures *p, const blip2_dataset *d, const b2_preprocess *prep, bool keep,
                      b2_arena *a)
{
    *p = (b2_pictures){.d = d, .prep = prep};
    if (!keep) return;
    const int64_t room = (int64_t)(B2_PICTURES_BUDGET / picture_bytes(prep));
    p->kept = d->images < room ? d->images : room;
    p->store = b2_arena_take(a, (size_t)p->kept * picture_bytes(prep));
    p->have = b2_arena_take(a, (size_t)p->kept);
}

static blip2_status at_model_size(const b2_preprocess *prep, blip2_image *img, uint8_t *out, blip2_error *e)
{
    const int size = prep->size;
    blip2_image small = {0};
    if (img->width != size || img->height != size) {
        if (!prep->resize)
            return b2_fail(e, BLIP2_ERR_DATA,
                           "the photo is %d x %d, the preprocessor does not resize and wants %d x %d",
                           img->width, img->height, size, size);
        B2_TRY(blip2_image_resize(&small, img, size, size, e));
    }
    const blip2_image *from = small.pixels ? &small : img;
    for (int y = 0; y < size; y++)
        memcpy(out + (size_t)y * (size_t)size * 3, from->pixels + y * from->stride, (size_t)size * 3);
    blip2_image_free(&small);
    return BLIP2_OK;
}

blip2_status b2_picture_get(b2_pictures *p, int64_t image, uint8_t *out, const uint8_t **at, blip2_error *e)
{
    const bool keep = image < p->kept;
    uint8_t *to = keep ? p->store + (size_t)image * picture_bytes(p->prep) : out;
    *at = to;
    if (keep && p->have[image]) return BLIP2_OK;
    blip2_image img = {0};
    blip2_status s = blip2_image_load(&img, p->d->path[image], e);
    if (s == BLIP2_OK) {
        s = at_model_size(p->prep, &img, to, e);
        blip2_image_free(&img);
    }
    if (s != BLIP2_OK)
        return b2_fail_context(e, s == BLIP2_ERR_MEMORY ? s : BLIP2_ERR_DATA, "%s: line %zu: photo %s",
                               p->d->name, p->d->row[p->d->first[image]].line, p->d->path[image]);
    if (keep) p->have[image] = 1;
    return BLIP2_OK;
}

blip2_status b2_picture_pixels(const b2_pictures *p, const uint8_t *rgb, float *out, blip2_error *e)
{
    const int size = p->prep->size;
    b2_preprocess ready = *p->prep;
    ready.resize = false;
    /* The pixels are only read; blip2_image has no const form. */
    const blip2_image img = {size, size, (ptrdiff_t)size * 3, (uint8_t *)(uintptr_t)rgb};
    return b2_preprocess_run(&ready, &img, out, e);
}

uint64_t b2_augment_key(uint64_t seed, uint64_t epoch, uint64_t row)
{
    return b2_mix64(b2_mix64(b2_mix64(seed ^ 0xA06ULL) ^ epoch) ^ row);
}

static int clamp(int v, int n) { return v < 0 ? 0 : v >= n ? n - 1 : v; }

void b2_augment(uint8_t *dst, const uint8_t *src, int size, int flags, uint64_t key)
{
    b2_rng r = {key, 0};
    const bool flip = (b2_rng_next(&r) >> 63) != 0 && (flags & BLIP2_AUGMENT_FLIP);
    int reach = (2 * size + 14) / 28, dx, dy;
    if (reach < 1) reach = 1;
    dx = (int)b2_rng_below(&r, (uint64_t)(2 * reach + 1)) - reach;
    dy = (int)b2_rng_below(&r, (uint64_t)(2 * reach + 1)) - reach;
    if (!(flags & BLIP2_AUGMENT_SHIFT)) dx = dy = 0;
    for (int y = 0; y < size; y++) {
        const uint8_t *row = src + (size_t)clamp(y - dy, size) * (size_t)size * 3;
        for (int x = 0; x < size; x++) {
            const int from = clamp((flip ? size - 1 - x : x) - dx, size);
            memcpy(dst + ((size_t)y * (size_t)size + (size_t)x) * 3, row + (size_t)from * 3, 3);
        }
    }
}
