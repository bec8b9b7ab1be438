/* Resizing against Pillow's bytes (Pillow 9.4 and 11.3), and against the plain definition of the filter. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "image/image.h"
#include "unit/unit.h"

static void pattern(blip2_image *img, int w, int h)
{
    assert_int_equal(b2_image_alloc(img, w, h, NULL), BLIP2_OK);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                img->pixels[y * img->stride + 3 * x + c] =
                    (uint8_t)(37 * x + 91 * y + 53 * c + 11 * ((x * y) % 7));
}

static void resized(blip2_image *out, const blip2_image *in, int w, int h)
{
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_image_resize(out, in, w, h, &e) != BLIP2_OK) fail_msg("%s", e.text);
    assert_true(out->width == w && out->height == h && out->stride == 3 * w);
}

static void small_pictures(void **state)
{
    (void)state;
    static const uint8_t down[] = {52,  106, 163, 115, 157, 145, 139, 124, 178, 117, 183, 138,
                                   152, 148, 112, 136, 131, 115, 127, 126, 129, 128, 118, 180,
                                   94,  147, 152, 163, 222, 50,  88,  107, 74,  139, 72,  132};
    static const uint8_t up[] = {0,  42,  95,  3,   56,  108, 28,  81,  134, 53,  106, 174, 67,  120, 197,
                                 18, 69,  122, 31,  84,  139, 58,  111, 164, 86,  139, 157, 101, 154, 149,
                                 69, 121, 174, 86,  139, 201, 118, 171, 224, 149, 202, 124, 167, 220, 55,
                                 95, 148, 201, 114, 167, 232, 148, 201, 254, 182, 235, 107, 201, 254, 7};
    blip2_image in, out;
    pattern(&in, 6, 5);
    resized(&out, &in, 4, 3);
    assert_memory_equal(out.pixels, down, sizeof down);
    blip2_image_free(&in);
    blip2_image_free(&out);
    pattern(&in, 3, 2);
    resized(&out, &in, 5, 4);
    assert_memory_equal(out.pixels, up, sizeof up);
    blip2_image_free(&in);
    blip2_image_free(&out);
}

static void large_pictures(void **state)
{
    (void)state;
    const struct {
        int w, h, w2, h2;
        uint32_t crc;
    } cases[] = {{640, 480, 0, 0, 0x3496d8ee},
                 {1800, 2400, 0, 0, 0x0239c8d7},
                 {97, 301, 0, 0, 0x2d3c02fd},
                 {2400, 1600, 1800, 2400, 0xc8e07e27}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        blip2_image in, out;
        pattern(&in, cases[i].w, cases[i].h);
        if (cases[i].w2) {
            resized(&out, &in, cases[i].w2, cases[i].h2);
            blip2_image_free(&in);
            in = out;
        }
        resized(&out, &in, 224, 224);
        uint32_t crc = b2_crc32(0, out.pixels, 224 * 224 * 3);
        if (crc != cases[i].crc)
            fail_msg("%d x %d: crc %08x, wanted %08x", cases[i].w, cases[i].h, crc, cases[i].crc);
        blip2_image_free(&in);
        blip2_image_free(&out);
    }
}

/* ---- the definition, pixel by pixel -------------------------------------------------------------------- */

static double cubic(double x)
{
    x = fabs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

/* Byte o of a line of n bytes that lie `step` apart. */
static uint8_t plain(const uint8_t *p, int step, int n, int out, int o)
{
    if (n == out) return p[o * step];
    double scale = (double)n / out, fs = scale > 1 ? scale : 1, c = (o + 0.5) * scale, sum = 0;
    int lo = (int)(c - 2 * fs + 0.5), hi = (int)(c + 2 * fs + 0.5);
    if (lo < 0) lo = 0;
    if (hi > n) hi = n;
    for (int i = lo; i < hi; i++) sum += cubic((i - c + 0.5) * (1 / fs));
    int64_t acc = 1 << 21;
    for (int i = lo; i < hi; i++) {
        double w = cubic((i - c + 0.5) * (1 / fs)) / sum * (1 << 22);
        acc += p[i * step] * (int64_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    acc >>= 22;
    return (uint8_t)(acc < 0 ? 0 : acc > 255 ? 255 : acc);
}

static void expect_plain(const blip2_image *in, int w, int h)
{
    blip2_image out;
    resized(&out, in, w, h);
    uint8_t *middle = malloc((size_t)w * (size_t)in->height);
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < in->height; y++)
            for (int x = 0; x < w; x++)
                middle[y * w + x] = plain(in->pixels + y * in->stride + c, 3, in->width, w, x);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                int want = plain(middle + x, w, in->height, h, y),
                    got = out.pixels[y * out.stride + 3 * x + c];
                if (got != want)
                    fail_msg("%d x %d to %d x %d: (%d,%d,%d) is %d, not %d", in->width, in->height, w, h, x,
                             y, c, got, want);
            }
    }
    free(middle);
    blip2_image_free(&out);
}

static void all_shapes(void **state)
{
    (void)state;
    const struct {
        int w, h, ow, oh;
    } shapes[] = {{1, 1, 9, 7},      {1, 40, 3, 1},    {40, 1, 1, 5},      {17, 13, 17, 6},
                  {17, 13, 6, 13},   {17, 13, 17, 13}, {28, 28, 56, 56},   {5000, 3, 24, 24},
                  {3, 5000, 24, 24}, {31, 33, 32, 32}, {225, 35, 224, 36}, {16384, 2, 1, 1},
                  {2, 2, 300, 2},    {50, 17, 7, 90}};
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int w = shapes[i].w, h = shapes[i].h, stride = 3 * w + 5;
        uint8_t *p = malloc((size_t)stride * (size_t)h);
        for (int j = 0; j < stride * h;
             j++) { /* noise, and noise of black and white, which overshoots most */
            seed = seed * 1664525u + 1013904223u;
            p[j] = i % 2 ? (uint8_t)(seed >> 24) : seed >> 31 ? 255 : 0;
        }
        const blip2_image in = {w, h, stride, p};
        expect_plain(&in, shapes[i].ow, shapes[i].oh);
        free(p);
    }
}

static void bad_arguments(void **state)
{
    (void)state;
    blip2_image in, out;
    uint8_t px[12] = {0};
    pattern(&in, 4, 4);
    assert_int_equal(blip2_image_resize(NULL, &in, 2, 2, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_image_resize(&out, NULL, 2, 2, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_image_resize(&out, &in, 0, 2, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_image_resize(&out, &in, 16385, 2, NULL), BLIP2_ERR_LIMIT);
    assert_int_equal(blip2_image_resize(&out, &in, 16384, 16384, NULL), BLIP2_ERR_LIMIT);
    assert_int_equal(blip2_image_resize(&out, &(blip2_image){4, 1, 11, px}, 2, 2, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_image_resize(&out, &(blip2_image){4, 0, 12, px}, 2, 2, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_image_resize(&out, &(blip2_image){4, 1, 12, NULL}, 2, 2, NULL),
                     BLIP2_ERR_ARGUMENT);
    blip2_image_free(&in);
    blip2_image tall = {1, 16384, 3, calloc(16384, 3)};
    assert_int_equal(blip2_image_resize(&out, &tall, 16384, 1, NULL), BLIP2_ERR_LIMIT);
    free(tall.pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_pictures),
        cmocka_unit_test(large_pictures),
        cmocka_unit_test(all_shapes),
        cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
