/* Checks of the linear family. Errors are relative to the sum of the sizes of the products that were added.
 */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEW        16                  /* rows */
#define FIXED_ROWS 8                   /* where CPUs take bf16 x in fixed point */
#define LIMIT      2e-6                /* of products */
#define STRAYS     0x1p-7              /* a bias rounded to bf16, and y's step beyond a power of two */
#define COLD_BYTES ((size_t)256 << 20) /* weights that are read in turn, so that none is in a cache */

typedef struct lin {
    ck_buf *x, *y, *w[3], *bias[3], *scale[3]; /* dx: y is dx, x is dy */
    b2_rows rows[3];
    int nw, m, n, k, ld;
    float alpha, beta;
    b2_dtype wf;
    bool fixed; /* x may be taken in fixed point */
    size_t turn_bytes;
    int turns;
} lin;

/* The weights' format stands at the end of the kernel's name. */
static b2_dtype format_of(const ck *c)
{
    static const char *const names[] = {"_wf32", "_wbf16", "_wi8", "_wi4"};
    for (int i = 0; i < 4; i++)
        if (strstr(c->check->name, names[i])) return (b2_dtype)i;
    return B2_F32;
}

static void take_turn(void *args, int i)
{
    lin *l = args;
    for (int b = 0; b < l->nw; b++)
        l->rows[b].w = (const char *)l->w[b]->p + (size_t)(i % l->turns) * l->turn_bytes;
}

/* Scales of n quantised rows, or NULL; int4's have five significant bits, as the quantiser makes them. */
static ck_buf *scales(ck *c, const lin *l, int n, double spread)
{
    if (l->wf < B2_I8) return NULL;
    const bool i4 = l->wf == B2_I4;
    ck_buf *s = ck_in(c, i4 ? CK_BF16 : CK_F32, i4 ? (int64_t)n * (l->k / B2_I4_GROUP) : n, 1);
    for (int64_t i = 0; i < s->n; i++)
        ck_set(s, i, spread * (i4 ? (16 + ck_below(c, 16)) / 256.0 : (1 + ck_uniform(c, 0.9)) / 127));
    for (int64_t i = 0; i4 && i < s->n; i++) ((b2_bf16 *)s->p)[i] &= 0xFFF8;
    return s;
}

/* Weights of up to three blocks. Few rows are bound by reading weights: a GPU's graphs of them go round many
 * copies. */
static void weights(ck *c, lin *l, const int *n, bool biased)
{
    static const ck_type types[] = {CK_F32, CK_BF16, CK_I8, CK_I8};
    const double top = l->wf == B2_I8 ? 127.999 : 128, spread = 1.7 / sqrt(l->k > 0 ? l->k : 1);
    const int64_t each = (int64_t)(b2_row_bytes(l->wf, l->k) / (l->wf < B2_I8 ? b2_dtype_size(l->wf) : 1));
    const bool copies = c->bench && l->m <= FEW && c->tier[CK_CUDA].selected;
    l->turns = 1;
    for (int b = 0; b < l->nw; b++) {
        l->turn_bytes = (size_t)n[b] * b2_row_bytes(l->wf, l->k);
        if (copies) l->turns = 1 + (int)(COLD_BYTES / l->turn_bytes);
        l->w[b] = ck_in(c, types[l->wf], n[b] * each * l->turns, l->wf < B2_I8 ? spread : top);
        l->bias[b] = biased && (c->bench || ck_below(c, 3)) ? ck_in(c, CK_F32, n[b], 1) : NULL;
        l->scale[b] = scales(c, l, n[b], spread);
        l->rows[b] = (b2_rows){l->w[b]->p, ck_ptr(l->bias[b]), n[b], ck_ptr(l->scale[b])};
        l->n += n[b];
    }
}

/* Weight [o, c] of block b. */
static double weight(const lin *l, int b, int64_t o, int64_t c)
{
    const double *w = ck_was(l->w[b]), *scale = ck_was(l->scale[b]);
    if (l->wf == B2_I8) return w[o * l->k + c] * scale[o];
    if (l->wf < B2_I8) return w[o * l->k + c];
    const char *row = (const char *)l->w[b]->p + o * (int64_t)b2_row_bytes(B2_I4, l->k);
    return b2_i4_get(row, (int)c) * scale[o * (l->k / B2_I4_GROUP) + c / B2_I4_GROUP];
}

/* ---- y = x W^T ----------------------------------------------------------------------------------------- */

