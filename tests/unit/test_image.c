/* Decoders against Pillow (data/images), damaged and hostile pictures, JPEG writing, and preprocessing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "image/image.h"
#include "unit/unit.h"

#define DATA B2_SRCDIR "/tests/unit/data/images"

/* The picture of the resize test's golden values. */
static void pattern(blip2_image *img, int w, int h)
{
    assert_int_equal(b2_image_alloc(img, w, h, NULL), BLIP2_OK);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                img->pixels[y * img->stride + 3 * x + c] =
                    (uint8_t)(37 * x + 91 * y + 53 * c + 11 * ((x * y) % 7));
}

#if B2_WITH_IMAGE
static uint8_t *read_data(const char *name, size_t *n)
{
    char *p;
    assert_int_equal(b2_read_file(unit_path(DATA, name), 1 << 20, &p, n, NULL), BLIP2_OK);
    return (uint8_t *)p;
}

static void every_kind_is_as_pillow_makes_it(void **state)
{
    (void)state;
    b2_json *all;
    assert_int_equal(b2_json_load(&all, DATA "/images.json", 1 << 20, 10000, NULL), BLIP2_OK);
    int n = 0;
    for (const b2_json *v = b2_json_first(all); v; v = b2_json_next(v), n++) {
        const char *name = b2_json_string(b2_json_get(v, "file"));
        blip2_image img;
        blip2_error e = BLIP2_ERROR_INIT;
        if (blip2_image_load(&img, unit_path(DATA, name), &e) != BLIP2_OK) fail_msg("%s", e.text);
        assert_int_equal(img.width, (int)b2_json_number(b2_json_get(v, "width"), 0));
        assert_int_equal(img.height, (int)b2_json_number(b2_json_get(v, "height"), 0));
        uint32_t crc = 0, want = (uint32_t)b2_json_number(b2_json_get(v, "crc"), 0);
        for (int y = 0; y < img.height; y++)
            crc = b2_crc32(crc, img.pixels + y * img.stride, (size_t)img.width * 3);
        if (crc != want) fail_msg("%s: crc %08x, wanted %08x", name, crc, want);
        blip2_image_free(&img);
        assert_null(img.pixels);
    }
    assert_true(n >= 38);
    b2_json_free(all);
}

/* An error that says what; nothing is left in the image. */
static void refused(const char *name, const void *p, size_t n, blip2_status code, const char *word)
{
    blip2_image img = {1, 1, 3, (uint8_t *)&img};
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = blip2_image_decode(&img, p, n, &e);
    if (s != code || !strstr(e.text, word))
        fail_msg("%s (%zu bytes): status %d, \"%s\" (wanted %d, \"%s\")", name, n, s, e.text, code, word);
    assert_null(img.pixels);
    assert_int_equal(img.width, 0);
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    const char *names[] = {"rgb.png",  "laced.png",  "grey16.png",    "q75.jpg",         "progressive.jpg",
                           "cmyk.jpg", "lossy.webp", "lossless.webp", "lossy-alpha.webp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n;
        uint8_t *p = read_data(names[i], &n);
        for (size_t cut = 0; cut < n; cut += cut + 64 < n && cut > 64 ? 7 : 1) {
            uint8_t *copy =
                malloc(cut ? cut : 1); /* of its own, so that the sanitizer sees a read behind it */
            memcpy(copy, p, cut);
            refused(names[i], copy, cut, BLIP2_ERR_FORMAT, "image: ");
            free(copy);
        }
        free(p);
    }
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    refused("empty", NULL, 0, BLIP2_ERR_FORMAT, "empty");
    refused("text", "GIF89a is not read", 18, BLIP2_ERR_FORMAT, "not a JPEG, PNG or WebP");
    refused("riff", "RIFF\0\0\0\0WAVE", 12, BLIP2_ERR_FORMAT, "not a JPEG, PNG or WebP");
    refused("jpeg", "\xFF\xD8\xFF\xD9", 4, BLIP2_ERR_FORMAT, "JPEG");
    refused("no bytes", NULL, 1, BLIP2_ERR_ARGUMENT, "no bytes");
    blip2_image img;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(blip2_image_load(&img, DATA "/animated.webp", &e), BLIP2_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "animated.webp: WebP: animated"));
    assert_int_equal(blip2_image_load(&img, DATA "/absent.png", &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "absent.png"));
    assert_int_equal(blip2_image_load(NULL, "x", NULL), BLIP2_ERR_ARGUMENT);
    blip2_image_free(NULL);
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void png_of_size(uint8_t *p, uint32_t w, uint32_t h)
{
    put_u32(p + 16, w);
    put_u32(p + 20, h);
    put_u32(p + 29, b2_crc32(0, p + 12, 17));
}

