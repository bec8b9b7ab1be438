/* The model's input from a picture: preprocessor_config.json, resize, rescale and normalise through a table.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "image/image.h"

#define CONFIG  "preprocessor_config.json"
#define BICUBIC 3 /* Pillow's number */

void b2_preprocess_default(b2_preprocess *p, int size)
{
    *p = (b2_preprocess){.size = size,
                         .resize = true,
                         .rescale = true,
                         .normalize = true,
                         .rescale_factor = 1.0 / 255.0,
                         .mean = {0.48145466, 0.4578275, 0.40821073},
                         .std = {0.26862954, 0.26130258, 0.27577711}};
}

static blip2_status read_flag(bool *out, const b2_json *v, const char *key, const char *path, blip2_error *e)
{
    const b2_json *f = b2_json_get(v, key);
    if (b2_json_is_null(f)) return BLIP2_OK;
    if (!b2_json_is_bool(f)) return b2_fail(e, BLIP2_ERR_CONFIG, "%s: %s must be true or false", path, key);
    *out = b2_json_bool(f, *out);
    return BLIP2_OK;
}

/* Three numbers, or one for all channels. */
static blip2_status read_channels(double out[3], const b2_json *v, const char *key, const char *path,
                                  blip2_error *e)
{
    const b2_json *f = b2_json_get(v, key), *x = b2_json_is_array(f) ? b2_json_first(f) : f;
    if (b2_json_is_null(f)) return BLIP2_OK;
    if (b2_json_is_array(f) && b2_json_size(f) != 3)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: %s has %zu numbers, expected 3", path, key, b2_json_size(f));
    for (int c = 0; c < 3; c++) {
        if (!b2_json_is_number(x)) return b2_fail(e, BLIP2_ERR_CONFIG, "%s: %s must be numbers", path, key);
        out[c] = b2_json_number(x, 0);
        if (b2_json_is_array(f)) x = b2_json_next(x);
    }
    return BLIP2_OK;
}

/* {"height":224,"width":224}, or the number alone. */
static blip2_status read_size(b2_preprocess *p, const b2_json *v, const char *path, blip2_error *e)
{
    const b2_json *f = b2_json_get(v, "size"), *h = f, *w = f;
    int64_t height, width;
    if (b2_json_is_null(f)) return BLIP2_OK;
    if (b2_json_is_object(f)) h = b2_json_get(f, "height"), w = b2_json_get(f, "width");
    if (!b2_json_int(h, 1, B2_IMAGE_SIDE, &height) || !b2_json_int(w, 1, B2_IMAGE_SIDE, &width))
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: size must have a height and a width", path);
    if (p->size <= 0) p->size = (int)height;
    if (height != width || height != p->size)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: size is %d x %d, the model takes %d x %d", path, (int)width,
                       (int)height, p->size, p->size);
    return BLIP2_OK;
}

static blip2_status check(const b2_preprocess *p, const char *path, blip2_error *e)
{
    for (int c = 0; c < 3; c++)
        if (!isfinite((float)p->mean[c]) || !isfinite((float)p->std[c]) || !((float)p->std[c] > 0))
            return b2_fail(e, BLIP2_ERR_CONFIG, "%s: image_mean %g, image_std %g in channel %d", path,
                           p->mean[c], p->std[c], c);
    if (!isfinite(255 * p->rescale_factor) || p->rescale_factor == 0)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: rescale_factor %g", path, p->rescale_factor);
    if (p->size < 1 || p->size > B2_IMAGE_SIDE)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: no image size", path);
    return BLIP2_OK;
}

static blip2_status read_config(b2_preprocess *p, const b2_json *v, const char *path, blip2_error *e)
{
    bool rgb = true, crop = false, pad = false;
    int64_t resample = BICUBIC;
    if (!b2_json_is_object(v)) return b2_fail(e, BLIP2_ERR_CONFIG, "%s: not an object", path);
    B2_TRY(read_flag(&p->resize, v, "do_resize", path, e));
    B2_TRY(read_flag(&p->rescale, v, "do_rescale", path, e));
    B2_TRY(read_flag(&p->normalize, v, "do_normalize", path, e));
    B2_TRY(read_flag(&rgb, v, "do_convert_rgb", path, e));
    B2_TRY(read_flag(&crop, v, "do_center_crop", path, e));
    B2_TRY(read_flag(&pad, v, "do_pad", path, e));
    if (crop || pad)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: do_%s is not supported", path, crop ? "center_crop" : "pad");
    const b2_json *r = b2_json_get(v, "resample");
    if (!b2_json_is_null(r) && (!b2_json_int(r, 0, 5, &resample) || resample != BICUBIC))
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: resample must be %d (bicubic)", path, BICUBIC);
    B2_TRY(read_size(p, v, path, e));
    B2_TRY(read_channels(p->mean, v, "image_mean", path, e));
    B2_TRY(read_channels(p->std, v, "image_std", path, e));
    const b2_json *f = b2_json_get(v, "rescale_factor");
    if (!b2_json_is_null(f) && !b2_json_is_number(f))
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: rescale_factor must be a number", path);
    p->rescale_factor = b2_json_number(f, p->rescale_factor);
    return check(p, path, e);
}