static void call_gemm(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    void (*const by_format[])(b2_queue *, b2_out, const void *, const b2_rows *, int, int, int, float, float,
                              void *) = {k->gemm_wf32, k->gemm_wbf16, k->gemm_wi8, k->gemm_wi4};
    const b2_out y = {l->y->p, l->ld, l->y->type == CK_F32 ? B2_F32 : B2_BF16};
    by_format[l->wf](q, y, l->x->p, l->rows, l->nw, l->m, l->k, l->alpha, l->beta, ws);
}

static size_t ws_gemm(const b2_kernels *k, void *args, int threads)
{
    lin *l = args;
    return k->gemm_ws(l->m, l->n, l->k, threads);
}

/* What x[c] loses in 16 bits of fixed point, a power of two for each 64 columns: 0 down to 1/128 of the
 * largest of them. */
static double fixed_loss(const double *x, int k, int c)
{
    const int g = c / 64 * 64;
    double top = 0;
    int e;
    for (int i = g; i < k && i < g + 64; i++) top = fmax(top, fabs(x[i]));
    frexp(top, &e);
    const double step = ldexp(1, e - 15);
    return fabs(x[c] - step * nearbyint(x[c] / step));
}

static void want_gemm(void *args)
{
    lin *l = args;
    const double *x = ck_was(l->x), *y = ck_was(l->y);
    double *loss = calloc((size_t)l->k + 1, sizeof *loss); /* of a row of x */
    int first = 0;
    for (int b = 0; b < l->nw; first += l->rows[b++].n) {
        const double *bias = ck_was(l->bias[b]);
        for (int64_t i = 0; i < l->m; i++) {
            for (int c = 0; loss && l->fixed && c < l->k; c++) loss[c] = fixed_loss(x + i * l->k, l->k, c);
            for (int64_t o = 0; o < l->rows[b].n; o++) {
                double sum = 0, size = 0;
                for (int c = 0; c < l->k; c++) {
                    const double p = x[i * l->k + c] * weight(l, b, o, c);
                    sum += p;
                    size += fabs(p);
                    if (loss && l->fixed) size += loss[c] * fabs(weight(l, b, o, c)) / LIMIT;
                }
                const int64_t at = i * l->ld + first + o;
                const double old = l->beta ? l->beta * y[at] : 0, add = bias ? bias[o] : 0;
                const double strays = ck_rounded(l->bias[b]) ? STRAYS / LIMIT * fabs(add) : 0;
                ck_want(l->y, at, old + l->alpha * sum + add,
                        fabs(old) + fabs(l->alpha) * size + fabs(add) + strays);
            }
        }
    }
    free(loss);
}

/* int4 has whole groups of columns. */
static int columns(b2_dtype wf, int k) { return wf == B2_I4 ? (k + 63) / 64 * 64 : k; }

/* cuBLASLt's biases have y's type; our own kernels' stay f32, and may stray by what the rounding was. */
static void round_biases(const lin *l, ck_call *call)
{
    if (l->wf != B2_BF16 || l->m <= FEW) return;
    for (int b = 0, n = 0; b < l->nw; b++)
        if (l->bias[b]) call->rounded[n++] = l->bias[b];
    if (call->rounded[0]) call->strays = STRAYS;
}

/* Does one of the words stand in a part's name? In a bf16 model attention and activations read the
 * results of kv, wi and fc1, and all but the logits' and the projection's gradients are bf16. */
static bool named(const char *part, const char *words)
{
    char word[16];
    for (int at = 0, n; sscanf(words + at, "%15s%n", word, &n) == 1; at += n)
        if (strstr(part, word)) return true;
    return false;
}