static void bombs_are_refused(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = read_data("rgb.png", &n);
    png_of_size(p, 20000, 20000);
    refused("png", p, n, BLIP2_ERR_LIMIT, "20000 x 20000");
    png_of_size(p, 16385, 1);
    refused("png", p, n, BLIP2_ERR_LIMIT, "16385 x 1");
    png_of_size(p, 0x7FFFFFFF, 0x7FFFFFFF);
    refused("png", p, n, BLIP2_ERR_LIMIT, "2147483647 x 2147483647");
    png_of_size(p, 16384, 16384);
    refused("png", p, n, BLIP2_ERR_LIMIT, "16384 x 16384");
    png_of_size(p, 0, 5);
    refused("png", p, n, BLIP2_ERR_FORMAT, "PNG");
    free(p);
    p = read_data("q75.jpg", &n);
    uint8_t *sof = memmem(p, n, "\xFF\xC0\x00\x11", 4);
    memset(sof + 5, 0xFF, 4);
    refused("jpeg", p, n, BLIP2_ERR_LIMIT, "JPEG: "); /* libjpeg itself stops at 65500 */
    memcpy(sof + 5, "\x40\x00\x40\x00", 4);
    refused("jpeg", p, n, BLIP2_ERR_LIMIT, "16384 x 16384");
    free(p);
    p = read_data("lossless-alpha.webp", &n);
    p[21] = p[22] = p[23] = 0xFF; /* VP8L: 14 bits a side */
    p[24] |= 0x0F;
    refused("webp", p, n, BLIP2_ERR_LIMIT, "16384 x 16384");
    free(p);
}

/* A progressive file whose first scan comes 120 times over. */
static void endless_scans_are_refused(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = read_data("progressive.jpg", &n), *scan = memmem(p, n, "\xFF\xDA", 2);
    uint8_t *end = scan + 2;
    while (!(end[0] == 0xFF && end[1] != 0 && (end[1] & 0xF8) != 0xD0)) end++;
    b2_str s = {0};
    b2_str_addn(&s, (char *)p, (size_t)(scan - p));
    for (int i = 0; i < 120; i++) b2_str_addn(&s, (char *)scan, (size_t)(end - scan));
    b2_str_addn(&s, (char *)end, n - (size_t)(end - p));
    refused("scans", s.p, s.n, BLIP2_ERR_LIMIT, "more than 100 scans");
    b2_str_free(&s);
    free(p);
}

static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    const char *names[] = {"rgb.png",         "palette.png", "laced.png",        "q75.jpg",
                           "progressive.jpg", "ycck.jpg",    "lossy-alpha.webp", "lossless.webp"};
    uint32_t seed = 1;
    int taken = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n;
        uint8_t *p = read_data(names[i], &n);
        for (int turn = 0; turn < 300; turn++) {
            seed = seed * 1664525u + 1013904223u;
            const size_t at = (seed >> 8) % n;
            const uint8_t was = p[at];
            p[at] ^= (uint8_t)(1u << (seed & 7));
            blip2_image img;
            if (blip2_image_decode(&img, p, n, NULL) == BLIP2_OK) taken++;
            blip2_image_free(&img);
            p[at] = was;
        }
        free(p);
    }
    assert_true(taken > 100 && taken < 2300);
}

