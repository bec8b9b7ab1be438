/* Photos as the model wants them: decoded once and kept while they fit, moved about when training asks for
 * it. */
#ifndef B2_TRAIN_PICTURES_H
#define B2_TRAIN_PICTURES_H
#include "base/arena.h"
#include "image/image.h"
#include "train/dataset.h"

#define B2_PICTURES_BUDGET ((size_t)512 << 20) /* bytes of decoded photos that are kept */

typedef struct b2_pictures {
    const blip2_dataset *d;
    const b2_preprocess *prep;
    uint8_t *store; /* [kept][size*size*3], photos 0..kept-1 */
    uint8_t *have;  /* [kept] */
    int64_t kept;
} b2_pictures;

/* Takes the memory of the store from the arena (which may be dry). keep false: nothing is kept. */
void b2_pictures_init(b2_pictures *p, const blip2_dataset *d, const b2_preprocess *prep, bool keep,
                      b2_arena *a);
/* A photo at the model's size, RGB, rows without gaps: into `out` [size*size*3], or where it is kept; *at
 * points to it. A photo that cannot be read is BLIP2_ERR_DATA with the line of its first row. */
blip2_status b2_picture_get(b2_pictures *p, int64_t image, uint8_t *out, const uint8_t **at, blip2_error *e);
/* RGB at the model's size → f32 [3][size][size]. */
blip2_status b2_picture_pixels(const b2_pictures *p, const uint8_t *rgb, float *out, blip2_error *e);

/* Flipped and shifted as `key` says (flags: BLIP2_AUGMENT_*): shifts up to 2 pixels in 28, edges repeated. */
void b2_augment(uint8_t *dst, const uint8_t *src, int size, int flags, uint64_t key);
/* The key of one row in one epoch. */
uint64_t b2_augment_key(uint64_t seed, uint64_t epoch, uint64_t row);
#endif
