/* JPEG files from RGB pixels, baseline 4:2:0, through libjpeg. */
#include "image/image.h"
#if B2_WITH_IMAGE
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <jpeglib.h>
#include "base/file.h"

typedef struct writer {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    unsigned char *bytes;
    unsigned long n;
} writer;

static void fail_now(j_common_ptr c)
{
    writer *w = c->client_data;
    c->err->format_message(c, w->text);
    longjmp(w->out, 1);
}

static void compress(writer *w, const blip2_image *img, int quality)
{
    jpeg_create_compress(&w->c);
    jpeg_mem_dest(&w->c, &w->bytes, &w->n);
    w->c.image_width = (JDIMENSION)img->width;
    w->c.image_height = (JDIMENSION)img->height;
    w->c.input_components = 3;
    w->c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->c);
    jpeg_set_quality(&w->c, quality, TRUE);
    jpeg_start_compress(&w->c, TRUE);
    while (w->c.next_scanline < w->c.image_height) {
        JSAMPROW row = img->pixels + (ptrdiff_t)w->c.next_scanline * img->stride;
        jpeg_write_scanlines(&w->c, &row, 1);
    }
    jpeg_finish_compress(&w->c);
}

blip2_status b2_jpeg_encode(unsigned char **out, size_t *n, const blip2_image *img, int quality,
                            blip2_error *e)
{
    B2_TRY(b2_image_check(img, e));
    if (quality < 1 || quality > 100)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "JPEG quality %d, expected 1 to 100", quality);
    writer *w = calloc(1, sizeof *w);
    if (!w) return B2_NOMEM(e, "a JPEG file");
    w->c.err = jpeg_std_error(&w->errors);
    w->errors.error_exit = fail_now;
    w->c.client_data = w;
    blip2_status s = BLIP2_OK;
    if (setjmp(w->out) == 0) {
        compress(w, img, quality);
        *out = w->bytes;
        *n = w->n;
    } else {
        free(w->bytes);
        s = b2_fail(e, BLIP2_ERR_MEMORY, "writing a JPEG file: %s", w->text);
    }
    jpeg_destroy_compress(&w->c);
    free(w);
    return s;
}

blip2_status b2_jpeg_write(const char *path, const blip2_image *img, int quality, blip2_error *e)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    blip2_status s = b2_jpeg_encode(&bytes, &n, img, quality, e);
    if (s != BLIP2_OK) return b2_fail_context(e, s, "%s", path);
    s = b2_write_file(path, bytes, n, e);
    free(bytes);
    return s;
}
#endif