static void gemm_case(ck *c, const char *part, int m, const int *n, int nw, int k, int gap)
{
    lin l = {.nw = nw, .m = m, .alpha = 1, .wf = format_of(c)};
    k = l.k = columns(l.wf, k);
    if (!c->bench && ck_below(c, 3) == 0) l.alpha = (float)ck_uniform(c, 2);
    const int which = c->aligned ? (int)(c->cases % 4) : ck_below(c, 4);
    if (!c->bench) l.beta = (float[]){0, 0, 1, 0.5f}[which];
    l.fixed = l.wf >= B2_I8 && c->dtype && m <= FIXED_ROWS;
    weights(c, &l, n, true);
    l.ld = l.n + gap;
    l.x = ck_in(c, CK_ACT, (int64_t)m * k, 1.7);
    const bool narrow = c->dtype && (c->bench ? named(part, "kv wi fc1") : which == 0);
    l.y = l.beta ? ck_inout(c, CK_F32, m, l.n, l.ld, 1) : ck_out(c, narrow ? CK_ACT : CK_F32, m, l.n, l.ld);
    ck_call call = {.args = &l, .call = call_gemm, .ws = ws_gemm, .want = want_gemm};
    if (l.turns > 1 || !c->bench) call.turn = take_turn;
    if (narrow) round_biases(&l, &call);
    call.flops = 2.0 * m * l.n * k;
    call.bytes = (double)l.n * (double)(b2_row_bytes(l.wf, k) + b2_scale_bytes(l.wf, k)) +
                 (narrow ? 2.0 : 4.0) * m * l.n + (c->dtype ? 2.0 : 4.0) * m * k;
    snprintf(call.shape, sizeof call.shape, "%s%d x %d -> %d (%d blocks)", part, m, k, l.n, nw);
    if (l.beta || l.alpha != 1) {
        snprintf(call.shape, sizeof call.shape, "%d x %d -> %d,%d,%d (%d blocks) ld %d alpha %g beta %g", m,
                 k, n[0], nw > 1 ? n[1] : 0, nw > 2 ? n[2] : 0, nw, l.ld, (double)l.alpha, (double)l.beta);
    }
    if (narrow) strcat(call.shape, ", y bf16");
    ck_run(c, &call);
}

/* BLIP-2's own, then the quickstart's: rows an item (times the batch, or `fixed` items), inputs, outputs.
 * T5's encoder has 32 image tokens and 16 of text, its answers in training 8, a decoding step 1. */
static const struct bench_shape {
    const char *part;
    int fixed, rows, k, n[3], nw;
} bench_shapes[] = {
    {"vit.qkv ", 0, 257, 1408, {4224}, 1},
    {"vit.out ", 0, 257, 1408, {1408}, 1},
    {"vit.fc1 ", 0, 257, 1408, {6144}, 1},
    {"vit.fc2 ", 0, 257, 6144, {1408}, 1},
    {"qf.qkv ", 0, 32, 768, {768, 768, 768}, 3},
    {"qf.out ", 0, 32, 768, {768}, 1},
    {"qf.cross_kv ", 0, 257, 1408, {768, 768}, 2},
    {"qf.fc1 ", 0, 32, 768, {3072}, 1},
    {"qf.fc2 ", 0, 32, 3072, {768}, 1},
    {"qf.to_t5 ", 0, 32, 768, {2048}, 1},
    {"t5.qkv ", 0, 48, 2048, {2048, 2048, 2048}, 3},
    {"t5.out ", 0, 48, 2048, {2048}, 1},
    {"t5.wi ", 0, 48, 2048, {5120, 5120}, 2},
    {"t5.wo ", 0, 48, 5120, {2048}, 1},
    {"t5.cross_kv ", 0, 48, 2048, {2048, 2048}, 2},
    {"t5.head ", 0, 8, 2048, {32128}, 1},
    {"step.qkv ", 0, 1, 2048, {2048, 2048, 2048}, 3},
    {"step.out ", 0, 1, 2048, {2048}, 1},
    {"step.wi ", 0, 1, 2048, {5120, 5120}, 2},
    {"step.wo ", 0, 1, 5120, {2048}, 1},
    {"step.head ", 0, 1, 2048, {32128}, 1},
    {"tiny.qkv ", 64, 50, 128, {128, 128, 128}, 3},
    {"tiny.fc1 ", 64, 50, 128, {512}, 1},
    {"tiny.fc2 ", 64, 50, 512, {128}, 1},
};
#define BENCH_SHAPES (int)(sizeof bench_shapes / sizeof bench_shapes[0])

/* Shapes at the edges of what kernels cut into pieces. */
static const int edge_shapes[][3] = {{0, 64, 8},    {1, 1, 1},      {1, 31, 33},   {3, 63, 65},
                                     {4, 129, 127}, {8, 256, 257},  {31, 64, 31},  {33, 127, 63},
                                     {64, 128, 64}, {65, 258, 129}, {127, 33, 31}, {128, 65, 16},
                                     {257, 88, 33}, {258, 31, 127}, {2, 2048, 5},  {1, 5120, 24},
                                     {5, 6144, 17}, {50, 128, 384}, {1100, 24, 9}, {9, 16, 2500}};
#define EDGE_SHAPES (int)(sizeof edge_shapes / sizeof edge_shapes[0])

/* Products of a random case; the double computation is what takes time. */
#define MOST 1000000

