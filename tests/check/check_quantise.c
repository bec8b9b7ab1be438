/* Checks of quantising rows and of reading them back: every byte and every scale is told by the formulas. */
#include "harness.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define GROUP B2_I4_GROUP

typedef struct quant {
    ck_buf *x, *w, *scale; /* back: x is the output */
    int rows, cols;
    bool i4;
} quant;

static void call_quantise(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    quant *a = args;
    (void)ws;
    if (a->i4)
        k->quantise_i4(q, a->w->p, a->scale->p, a->x->p, a->rows, a->cols);
    else
        k->quantise_i8(q, a->w->p, a->scale->p, a->x->p, a->rows, a->cols);
}

static void call_dequantise(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    quant *a = args;
    (void)ws;
    if (a->i4)
        k->dequantise_i4(q, a->x->p, a->w->p, a->scale->p, a->rows, a->cols);
    else
        k->dequantise_i8(q, a->x->p, a->w->p, a->scale->p, a->rows, a->cols);
}

/* ---- right values: operations in double, each rounded to float, are the same as float's own ------------ */

static bool all_finite(const double *x, int n)
{
    bool finite = true;
    for (int i = 0; i < n; i++) finite = finite && isfinite(x[i]);
    return finite;
}

static void want_i8(void *args)
{
    quant *a = args;
    const double *x = ck_was(a->x);
    for (int64_t o = 0; o < a->rows; o++, x += a->cols) {
        double top = 0;
        for (int c = 0; c < a->cols; c++) top = fmax(top, fabs(x[c]));
        const bool finite = all_finite(x, a->cols), some = finite && top >= ldexp(1, -118);
        const float inverse = (float)(127.0 / top);
        ck_want(a->scale, o, some ? (float)(top / 127.0) : finite ? 0 : NAN, 0);
        for (int c = 0; c < a->cols; c++)
            ck_want(a->w, o * a->cols + c, some ? rint((float)(x[c] * inverse)) : 0, 0);
    }
}

static float five_bits(double x)
{
    int e;
    const double f = frexp((float)x, &e);
    return (float)ldexp(rint(f * 32), e - 5);
}

static double clamped(double x, float inverse) { return fmin(7, fmax(-8, rint((float)(x * inverse)))); }

static float best_scale(const double *x)
{
    static const double steps[] = {-8, -8.5, -9, -7.5, -7, 7};
    double top = 0, least = INFINITY;
    float best = 0;
    for (int c = 0; c < GROUP; c++) top = fabs(x[c]) > fabs(top) ? x[c] : top;
    for (int i = 0; i < 6 && fabs(top) >= 1e-30f; i++) {
        const float scale = five_bits(top / steps[i]), inverse = (float)(1.0 / scale);
        double sum = 0;
        for (int c = 0; c < GROUP; c++) {
            const float product = (float)(scale * clamped(x[c], inverse)),
                        d = (float)((double)product - x[c]);
            sum += (double)d * d;
        }
        if (sum < least) best = scale;
        least = fmin(sum, least);
    }
    return best;
}

static void want_i4(void *args)
{
    quant *a = args;
    const double *from = ck_was(a->x);
    for (int64_t g = 0; g < (int64_t)a->rows * a->cols / GROUP; g++, from += GROUP) {
        double x[GROUP];
        unsigned char bytes[GROUP / 2] = {0};
        const bool finite = all_finite(from, GROUP);
        for (int c = 0; c < GROUP; c++) x[c] = !finite || fabs(from[c]) < FLT_MIN ? 0 : from[c];
        const float best = best_scale(x);
        for (int c = 0; c < GROUP; c++) {
            const int n = (int)clamped(x[c], best == 0 ? 0 : (float)(1.0 / best)), half = c / 16;
            bytes[c % 16 * 2 + half / 2] |= (unsigned char)((n & 15) << half % 2 * 4);
        }
        ck_want(a->scale, g, finite ? best : NAN, 0);
        for (int i = 0; i < GROUP / 2; i++) ck_want(a->w, g * GROUP / 2 + i, (signed char)bytes[i], 0);
    }
}

static void want_back(void *args)
{
    quant *a = args;
    const char *w = a->w->p;
    for (int64_t o = 0; o < a->rows; o++) {
        for (int c = 0; c < a->cols; c++) {
            const int64_t at = o * a->cols + c;
            const int n = a->i4 ? b2_i4_get(w + o * (a->cols / 2), c) : ((const int8_t *)w)[at];
            const double s = ck_was(a->scale)[a->i4 ? at / GROUP : o];
            const float y = (float)(n * (fabs(s) < FLT_MIN ? 0 : s));
            ck_want(a->x, at, a->x->type == CK_BF16 ? b2_bf16_to_f32(b2_f32_to_bf16(y)) : y, 0);
        }
    }
}

/* ---- cases --------------------------------------------------------------------------------------------- */

/* What a row or group holds; ordinary numbers where it is none of these. */
enum { ZEROS, TINY, EDGE, ONE_HUGE, LARGEST, TIES, EQUAL, NOT_FINITE, ORDER, KINDS = 15 };

/* -8 first, 2.125 in the last 16 columns: steps of 1 and of 1.0625 err by 0.25 both, and what the small ones
 * between add to that depends on the order of the sum. */
static double in_order(ck *c, int i) { return i == 0 ? -8 : i >= 48 ? 2.125 : 1.2e-9 + ck_uniform(c, 1e-10); }

