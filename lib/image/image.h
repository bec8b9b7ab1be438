/* Internal side of pictures: decoders and the model's preprocessing. */
#ifndef B2_IMAGE_IMAGE_H
#define B2_IMAGE_IMAGE_H
#include <stdbool.h>
#include "blip2/image.h"
#include "base/err.h"

/* Limits of every picture. */
#define B2_IMAGE_SIDE   16384
#define B2_IMAGE_PIXELS (64 << 20)
#define B2_IMAGE_FILE   ((size_t)256 << 20)
blip2_status b2_image_check(const blip2_image *img, blip2_error *e); /* a caller's own image: ERR_ARGUMENT */
blip2_status b2_image_alloc(blip2_image *img, int width, int height, blip2_error *e); /* checks the limits */

/* The decoders, one home file per library; what they make is what Pillow's convert("RGB") makes. With
 * B2_WITH_IMAGE=0 decoding and writing answer BLIP2_ERR_UNSUPPORTED. */
blip2_status b2_jpeg_decode(blip2_image *img, const void *p, size_t n, blip2_error *e);
blip2_status b2_png_decode(blip2_image *img, const void *p, size_t n, blip2_error *e);
blip2_status b2_webp_decode(blip2_image *img, const void *p, size_t n, blip2_error *e);
blip2_status b2_jpeg_encode(unsigned char **out, size_t *n, const blip2_image *img, int quality,
                            blip2_error *e); /* free() out */
blip2_status b2_jpeg_write(const char *path, const blip2_image *img, int quality,
                           blip2_error *e); /* RGB, atomic */

/* preprocessor_config.json: defaults are BLIP-2's (model.md 4.1; CLIP mean and std). */
typedef struct b2_preprocess {
    int size; /* output is size x size */
    bool resize, rescale, normalize;
    double rescale_factor;
    double mean[3], std[3];
} b2_preprocess;
void b2_preprocess_default(b2_preprocess *p, int size);
/* DIR/preprocessor_config.json; a missing file gives the defaults; bad or unsupported values are errors. */
blip2_status b2_preprocess_load(b2_preprocess *p, const char *dir, int size, blip2_error *e);
blip2_status b2_preprocess_save(const b2_preprocess *p, const char *dir, blip2_error *e);
/* Hash of everything that changes the pixels. */
uint64_t b2_preprocess_hash(const b2_preprocess *p);
/* img → out [3][size][size] f32, channels first: squash to size x size (Pillow bicubic), x*factor in double
 * rounded to f32, (x-mean)/std in f32: equal to transformers' BlipImageProcessor with PIL. */
blip2_status b2_preprocess_run(const b2_preprocess *p, const blip2_image *img, float *out, blip2_error *e);
#endif