typedef void gemm_run(ck *c, const char *part, int m, const int *n, int nw, int k, int gap);

/* Every third one has whole eights of columns, as models do, and what takes only those is tried. */
static void random_gemm(ck *c, gemm_run *run, int cases)
{
    for (int i = 0; i < cases; i++) {
        const int unit = i % 3 ? 1 : 8, nw = 1 + ck_below(c, 3);
        const int m = ck_size(c, i % 2 ? 16 : 260), k = (ck_size(c, 600) + unit - 1) / unit * unit;
        const int64_t room = MOST / m / k / nw;
        int n[3];
        for (int b = 0; b < nw; b++)
            n[b] = (ck_size(c, room < 1 ? 1 : room > 300 ? 300 : (int)room) + unit - 1) / unit * unit;
        run(c, "", m, n, nw, k, ck_flip(c) ? unit * (1 + ck_below(c, 40 / unit)) : 0);
    }
}

/* Steps of decoding have no gradients. */
static void bench_gemm(ck *c, gemm_run *run, bool backward)
{
    for (int i = 0; i < BENCH_SHAPES; i++) {
        const struct bench_shape *s = &bench_shapes[i];
        const int items = ck_items(c, s->fixed);
        if (items && !(backward && s->rows == 1)) run(c, s->part, items * s->rows, s->n, s->nw, s->k, 0);
    }
}

static void every_gemm(ck *c, gemm_run *run, bool backward)
{
    if (c->bench) {
        bench_gemm(c, run, backward);
        return;
    }
    for (int i = 0; i < 12; i++) {
        c->aligned =
            true; /* whole eights, as libraries take them; all types and betas with two blocks and with one */
        run(c, "", 24, (const int[]){16, 8}, 2 - i / 6, 40, 0);
    }
    for (int i = 0; i < EDGE_SHAPES; i++)
        run(c, "", edge_shapes[i][0], &edge_shapes[i][2], 1, edge_shapes[i][1], 0);
    const int with_empty[] = {5, 0, 19};
    run(c, "", 6, with_empty, 3, 40, 3);
    random_gemm(c, run, 24);
}

static void check_gemm(ck *c) { every_gemm(c, gemm_case, false); }

/* A gradient that a product reads. */
static b2_in in_of(const ck_buf *b, int ld)
{
    return (b2_in){b->p, ld, b->type == CK_F32 ? B2_F32 : B2_BF16};
}

/* ---- dx = dy W ----------------------------------------------------------------------------------------- */

static void call_dx(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    const b2_out dx = {l->y->p, (int)l->y->ld, l->y->type == CK_F32 ? B2_F32 : B2_BF16};
    void (*const by_format[])(b2_queue *, b2_out, b2_in, const b2_rows *, int, int, int, float, float,
                              void *) = {k->gemm_dx_wf32, k->gemm_dx_wbf16, k->gemm_dx_wi8, k->gemm_dx_wi4};
    by_format[l->wf](q, dx, in_of(l->x, l->ld), l->rows, l->nw, l->m, l->k, l->alpha, l->beta, ws);
}

static size_t ws_dx(const b2_kernels *k, void *args, int threads)
{
    lin *l = args;
    return k->gemm_dx_ws(l->m, l->n, l->k, threads);
}

static void want_dx(void *args)
{
    lin *l = args;
    const double *dy = ck_was(l->x), *dx = ck_was(l->y);
    /* dy times int8's scales, rounded again, which a dy of bf16 cannot hold */
    const double strays = l->x->type == CK_BF16 && ck_rounded(l->x) ? 0x1p-8 / LIMIT : 0;
    for (int64_t i = 0; i < l->m; i++) {
        for (int64_t at = i * l->y->ld; at < i * l->y->ld + l->k; at++) {
            const double old = l->beta ? l->beta * dx[at] : 0;
            ck_want(l->y, at, old, fabs(old));
        }
    }
    int first = 0;
    for (int b = 0; b < l->nw; first += l->rows[b++].n) {
        for (int64_t i = 0; i < l->m; i++) {
            for (int64_t o = 0; o < l->rows[b].n; o++) {
                const double d = l->alpha * dy[i * l->ld + first + o];
                for (int c = 0; c < l->k; c++) {
                    const double p = d * weight(l, b, o, c);
                    l->y->want[i * l->y->ld + c] += p;
                    l->y->mag[i * l->y->ld + c] += fabs(p) * (1 + strays);
                }
            }
        }
    }
}

