/* Bicubic resize, byte for byte as Pillow's (src/libImaging/Resample.c, before release 13): 22-bit fixed
 * point weights, the rows first, rounded to bytes, then the columns. (Pillow 13 takes the columns of very
 * tall pictures first.)
 *
 * Both passes are dot products of 16-bit numbers, which compilers turn into multiply-add of pairs. A weight w
 * has 24 bits and goes as two numbers, w >> 8 and w & 255; a byte v goes as the two numbers 256 * (v - 128)
 * and v - 128. Their products add up to (v - 128) * w, exactly, and 128 * (sum of all w) is added at the end.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/image.h"

/* gcc vectorises reductions from -O3 on, clang at -O2. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#define PRECISION  22         /* Pillow: 32 - 8 - 2 */
#define TAPS       4          /* taps are padded with zero weights to a multiple of this: 8 numbers */
#define ROWS       16         /* rows turned into columns together: a cache line of a column */
#define MAX_MIDDLE (64 << 20) /* pixels between the passes */

/* Output o is bias[o] plus the dot product of `taps` inputs from start[o] with w[o * 2 * taps ..]. */
typedef struct filter {
    int in, out, taps;
    int *start, *bias;
    int16_t *w;
} filter;

/* A byte as two 16-bit numbers. */
typedef struct pair {
    int16_t high, low;
} pair;

static inline pair pair_of(int v) { return (pair){(int16_t)((v - 128) * 256), (int16_t)(v - 128)}; }

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void filter_free(filter *f)
{
    free(f->start);
    free(f->bias);
    free(f->w);
    *f = (filter){0};
}

/* The weights of output o, normalised, into w; returns how many and the first input in *start. */
static int weights_of(const filter *f, int o, double *w, int *start)
{
    double scale = (double)f->in / f->out, fs = scale < 1.0 ? 1.0 : scale;
    double support = 2.0 * fs, center = (o + 0.5) * scale, ss = 1.0 / fs, sum = 0.0;
    int lo = (int)(center - support + 0.5), hi = (int)(center + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > f->in) hi = f->in;
    for (int i = 0; i < hi - lo; i++) sum += w[i] = cubic((i + lo - center + 0.5) * ss);
    if (sum != 0.0)
        for (int i = 0; i < hi - lo; i++) w[i] /= sum;
    *start = lo;
    return hi - lo;
}

static void quantise(filter *f, int o, const double *w, int count)
{
    int16_t *to = f->w + (size_t)o * 2 * (size_t)f->taps;
    int sum = 0;
    for (int i = 0; i < count; i++) {
        double v = w[i] * (1 << PRECISION);
        int q = (int)(v < 0 ? v - 0.5 : v + 0.5), low = q & 255;
        to[2 * i] = (int16_t)((q - low) / 256);
        to[2 * i + 1] = (int16_t)low;
        sum += q;
    }
    f->bias[o] = 128 * sum + (1 << (PRECISION - 1));
}

static blip2_status filter_make(filter *f, int in, int out, blip2_error *e)
{
    double fs = (double)in / out < 1.0 ? 1.0 : (double)in / out;
    int taps = (int)ceil(2.0 * fs) * 2 + 1;
    *f = (filter){.in = in, .out = out, .taps = (taps + TAPS - 1) / TAPS * TAPS};
    double *w = malloc((size_t)f->taps * sizeof *w);
    f->start = malloc((size_t)out * sizeof *f->start);
    f->bias = malloc((size_t)out * sizeof *f->bias);
    f->w = calloc((size_t)out * 2 * (size_t)f->taps, sizeof *f->w);
    if (!w || !f->start || !f->bias || !f->w) {
        free(w);
        filter_free(f);
        return B2_NOMEM(e, "resize weights");
    }
    for (int o = 0; o < out; o++) quantise(f, o, w, weights_of(f, o, w, &f->start[o]));
    free(w);
    return BLIP2_OK;
}

