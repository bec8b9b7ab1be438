/* Pictures from files and bytes: limits, the choice of a decoder, and what is left of them without
 * WITH_IMAGE. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "image/image.h"

blip2_status b2_image_alloc(blip2_image *img, int width, int height, blip2_error *e)
{
    *img = (blip2_image){0};
    if (width < 1 || height < 1) return b2_fail(e, BLIP2_ERR_FORMAT, "%d x %d pixels", width, height);
    if (width > B2_IMAGE_SIDE || height > B2_IMAGE_SIDE || (int64_t)width * height > B2_IMAGE_PIXELS)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%d x %d pixels, the limit is %d a side and %d in all", width,
                       height, B2_IMAGE_SIDE, B2_IMAGE_PIXELS);
    img->pixels = malloc((size_t)width * (size_t)height * 3);
    if (!img->pixels) return B2_NOMEM(e, "an image");
    img->width = width;
    img->height = height;
    img->stride = (ptrdiff_t)width * 3;
    return BLIP2_OK;
}

void blip2_image_free(blip2_image *img)
{
    if (!img) return;
    free(img->pixels);
    *img = (blip2_image){0};
}

#if B2_WITH_IMAGE
typedef blip2_status (*decoder)(blip2_image *img, const void *p, size_t n, blip2_error *e);

static decoder decoder_of(const uint8_t *p, size_t n)
{
    if (n >= 3 && memcmp(p, "\xFF\xD8\xFF", 3) == 0) return b2_jpeg_decode;
    if (n >= 8 && memcmp(p, "\x89PNG\r\n\x1A\n", 8) == 0) return b2_png_decode;
    if (n >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0) return b2_webp_decode;
    return NULL;
}

static blip2_status decode(blip2_image *img, const void *p, size_t n, blip2_error *e)
{
    if (n > B2_IMAGE_FILE)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%zu bytes, the limit is %zu", n, B2_IMAGE_FILE);
    decoder d = decoder_of(p, n);
    if (!d) return b2_fail(e, BLIP2_ERR_FORMAT, "%s", n ? "not a JPEG, PNG or WebP image" : "empty");
    blip2_status s = d(img, p, n, e);
    if (s != BLIP2_OK) blip2_image_free(img);
    return s;
}
#else
static blip2_status not_built(blip2_error *e, const char *what)
{
    return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "%s: the library was built with WITH_IMAGE=0", what);
}

static blip2_status decode(blip2_image *img, const void *p, size_t n, blip2_error *e)
{
    (void)img, (void)p, (void)n;
    return not_built(e, "decoding images");
}

blip2_status b2_jpeg_encode(unsigned char **out, size_t *n, const blip2_image *img, int quality,
                            blip2_error *e)
{
    (void)out, (void)n, (void)img, (void)quality;
    return not_built(e, "writing JPEG");
}

blip2_status b2_jpeg_write(const char *path, const blip2_image *img, int quality, blip2_error *e)
{
    (void)img, (void)quality;
    return not_built(e, path);
}
#endif

blip2_status blip2_image_decode(blip2_image *img, const void *bytes, size_t size, blip2_error *err)
{
    if (!img) return b2_fail(err, BLIP2_ERR_ARGUMENT, "image: nowhere to decode to");
    *img = (blip2_image){0};
    if (!bytes && size) return b2_fail(err, BLIP2_ERR_ARGUMENT, "image: no bytes");
    blip2_status s = decode(img, bytes, size, err);
    return b2_fail_context(err, s, "image");
}

blip2_status blip2_image_load(blip2_image *img, const char *path, blip2_error *err)
{
    if (!img || !path)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "image: no %s", img ? "path" : "place to load to");
    *img = (blip2_image){0};
    char *bytes;
    size_t n;
    B2_TRY(b2_read_file(path, B2_IMAGE_FILE, &bytes, &n,
                        err)); /* not mapped: a file that shrinks would kill us */
    blip2_status s = decode(img, bytes, n, err);
    free(bytes);
    return b2_fail_context(err, s, "%s", path);
}