/* Of dy's element i, which CUDA's kernel for int8 multiplies with the scale of its weight row. */
static float row_scale(void *args, int64_t i)
{
    const lin *l = args;
    int64_t o = i % l->ld;
    for (int b = 0; b < l->nw; o -= l->rows[b++].n)
        if (o < l->rows[b].n) return ((const float *)l->rows[b].scale)[o];
    return 1; /* between the rows */
}

static void dx_case(ck *c, const char *part, int m, const int *n, int nw, int k, int gap)
{
    lin l = {.nw = nw, .m = m, .alpha = 1, .wf = format_of(c)};
    k = l.k = columns(l.wf, k);
    if (!c->bench && ck_below(c, 3) == 0) l.alpha = (float)ck_uniform(c, 2);
    /* Each way of dx (bf16, f32, added to) with each type of dy. */
    const int which = c->aligned ? (int)(c->cases % 6) : ck_below(c, 6);
    if (!c->bench) l.beta = (float)(which % 3 == 2);
    weights(c, &l, n, false);
    l.ld = l.n + gap;
    const bool narrow_in = c->dtype && (c->bench ? !named(part, "head to_t5") : which / 3),
               narrow_out = c->dtype && (c->bench ? named(part, "out fc2 wo") : which % 3 == 0);
    const int ld = k + (gap ? ck_below(c, 2) * gap : 0);
    l.x = ck_in(c, narrow_in ? CK_ACT : CK_F32, (int64_t)m * l.ld, 1.7);
    l.y = l.beta ? ck_inout(c, CK_F32, m, k, ld, 1) : ck_out(c, narrow_out ? CK_ACT : CK_F32, m, k, ld);
    ck_call call = {.args = &l, .call = call_dx, .ws = ws_dx, .want = want_dx};
    if (l.turns > 1 || !c->bench) call.turn = take_turn;
    if (l.wf != B2_F32 && (!narrow_in || l.wf == B2_I8)) call.rounded[0] = l.x;
    if (l.wf == B2_I8) call.scale = row_scale;
    if (l.wf == B2_I8 && narrow_in) call.strays = 0x1p-8;
    call.flops = 2.0 * m * l.n * k;
    call.bytes = (double)l.n * (double)(b2_row_bytes(l.wf, k) + b2_scale_bytes(l.wf, k)) +
                 m * ((narrow_in ? 2.0 : 4.0) * l.n + (narrow_out ? 2.0 : 4.0) * k);
    snprintf(call.shape, sizeof call.shape, "%s%d x %d <- %d (%d blocks)", part, m, k, l.n, nw);
    if (l.beta || l.alpha != 1) {
        snprintf(call.shape, sizeof call.shape, "%d x %d <- %d,%d,%d (%d blocks) ld %d alpha %g beta %g", m,
                 k, n[0], nw > 1 ? n[1] : 0, nw > 2 ? n[2] : 0, nw, l.ld, (double)l.alpha, (double)l.beta);
    }
    if (narrow_in) strcat(call.shape, ", dy bf16");
    if (narrow_out) strcat(call.shape, ", dx bf16");
    ck_run(c, &call);
}

static void check_dx(ck *c) { every_gemm(c, dx_case, true); }

/* ---- dw += dy^T x, db += sum dy ------------------------------------------------------------------------ */

static void call_dw(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    k->gemm_dw(q, l->y->p, in_of(l->w[0], l->ld), l->x->p, l->m, l->n, l->k, l->alpha, ws);
}

static size_t ws_dw(const b2_kernels *k, void *args, int threads)
{
    lin *l = args;
    return k->gemm_dw_ws(l->m, l->n, l->k, threads);
}

static void want_dw(void *args)
{
    lin *l = args;
    const double *dy = ck_was(l->w[0]), *x = ck_was(l->x), *dw = ck_was(l->y);
    for (int64_t o = 0; o < l->n; o++) {
        for (int64_t c = 0; c < l->k; c++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < l->m; i++) {
                sum += dy[i * l->ld + o] * x[i * l->k + c];
                size += fabs(dy[i * l->ld + o] * x[i * l->k + c]);
            }
            const double old = dw[o * l->k + c];
            ck_want(l->y, o * l->k + c, old + l->alpha * sum, fabs(old) + fabs(l->alpha) * size);
        }
    }
}