static inline uint8_t rounded(int sum)
{
    int v = sum >> PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Output o of the three lines that lie `apart` pairs from each other; each has f->taps pairs of anything
 * after its f->in values. */
static inline void filter_pixel(const filter *f, int o, const pair *line, size_t apart, uint8_t out[3])
{
    const int n = f->taps * 2 / (2 * TAPS) * (2 * TAPS); /* tells the compiler that nothing is left over */
    const int16_t *restrict w = f->w + (size_t)o * (size_t)n;
    const int16_t *restrict r = (const int16_t *)(line + f->start[o]), *restrict g = r + 2 * apart,
                            *restrict b = g + 2 * apart;
    int red = 0, green = 0, blue = 0;
    for (int i = 0; i < n; i++) {
        red += r[i] * w[i];
        green += g[i] * w[i];
        blue += b[i] * w[i];
    }
    out[0] = rounded(red + f->bias[o]);
    out[1] = rounded(green + f->bias[o]);
    out[2] = rounded(blue + f->bias[o]);
}

typedef struct lines {
    pair *p; /* red, green, blue */
    size_t apart;
    pair of[256]; /* pair_of; a look-up is what compilers do fastest here */
} lines;

static bool lines_make(lines *l, int width, int taps)
{
    l->apart = (size_t)width + (size_t)taps;
    l->p = calloc(3 * l->apart, sizeof *l->p);
    for (int v = 0; v < 256; v++) l->of[v] = pair_of(v);
    return l->p != NULL;
}

static void lines_from_row(const lines *l, const uint8_t *p, int width)
{
    pair *restrict r = l->p, *restrict g = r + l->apart, *restrict b = g + l->apart;
    for (int x = 0; x < width; x++) {
        r[x] = l->of[p[3 * x]];
        g[x] = l->of[p[3 * x + 1]];
        b[x] = l->of[p[3 * x + 2]];
    }
}

/* Row y of src at the new width. */
static void widen(uint8_t *out, int width, const blip2_image *src, int y, const filter *f, const lines *l)
{
    lines_from_row(l, src->pixels + y * src->stride, src->width);
    for (int x = 0; x < width; x++) filter_pixel(f, x, l->p, l->apart, out + 3 * x);
}

/* Widths alone: one row after the other, straight into dst. */
static blip2_status rows_only(blip2_image *dst, const blip2_image *src, const filter *f, blip2_error *e)
{
    lines l;
    if (!lines_make(&l, src->width, f->taps)) return B2_NOMEM(e, "resize");
    for (int y = 0; y < src->height; y++) widen(dst->pixels + y * dst->stride, dst->width, src, y, f, &l);
    free(l.p);
    return BLIP2_OK;
}

/* The first pass leaves its result as columns of pairs, [x][channel][y]: the lines of the second one. */
static void rows_to_columns(pair *columns, size_t column, uint8_t *rows, const lines *l,
                            const blip2_image *src, const filter *f, int width)
{
    const int row = 3 * width;
    for (int y0 = 0; y0 < src->height; y0 += ROWS) {
        const int n = src->height - y0 < ROWS ? src->height - y0 : ROWS;
        for (int y = 0; y < n; y++)
            if (f)
                widen(rows + y * row, width, src, y0 + y, f, l);
            else
                memcpy(rows + y * row, src->pixels + (y0 + y) * src->stride, (size_t)row);
        for (int i = 0; i < row; i++)
            for (int y = 0; y < n; y++)
                columns[(size_t)i * column + (size_t)(y0 + y)] = l->of[rows[y * row + i]];
    }
}

/* Heights, and widths first when fx is given. */
static blip2_status both(blip2_image *dst, const blip2_image *src, const filter *fx, const filter *fy,
                         blip2_error *e)
{
    const size_t column = (size_t)fy->in + (size_t)fy->taps;
    lines l;
    const bool have_lines = lines_make(&l, src->width, fx ? fx->taps : 0);
    uint8_t *rows = malloc((size_t)dst->width * 3 * ROWS);
    pair *columns = calloc((size_t)dst->width * 3 * column, sizeof *columns);
    const bool ok = have_lines && rows && columns;
    if (ok) {
        rows_to_columns(columns, column, rows, &l, src, fx, dst->width);
        for (int x = 0; x < dst->width; x++)
            for (int y = 0; y < dst->height; y++)
                filter_pixel(fy, y, columns + (size_t)x * 3 * column, column,
                             dst->pixels + y * dst->stride + 3 * x);
    }
    free(l.p);
    free(rows);
    free(columns);
    return ok ? BLIP2_OK : B2_NOMEM(e, "resize");
}

static blip2_status resize_into(blip2_image *dst, const blip2_image *src, blip2_error *e)
{
    filter fx = {0}, fy = {0};
    blip2_status s = BLIP2_OK;
    const bool wide = dst->width != src->width, high = dst->height != src->height;
    if (wide) s = filter_make(&fx, src->width, dst->width, e);
    if (high && s == BLIP2_OK) s = filter_make(&fy, src->height, dst->height, e);
    if (s == BLIP2_OK && high)
        s = both(dst, src, wide ? &fx : NULL, &fy, e);
    else if (s == BLIP2_OK && wide)
        s = rows_only(dst, src, &fx, e);
    else if (s == BLIP2_OK)
        for (int y = 0; y < src->height; y++)
            memcpy(dst->pixels + y * dst->stride, src->pixels + y * src->stride, (size_t)src->width * 3);
    filter_free(&fx);
    filter_free(&fy);
    return s;
}

blip2_status b2_image_check(const blip2_image *img, blip2_error *e)
{
    if (!img || !img->pixels) return b2_fail(e, BLIP2_ERR_ARGUMENT, "image: no pixels");
    if (img->width < 1 || img->height < 1 || img->width > B2_IMAGE_SIDE || img->height > B2_IMAGE_SIDE)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "image: %d x %d, each side must be 1 to %d", img->width,
                       img->height, B2_IMAGE_SIDE);
    if (img->stride < (ptrdiff_t)img->width * 3)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "image: stride %td, a row of %d RGB pixels needs %d",
                       img->stride, img->width, img->width * 3);
    return BLIP2_OK;
}

blip2_status blip2_image_resize(blip2_image *dst, const blip2_image *src, int width, int height,
                                blip2_error *err)
{
    if (!dst) return b2_fail(err, BLIP2_ERR_ARGUMENT, "resize: no image to write");
    blip2_image out = {0};
    B2_TRY(b2_image_check(src, err));
    if (width < 1 || height < 1)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "resize: to %d x %d, each side must be at least 1", width,
                       height);
    if (width != src->width && height != src->height && (int64_t)width * src->height > MAX_MIDDLE)
        return b2_fail(err, BLIP2_ERR_LIMIT, "resize: %d x %d to %d x %d needs too much memory", src->width,
                       src->height, width, height);
    B2_TRY(b2_image_alloc(&out, width, height, err));
    blip2_status s = resize_into(&out, src, err);
    if (s != BLIP2_OK)
        blip2_image_free(&out);
    else
        *dst = out;
    return s;
}