static void jpegs_are_written(void **state)
{
    (void)state;
    char *dir = unit_folder();
    const char *path = unit_path(dir, "x.jpg");
    blip2_image img, back;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_image_alloc(&img, 50, 33, NULL), BLIP2_OK);
    for (int y = 0; y < 33; y++)
        for (int x = 0; x < 50; x++) {
            uint8_t *px = img.pixels + y * img.stride + 3 * x;
            px[0] = (uint8_t)(5 * x), px[1] = (uint8_t)(7 * y), px[2] = (uint8_t)(100 + x - y);
        }
    assert_int_equal(b2_jpeg_write(path, &img, 95, NULL), BLIP2_OK);
    assert_int_equal(blip2_image_load(&back, path, NULL), BLIP2_OK);
    assert_true(back.width == 50 && back.height == 33);
    int worst = 0;
    for (int i = 0; i < 50 * 33 * 3; i++)
        worst = abs(img.pixels[i] - back.pixels[i]) > worst ? abs(img.pixels[i] - back.pixels[i]) : worst;
    assert_in_range(worst, 1, 20);
    assert_int_equal(b2_jpeg_write(path, &img, 101, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_jpeg_write(unit_path(dir, "absent/x.jpg"), &img, 90, &e), BLIP2_ERR_IO);
    img.width = 51;
    assert_int_equal(b2_jpeg_write(path, &img, 90, &e), BLIP2_ERR_ARGUMENT);
    blip2_image_free(&img);
    blip2_image_free(&back);
    unit_remove(dir);
}
#else
static void nothing_is_decoded(void **state)
{
    (void)state;
    blip2_image img;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(blip2_image_load(&img, DATA "/rgb.png", &e), BLIP2_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "WITH_IMAGE=0"));
    pattern(&img, 3, 3);
    assert_int_equal(b2_jpeg_write("/dev/null", &img, 90, &e), BLIP2_ERR_UNSUPPORTED);
    blip2_image_free(&img);
}
#endif

/* ---- preprocessing ------------------------------------------------------------------------------------- */

/* Crc of the floats that transformers' BlipImageProcessor makes (data/make_images.py prints them). */
static void pixels_are_those_of_transformers(void **state)
{
    (void)state;
    const struct {
        int w, h;
        uint32_t crc;
    } cases[] = {{640, 480, 0x5e2c6059}, {224, 224, 0xc9154c36}, {60, 80, 0x462d13a9}};
    b2_preprocess p;
    b2_preprocess_default(&p, 224);
    float *out = malloc(3 * 224 * 224 * sizeof *out);
    for (int i = 0; i < 3; i++) {
        blip2_image img;
        pattern(&img, cases[i].w, cases[i].h);
        assert_int_equal(b2_preprocess_run(&p, &img, out, NULL), BLIP2_OK);
        assert_int_equal(b2_crc32(0, out, 3 * 224 * 224 * sizeof *out), cases[i].crc);
        blip2_image_free(&img);
    }
    free(out);
}

static void the_table_is_exact(void **state)
{
    (void)state;
    const float want[3][3] = {{-1.79226255f, 0.06173760f, 1.93033612f},
                              {-1.75209713f, 0.15388943f, 2.07488370f},
                              {-1.48021984f, 0.32572860f, 2.14589691f}};
    const uint8_t values[] = {0, 127, 255};
    uint8_t px[2 * 8] = {0};
    float out[3 * 4];
    b2_preprocess p;
    b2_preprocess_default(&p, 2);
    for (int v = 0; v < 3; v++) { /* rows with a gap behind them */
        memset(px, values[v], sizeof px);
        blip2_image img = {2, 2, 8, px};
        px[6] = px[7] = 99;
        assert_int_equal(b2_preprocess_run(&p, &img, out, NULL), BLIP2_OK);
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 4; i++)
                assert_true(fabsf(out[4 * c + i] - want[c][v]) < 5.1e-9f); /* 8 decimals */
    }
    p.normalize = false;
    blip2_image img = {2, 2, 8, px};
    assert_int_equal(b2_preprocess_run(&p, &img, out, NULL), BLIP2_OK);
    assert_true(out[0] == 1.0f);
    p.rescale = false;
    assert_int_equal(b2_preprocess_run(&p, &img, out, NULL), BLIP2_OK);
    assert_true(out[0] == 255.0f);
    p.resize = false;
    blip2_error e = BLIP2_ERROR_INIT;
    img.height = 1;
    assert_int_equal(b2_preprocess_run(&p, &img, out, &e), BLIP2_ERR_ARGUMENT);
    assert_non_null(strstr(e.text, "2 x 1"));
    img.stride = 5;
    assert_int_equal(b2_preprocess_run(&p, &img, out, NULL), BLIP2_ERR_ARGUMENT);
}