static void dw_case(ck *c, const char *part, int m, const int *n, int nw, int k, int gap)
{
    if (n[0] > 10000) return; /* not a shape of training */
    lin l = {.m = m, .n = n[0], .k = k, .alpha = c->bench || ck_below(c, 3) ? 1 : (float)ck_uniform(c, 2)};
    (void)nw;
    l.ld = l.n + gap;
    const bool narrow = c->dtype && (c->bench     ? !named(part, "to_t5")
                                     : c->aligned ? c->cases % 2
                                                  : ck_flip(c));
    l.w[0] = ck_in(c, narrow ? CK_ACT : CK_F32, (int64_t)m * l.ld, 1);
    l.x = ck_in(c, CK_ACT, (int64_t)m * k, 1.7);
    l.y = ck_inout(c, CK_F32, l.n, k, k, 1);
    ck_call call = {.args = &l, .call = call_dw, .ws = ws_dw, .want = want_dw};
    if (!narrow) call.rounded[0] = l.w[0];
    call.flops = 2.0 * m * l.n * k;
    call.bytes = 8.0 * l.n * k + (narrow ? 2.0 : 4.0) * m * l.n + (c->dtype ? 2.0 : 4.0) * m * k;
    snprintf(call.shape, sizeof call.shape, "%s%d rows, [%d, %d] ld %d alpha %g%s", part, m, l.n, k, l.ld,
             (double)l.alpha, narrow ? ", dy bf16" : "");
    ck_run(c, &call);
}

static void check_dw(ck *c) { every_gemm(c, dw_case, true); }

static void call_bias(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    (void)ws;
    k->bias_grad(q, l->y->p, in_of(l->x, l->ld), l->m, l->n);
}

static void want_bias(void *args)
{
    lin *l = args;
    const double *dy = ck_was(l->x), *db = ck_was(l->y);
    for (int64_t o = 0; o < l->n; o++) {
        double sum = db[o], size = fabs(db[o]);
        for (int64_t i = 0; i < l->m; i++) {
            sum += dy[i * l->ld + o];
            size += fabs(dy[i * l->ld + o]);
        }
        ck_want(l->y, o, sum, size);
    }
}

static void bias_case(ck *c, const char *part, int m, int n, int ld)
{
    lin l = {.m = m, .n = n, .ld = ld};
    l.x = ck_in(c, ck_flip(c) ? CK_ACT : CK_F32, (int64_t)m * ld, 1);
    l.y = ck_inout(c, CK_F32, 1, n, n, 1);
    ck_call call = {.args = &l, .call = call_bias, .want = want_bias};
    call.bytes = (l.x->type == CK_F32 ? 4.0 : 2.0) * m * n;
    snprintf(call.shape, sizeof call.shape, "%s%d x %d ld %d%s", part, m, n, ld,
             l.x->type == CK_BF16 ? ", dy bf16" : "");
    ck_run(c, &call);
}

static void check_bias(ck *c)
{
    for (int i = 0; c->bench && i < BENCH_SHAPES; i++) {
        const struct bench_shape *s = &bench_shapes[i];
        const int items = ck_items(c, s->fixed);
        if (items && (strstr(s->part, "fc") || strstr(s->part, "vit")))
            bias_case(c, s->part, items * s->rows, s->n[0], s->n[0]);
    }
    for (int i = 0; !c->bench && i < 40; i++) {
        const int m = i == 0 ? 0 : ck_size(c, 400), n = i == 1 ? 0 : ck_size(c, 700);
        bias_case(c, "", m, n, n + (ck_flip(c) ? 0 : ck_below(c, 30)));
    }
}

/* Sums of up to 6144 products in f32: a single accumulator strays sqrt(k)/2 half-steps, 2.4e-6 at worst, a
 * few 1e-7 in practice. No kernel may round an operand: that would show as 1e-3; the exceptions are
 * `rounded`, and x in fixed point (quantised weights, few rows, bf16), whose loss is allowed besides. */
const ck_check ck_linear[] = {
    {"gemm_wf32", "gemm_ws", check_gemm, {2e-6, 2e-6}},
    {"gemm_wbf16", "gemm_ws", check_gemm, {2e-6, 2e-6}},
    {"gemm_wi8", "gemm_ws", check_gemm, {LIMIT, LIMIT}},
    {"gemm_wi4", "gemm_ws", check_gemm, {LIMIT, LIMIT}},
    {"gemm_dx_wf32", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dx_wbf16", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dx_wi8", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dx_wi4", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dw", "gemm_dw_ws", check_dw, {2e-6, 2e-6}},
    {"bias_grad", NULL, check_bias, {1e-6, 1e-6}},
    {0},
};
