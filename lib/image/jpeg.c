/* JPEG through libjpeg: accurate IDCT and smooth chroma, as Pillow. longjmp stays inside this file. */
#include "image/image.h"
#if B2_WITH_IMAGE
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <jpeglib.h>
#include <jerror.h>

#define MAX_SCANS  100          /* a small progressive file can hold thousands, each costs a pass */
#define MAX_MEMORY (512L << 20) /* libjpeg's own; 64 Mpixel of progressive coefficients need 384 MiB */

typedef struct reader {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    blip2_status status;
    blip2_error *e;
    uint8_t *cmyk; /* one row */
} reader;

static void fail_now(j_common_ptr c)
{
    reader *r = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    int code = c->err->msg_code;
    r->status = code == JERR_OUT_OF_MEMORY ? BLIP2_ERR_MEMORY
                : code == JERR_NO_BACKING_STORE || code == JERR_WIDTH_OVERFLOW || code == JERR_IMAGE_TOO_BIG
                    ? BLIP2_ERR_LIMIT
                : code == JERR_SOF_UNSUPPORTED || code == JERR_BAD_PRECISION || code == JERR_ARITH_NOTIMPL ||
                        code == JERR_CONVERSION_NOTIMPL
                    ? BLIP2_ERR_UNSUPPORTED
                    : BLIP2_ERR_FORMAT;
    b2_fail(r->e, r->status, "JPEG: %s", text);
    longjmp(r->out, 1);
}

/* Warnings tell of damaged pixels, which libjpeg would paint grey. Stray bytes between markers and odd
 * versions harm nothing. */
static void warn(j_common_ptr c, int level)
{
    int code = c->err->msg_code;
    if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
        code == JWRN_BOGUS_PROGRESSION)
        return;
    fail_now(c);
}

static void no_output(j_common_ptr c) { (void)c; }

static void count_scans(j_common_ptr c)
{
    reader *r = c->client_data;
    if (r->d.input_scan_number <= MAX_SCANS) return;
    r->status = b2_fail(r->e, BLIP2_ERR_LIMIT, "JPEG: more than %d scans", MAX_SCANS);
    longjmp(r->out, 1);
}

static void set_up(reader *r)
{
    r->d.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = fail_now;
    r->errors.emit_message = warn;
    r->errors.output_message = no_output;
    r->d.client_data = r;
    r->progress.progress_monitor = count_scans;
}

static uint8_t by_255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return (uint8_t)((t + (t >> 8)) >> 8);
}

/* Pillow takes every CMYK file for an Adobe one, whose inks are stored as 255 - ink; so what is read is what
 * is left of the light: out = k - ink * k / 255, rounded as Pillow does. */
static void cmyk_row(uint8_t *out, const uint8_t *in, int width)
{
    for (int x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)(in[3] - by_255(255u - in[c], in[3]));
}

static void read_rows(reader *r, blip2_image *img)
{
    bool cmyk = r->d.out_color_space == JCS_CMYK;
    while (r->d.output_scanline < r->d.output_height) {
        uint8_t *out = img->pixels + (ptrdiff_t)r->d.output_scanline * img->stride;
        JSAMPROW row = cmyk ? r->cmyk : out;
        if (jpeg_read_scanlines(&r->d, &row, 1) == 1 && cmyk) cmyk_row(out, r->cmyk, img->width);
    }
}

static blip2_status read_image(reader *r, blip2_image *img, const void *p, size_t n)
{
    jpeg_mem_src(&r->d, p, (unsigned long)n);
    jpeg_read_header(&r->d, TRUE);
    B2_TRY(b2_image_alloc(img, (int)r->d.image_width, (int)r->d.image_height, r->e));
    int parts = r->d.num_components;
    if (parts != 1 && parts != 3 && parts != 4)
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED, "JPEG: %d components, expected 1, 3 or 4", parts);
    r->d.out_color_space = parts == 4 ? JCS_CMYK : JCS_RGB;
    r->d.mem->max_memory_to_use = MAX_MEMORY;
    r->d.progress = &r->progress;
    if (parts == 4 && !(r->cmyk = malloc((size_t)img->width * 4))) return B2_NOMEM(r->e, "a JPEG row");
    jpeg_start_decompress(&r->d);
    read_rows(r, img);
    jpeg_finish_decompress(&r->d);
    return BLIP2_OK;
}

blip2_status b2_jpeg_decode(blip2_image *img, const void *p, size_t n, blip2_error *e)
{
    reader *r = calloc(1, sizeof *r); /* on the heap, so that longjmp leaves it alone */
    if (!r) return B2_NOMEM(e, "a JPEG decoder");
    r->e = e;
    set_up(r);
    if (setjmp(r->out) == 0) {
        jpeg_create_decompress(&r->d);
        r->status = read_image(r, img, p, n);
    }
    blip2_status s = r->status;
    jpeg_destroy_decompress(&r->d);
    free(r->cmyk);
    free(r);
    if (s != BLIP2_OK) blip2_image_free(img);
    return s;
}
#endif