static void configurations_come_back(void **state)
{
    (void)state;
    char *dir = unit_folder();
    b2_preprocess p, q, r;
    assert_int_equal(b2_preprocess_load(&p, dir, 224, NULL), BLIP2_OK); /* no file */
    b2_preprocess_default(&q, 224);
    assert_int_equal(b2_preprocess_hash(&p), b2_preprocess_hash(&q));
    p.mean[1] = 0.1 + 0.2;
    p.std[2] = 1.0 / 3;
    p.rescale_factor = 1 / 127.5;
    p.size = 28;
    assert_int_equal(b2_preprocess_save(&p, dir, NULL), BLIP2_OK);
    assert_int_equal(b2_preprocess_load(&r, dir, 28, NULL), BLIP2_OK);
    assert_true(r.mean[1] == p.mean[1] && r.std[2] == p.std[2] && r.rescale_factor == p.rescale_factor);
    assert_int_equal(b2_preprocess_hash(&p), b2_preprocess_hash(&r));
    assert_int_equal(b2_preprocess_load(&r, dir, 0, NULL), BLIP2_OK); /* the file's own size */
    assert_int_equal(r.size, 28);
    const uint64_t h = b2_preprocess_hash(&r);
    r.mean[0] += 1e-9;
    assert_int_not_equal(b2_preprocess_hash(&r), h);
    r = p;
    r.normalize = false;
    assert_int_not_equal(b2_preprocess_hash(&r), h);
    r = p;
    r.size = 29;
    assert_int_not_equal(b2_preprocess_hash(&r), h);
    unit_remove(dir);
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    char *dir = unit_folder();
    const char *path = unit_path(dir, "preprocessor_config.json");
    const struct {
        const char *text, *word;
    } cases[] = {
        {"[]", "not an object"},
        {"{\"do_resize\":1}", "do_resize"},
        {"{\"do_center_crop\":true}", "do_center_crop"},
        {"{\"do_pad\":true}", "do_pad"},
        {"{\"resample\":2}", "resample"},
        {"{\"size\":{\"height\":224,\"width\":223}}", "223 x 224"},
        {"{\"size\":{\"shortest_edge\":224}}", "size"},
        {"{\"size\":384}", "the model takes 224"},
        {"{\"image_mean\":[1,2]}", "image_mean has 2"},
        {"{\"image_mean\":[1,2,\"x\"]}", "image_mean"},
        {"{\"image_std\":[1,2,0]}", "image_std 0"},
        {"{\"image_std\":-1}", "image_std -1"},
        {"{\"image_std\":1e-300}", "image_std"},
        {"{\"rescale_factor\":true}", "rescale_factor"},
        {"{\"rescale_factor\":0}", "rescale_factor"},
    };
    b2_preprocess p;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        blip2_error e = BLIP2_ERROR_INIT;
        unit_write(path, cases[i].text, strlen(cases[i].text));
        blip2_status s = b2_preprocess_load(&p, dir, 224, &e);
        if (s != BLIP2_ERR_CONFIG || !strstr(e.text, cases[i].word) || !strstr(e.text, path))
            fail_msg("%s: status %d, \"%s\"", cases[i].text, s, e.text);
    }
    const char *good = "{\"size\":224,\"image_mean\":0.5,\"image_std\":[0.5,0.5,0.5],\"do_normalize\":null,"
                       "\"resample\":3,\"other\":{}}";
    unit_write(path, good, strlen(good));
    assert_int_equal(b2_preprocess_load(&p, dir, 224, NULL), BLIP2_OK);
    assert_true(p.mean[0] == 0.5 && p.mean[2] == 0.5 && p.std[1] == 0.5 && p.normalize);
    unit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if B2_WITH_IMAGE
        cmocka_unit_test(every_kind_is_as_pillow_makes_it),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(endless_scans_are_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(jpegs_are_written),
#else
        cmocka_unit_test(nothing_is_decoded),
#endif
        cmocka_unit_test(pixels_are_those_of_transformers),
        cmocka_unit_test(the_table_is_exact),
        cmocka_unit_test(configurations_come_back),
        cmocka_unit_test(bad_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
