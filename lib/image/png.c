/* PNG through libpng's full interface; alpha is dropped, no gamma, 16-bit samples as Pillow takes them. */
#include "image/image.h"
#if B2_WITH_IMAGE
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <png.h>

typedef struct reader {
    png_structp png;
    png_infop info;
    const uint8_t *p;
    size_t n, at;
    blip2_status status;
    blip2_error *e;
    png_bytep *rows; /* interlaced pictures need all of them at once */
    uint8_t *wide;   /* 16-bit grey samples, a whole picture */
} reader;

static void fail_now(png_structp png, png_const_charp text)
{
    reader *r = png_get_error_ptr(png);
    r->status = b2_fail(r->e, BLIP2_ERR_FORMAT, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void warn(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void give(png_structp png, png_bytep out, size_t n)
{
    reader *r = png_get_io_ptr(png);
    if (n > r->n - r->at) png_error(png, "the data ends early");
    memcpy(out, r->p + r->at, n);
    r->at += n;
}

static void limits(reader *r)
{
    png_set_user_limits(r->png, PNG_UINT_31_MAX,
                        PNG_UINT_31_MAX); /* b2_image_alloc refuses with better words */
    png_set_chunk_cache_max(r->png, 64);
    png_set_chunk_malloc_max(r->png, 8 << 20);
    /* profiles, texts and times are not even looked at */
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
}

/* Grey of more than 8 bits: Pillow clips the values at 255; colour of more than 8 bits: it takes the high
 * byte. */
static bool convert(reader *r)
{
    int type = png_get_color_type(r->png, r->info), depth = png_get_bit_depth(r->png, r->info);
    if (type == PNG_COLOR_TYPE_GRAY && depth == 16) return true;
    if (depth == 16) png_set_strip_16(r->png);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(r->png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(r->png);
    if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(r->png);
    png_set_strip_alpha(r->png);
    return false;
}

static void clip_wide(blip2_image *img, const uint8_t *wide)
{
    for (int y = 0; y < img->height; y++) {
        uint8_t *out = img->pixels + y * img->stride;
        for (int x = 0; x < img->width; x++, wide += 2, out += 3) memset(out, wide[0] ? 255 : wide[1], 3);
    }
}

static blip2_status read_image(reader *r, blip2_image *img)
{
    limits(r);
    png_set_read_fn(r->png, r, give);
    png_read_info(r->png, r->info);
    B2_TRY(b2_image_alloc(img, (int)png_get_image_width(r->png, r->info),
                          (int)png_get_image_height(r->png, r->info), r->e));
    const bool wide = convert(r);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    const size_t row = wide ? (size_t)img->width * 2 : (size_t)img->width * 3;
    if (png_get_rowbytes(r->png, r->info) != row)
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "PNG: rows of %zu bytes, expected %zu",
                       png_get_rowbytes(r->png, r->info), row);
    r->rows = malloc((size_t)img->height * sizeof *r->rows);
    if (wide) r->wide = malloc(row * (size_t)img->height);
    if (!r->rows || (wide && !r->wide)) return B2_NOMEM(r->e, "a PNG image");
    for (int y = 0; y < img->height; y++)
        r->rows[y] = wide ? r->wide + (size_t)y * row : img->pixels + y * img->stride;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    if (wide) clip_wide(img, r->wide);
    return BLIP2_OK;
}

blip2_status b2_png_decode(blip2_image *img, const void *p, size_t n, blip2_error *e)
{
    reader *r = calloc(1, sizeof *r); /* on the heap, so that longjmp leaves it alone */
    if (!r) return B2_NOMEM(e, "a PNG decoder");
    r->p = p;
    r->n = n;
    r->e = e;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, fail_now, warn);
    if (r->png) r->info = png_create_info_struct(r->png);
    if (!r->info)
        r->status = B2_NOMEM(e, "a PNG decoder");
    else if (setjmp(png_jmpbuf(r->png)) == 0)
        r->status = read_image(r, img);
    blip2_status s = r->status;
    png_destroy_read_struct(&r->png, &r->info, NULL);
    free(r->rows);
    free(r->wide);
    free(r);
    if (s != BLIP2_OK) blip2_image_free(img);
    return s;
}
#endif
