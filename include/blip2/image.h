/* Pictures: decode JPEG, PNG, WebP; everything becomes RGB8 as Pillow's convert("RGB") makes it. Any thread.
 */
#ifndef BLIP2_IMAGE_H
#define BLIP2_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include "blip2/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* RGB, 8 bits a channel. `stride` is bytes from one row to the next (>= 3*width). An image that the caller
 * builds around its own pixels is fine wherever a const blip2_image * is taken; the pixels stay the caller's.
 */
typedef struct blip2_image {
    int width, height;
    ptrdiff_t stride;
    uint8_t *pixels;
} blip2_image;

/* Decode a file or its bytes. On success img->pixels is the library's: release it with blip2_image_free.
 * Limits: 16384 pixels a side, 64 Mpixel, 256 MiB file, 100 JPEG scans. A truncated or damaged file is an
 * error. EXIF orientation is not applied.
 * BLIP2_ERR_IO, BLIP2_ERR_FORMAT, BLIP2_ERR_LIMIT, BLIP2_ERR_UNSUPPORTED (format not built in, animated
 * WebP). */
BLIP2_API blip2_status blip2_image_load(blip2_image *img, const char *path, blip2_error *err);
BLIP2_API blip2_status blip2_image_decode(blip2_image *img, const void *bytes, size_t size, blip2_error *err);
BLIP2_API void blip2_image_free(blip2_image *img);

/* Pillow's Image.resize(BICUBIC), byte for byte (libImaging/Resample.c; Pillow 13 differs by single levels
 * where the height shrinks much more than the width). dst->pixels is allocated. BLIP2_ERR_LIMIT when width *
 * src->height is over 64 Mpixel. */
BLIP2_API blip2_status blip2_image_resize(blip2_image *dst, const blip2_image *src, int width, int height,
                                          blip2_error *err);

#ifdef __cplusplus
}
#endif
#endif