/* A row, or an int4 group: n numbers from x's `at` on. */
static void fill(ck *c, const quant *a, int64_t at, int n)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY};
    const int kind = ck_below(c, KINDS), one = ck_below(c, n);
    const double least = a->i4 ? 1e-30f : ldexp(1, -118), size = exp(ck_uniform(c, 30)),
                 tiny = ldexp(1, -126), edge = least * (1 + ldexp(ck_below(c, 3) - 1, -23));
    for (int i = 0; i < n; i++) {
        double v = ck_uniform(c, kind == TINY                   ? tiny
                                 : kind == EDGE                 ? (ck_flip(c) ? edge : tiny)
                                 : kind == LARGEST              ? 3.38e38
                                 : kind == ONE_HUGE && i == one ? 1e37
                                                                : size);
        const double sign = v < 0 ? -1 : 1;
        if (kind == ZEROS) v = 0 * sign;
        if (kind == EDGE && i == one) v = edge * sign;
        if (kind == LARGEST && ck_flip(c)) v = 3.38e38;
        if (kind == TIES) v = i == one ? (a->i4 ? -8 : 127) : ck_below(c, a->i4 ? 8 : 127) - 3.5;
        if (kind == EQUAL) v = size * sign;
        if (kind == NOT_FINITE && i == one) v = odd[ck_below(c, 3)];
        if (kind == ORDER) v = in_order(c, i);
        ck_set(a->x, at + i, v);
    }
}

static void quantise_case(ck *c, int rows, int cols)
{
    quant a = {.rows = rows, .cols = cols, .i4 = strstr(c->check->name, "_i4") != NULL};
    const int64_t n = (int64_t)rows * cols, unit = a.i4 ? GROUP : cols;
    a.x = ck_in(c, CK_ACT, n, 0.05);
    a.w = ck_out(c, CK_I8, 1, a.i4 ? n / 2 : n, a.i4 ? n / 2 : n);
    a.scale = ck_out(c, a.i4 ? CK_BF16 : CK_F32, 1, a.i4 ? n / GROUP : rows, a.i4 ? n / GROUP : rows);
    for (int64_t at = 0; !c->bench && at < n; at += unit) fill(c, &a, at, (int)unit);
    ck_call call = {.args = &a, .call = call_quantise, .want = a.i4 ? want_i4 : want_i8};
    call.bytes = (double)n * (c->dtype ? 2 : 4) + (double)(a.w->bytes + a.scale->bytes);
    call.flops = (a.i4 ? 6 * 7.0 : 2.0) * (double)n;
    snprintf(call.shape, sizeof call.shape, "%d x %d", rows, cols);
    ck_run(c, &call);
}

static void dequantise_case(ck *c, int rows, int cols)
{
    static const double odd[] = {0, 1e-39, -1e-39, NAN, INFINITY};
    quant a = {.rows = rows, .cols = cols, .i4 = strstr(c->check->name, "_i4") != NULL};
    const int64_t n = (int64_t)rows * cols, scales = a.i4 ? n / GROUP : rows;
    a.w = ck_in(c, CK_I8, a.i4 ? n / 2 : n, 128);
    if (n) ck_set(a.w, ck_below(c, (int)a.w->n), -128);
    a.scale = ck_in(c, a.i4 ? CK_BF16 : CK_F32, scales, 0.01);
    for (int64_t i = 0; !c->bench && i < scales; i++)
        ck_set(a.scale, i, ck_below(c, 4) ? exp(ck_uniform(c, 60)) * ck_uniform(c, 1) : odd[ck_below(c, 5)]);
    a.x = ck_out(c, CK_ACT, 1, n, n);
    ck_call call = {.args = &a, .call = call_dequantise, .want = want_back};
    call.bytes = (double)(a.w->bytes + a.scale->bytes + a.x->bytes);
    call.flops = (double)n;
    snprintf(call.shape, sizeof call.shape, "%d x %d", rows, cols);
    ck_run(c, &call);
}

/* ViT's and T5's matrices, outputs x inputs; then the quickstart's. */
static const int bench_shapes[][2] = {{4224, 1408}, {6144, 1408}, {1408, 6144}, {2048, 2048},
                                      {5120, 2048}, {2048, 5120}, {512, 128}};
#define BENCH_SHAPES (int)(sizeof bench_shapes / sizeof bench_shapes[0])

static const int edges[] = {0, 1, 31, 33, 63, 64, 65, 127, 128, 129, 256, 257, 258};
#define EDGES (int)(sizeof edges / sizeof edges[0])

static void check_quantise(ck *c)
{
    void (*const run)(ck *, int, int) = c->check->name[0] == 'q' ? quantise_case : dequantise_case;
    const bool i4 = strstr(c->check->name, "_i4") != NULL;
    for (int i = 0; c->bench && i < BENCH_SHAPES && ck_items(c, 1); i++)
        run(c, bench_shapes[i][0], bench_shapes[i][1]);
    for (int i = 0; !c->bench && i < EDGES; i++) {
        run(c, edges[i], i4 ? GROUP * (1 + ck_below(c, 5)) : ck_size(c, 300));
        if (edges[i]) run(c, 1 + ck_below(c, 5), i4 ? GROUP * edges[i] : edges[i]);
    }
    if (!c->bench) run(c, 3, 2048), run(c, 2, i4 ? 5120 : 9001);
}

/* Numbers that must be these. */
const ck_check ck_quantise[] = {
    {"quantise_i8", NULL, check_quantise, {0, 0}},
    {"quantise_i4", NULL, check_quantise, {0, 0}},
    {"dequantise_i8", NULL, check_quantise, {0, 0}},
    {"dequantise_i4", NULL, check_quantise, {0, 0}},
    {0},
};