blip2_status b2_preprocess_load(b2_preprocess *p, const char *dir, int size, blip2_error *e)
{
    b2_preprocess_default(p, size);
    char *path = b2_path_join(dir, CONFIG);
    if (!path) return B2_NOMEM(e, CONFIG);
    b2_json *v = NULL;
    blip2_status s = BLIP2_OK;
    if (b2_file_exists(path)) {
        s = b2_json_load(&v, path, 1 << 20, 10000, e);
        if (s == BLIP2_OK) s = read_config(p, v, path, e);
    } else {
        s = check(p, path, e);
    }
    b2_json_free(v);
    free(path);
    return s;
}

/* The shortest decimal that reads back as x. */
static void add_number(b2_str *s, double x)
{
    void *locale = b2_c_locale_enter();
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    b2_c_locale_leave(locale);
    b2_str_add(s, text);
}

static void add_channels(b2_str *s, const char *key, const double x[3])
{
    b2_str_addf(s, "  \"%s\": [", key);
    for (int c = 0; c < 3; c++) {
        if (c) b2_str_add(s, ", ");
        add_number(s, x[c]);
    }
    b2_str_add(s, "],\n");
}

blip2_status b2_preprocess_save(const b2_preprocess *p, const char *dir, blip2_error *e)
{
    b2_str s = {0};
    const char *words[] = {"false", "true"};
    b2_str_addf(&s, "{\n  \"do_convert_rgb\": true,\n  \"do_normalize\": %s,\n", words[p->normalize]);
    b2_str_addf(&s, "  \"do_rescale\": %s,\n  \"do_resize\": %s,\n", words[p->rescale], words[p->resize]);
    add_channels(&s, "image_mean", p->mean);
    b2_str_add(&s, "  \"image_processor_type\": \"BlipImageProcessor\",\n");
    add_channels(&s, "image_std", p->std);
    b2_str_addf(&s, "  \"processor_class\": \"Blip2Processor\",\n  \"resample\": %d,\n  \"rescale_factor\": ",
                BICUBIC);
    add_number(&s, p->rescale_factor);
    b2_str_addf(&s, ",\n  \"size\": {\n    \"height\": %d,\n    \"width\": %d\n  }\n}\n", p->size, p->size);
    char *path = b2_path_join(dir, CONFIG);
    blip2_status st = s.failed || !path ? B2_NOMEM(e, CONFIG) : b2_write_file(path, s.p, s.n, e);
    free(path);
    b2_str_free(&s);
    return st;
}

uint64_t b2_preprocess_hash(const b2_preprocess *p)
{
    const int32_t whole[] = {1, p->size, p->resize, p->rescale, p->normalize}; /* 1: Pillow's bicubic */
    uint64_t h = b2_hash64(0, whole, sizeof whole);
    if (p->rescale) h = b2_hash64(h, &p->rescale_factor, sizeof p->rescale_factor);
    if (p->normalize) h = b2_hash64(h, p->mean, sizeof p->mean);
    if (p->normalize) h = b2_hash64(h, p->std, sizeof p->std);
    return h;
}

/* Bytes are few: what becomes of each value in each channel. Every step is rounded to float as numpy does. */
static void make_table(const b2_preprocess *p, float table[3][256])
{
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            float x = p->rescale ? (float)(v * p->rescale_factor) : (float)v;
            if (p->normalize) {
                x -= (float)p->mean[c];
                x /= (float)p->std[c];
            }
            table[c][v] = x;
        }
}

static void to_planes(const b2_preprocess *p, const blip2_image *img, float *out)
{
    float table[3][256];
    make_table(p, table);
    const size_t plane = (size_t)p->size * (size_t)p->size;
    for (int y = 0; y < p->size; y++) {
        const uint8_t *in = img->pixels + y * img->stride;
        float *r = out + (size_t)y * (size_t)p->size, *g = r + plane, *b = g + plane;
        for (int x = 0; x < p->size; x++, in += 3) {
            r[x] = table[0][in[0]];
            g[x] = table[1][in[1]];
            b[x] = table[2][in[2]];
        }
    }
}

blip2_status b2_preprocess_run(const b2_preprocess *p, const blip2_image *img, float *out, blip2_error *e)
{
    B2_TRY(b2_image_check(img, e));
    if (img->width == p->size && img->height == p->size) {
        to_planes(p, img, out);
        return BLIP2_OK;
    }
    if (!p->resize)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "image: %d x %d, expected %d x %d (do_resize is false)",
                       img->width, img->height, p->size, p->size);
    blip2_image small;
    B2_TRY(blip2_image_resize(&small, img, p->size, p->size, e));
    to_planes(p, &small, out);
    blip2_image_free(&small);
    return BLIP2_OK;
}
