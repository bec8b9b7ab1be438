/* Checks of the linear family. Errors are relative to the sum of the sizes of the products that were added.
 */
#include "harness.h"
#include <math.h>
#include <string.h>

#define COLD_BYTES                                                                                           \
    ((size_t)256 << 20) /* weights that are read in turn while timing, so that none is in a cache */

typedef struct lin {
    ck_buf *x, *y, *w[3], *bias[3]; /* dx: y is dx, x is dy */
    b2_rows rows[3];
    int nw, m, n, k, ld;
    float alpha, beta;
    bool bf16;
    size_t turn_bytes;
    int turns;
} lin;

static void take_turn(void *args, int i)
{
    lin *l = args;
    for (int b = 0; b < l->nw; b++)
        l->rows[b].w = (const char *)l->w[b]->p + (size_t)(i % l->turns) * l->turn_bytes;
}

/* Weights of up to three blocks; `cold`: many copies of the only one. */
static void weights(ck *c, lin *l, const int *n, bool biased, bool cold)
{
    const ck_type type = l->bf16 ? CK_BF16 : CK_F32;
    const double spread = 1.7 / sqrt(l->k);
    l->turns = 1;
    for (int b = 0; b < l->nw; b++) {
        l->turn_bytes = (size_t)n[b] * (size_t)l->k * (l->bf16 ? 2 : 4);
        if (cold) l->turns = 1 + (int)(COLD_BYTES / l->turn_bytes);
        l->w[b] = ck_in(c, type, (int64_t)n[b] * l->k * l->turns, spread);
        l->bias[b] = biased && (c->bench || ck_below(c, 3)) ? ck_in(c, CK_F32, n[b], 1) : NULL;
        l->rows[b] = (b2_rows){l->w[b]->p, ck_ptr(l->bias[b]), n[b]};
        l->n += n[b];
    }
}

/* ---- y = x W^T ----------------------------------------------------------------------------------------- */

static void call_gemm(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    (l->bf16 ? k->gemm_wbf16 : k->gemm_wf32)(q, l->y->p, l->ld, l->x->p, l->rows, l->nw, l->m, l->k, l->alpha,
                                             l->beta, ws);
}

static size_t ws_gemm(const b2_kernels *k, void *args, int threads)
{
    lin *l = args;
    return k->gemm_ws(l->m, l->n, l->k, threads);
}

static void want_gemm(void *args)
{
    lin *l = args;
    const double *x = ck_was(l->x), *y = ck_was(l->y);
    int first = 0;
    for (int b = 0; b < l->nw; first += l->rows[b++].n) {
        const double *w = ck_was(l->w[b]), *bias = ck_was(l->bias[b]);
        for (int64_t i = 0; i < l->m; i++) {
            for (int64_t o = 0; o < l->rows[b].n; o++) {
                double sum = 0, size = 0;
                for (int c = 0; c < l->k; c++) {
                    const double p = x[i * l->k + c] * w[o * l->k + c];
                    sum += p;
                    size += fabs(p);
                }
                const int64_t at = i * l->ld + first + o;
                const double old = l->beta ? l->beta * y[at] : 0, add = bias ? bias[o] : 0;
                ck_want(l->y, at, old + l->alpha * sum + add, fabs(old) + fabs(l->alpha) * size + fabs(add));
            }
        }
    }
}

static void gemm_case(ck *c, int m, const int *n, int nw, int k, int gap, bool cold)
{
    lin l = {.nw = nw, .m = m, .k = k, .alpha = 1, .bf16 = strcmp(c->check->name, "gemm_wbf16") == 0};
    if (!c->bench && ck_below(c, 3) == 0) l.alpha = (float)ck_uniform(c, 2);
    if (!c->bench) l.beta = (float[]){0, 1, 1, 0.5f}[ck_below(c, 4)];
    weights(c, &l, n, true, cold);
    l.ld = l.n + gap;
    l.x = ck_in(c, CK_ACT, (int64_t)m * k, 1.7);
    l.y = l.beta ? ck_inout(c, CK_F32, m, l.n, l.ld, 1) : ck_out(c, CK_F32, m, l.n, l.ld);
    ck_call call = {.args = &l, .call = call_gemm, .ws = ws_gemm, .want = want_gemm, .turn = take_turn};
    call.flops = 2.0 * m * l.n * k;
    call.bytes = (double)l.n * k * (l.bf16 ? 2 : 4) + 4.0 * m * l.n + (c->dtype ? 2.0 : 4.0) * m * k;
    snprintf(call.shape, sizeof call.shape, "%d x %d -> %d (%d blocks)%s", m, k, l.n, nw,
             cold ? " cold" : "");
    if (l.beta || l.alpha != 1) {
        snprintf(call.shape, sizeof call.shape, "%d x %d -> %d,%d,%d (%d blocks) ld %d alpha %g beta %g", m,
                 k, n[0], nw > 1 ? n[1] : 0, nw > 2 ? n[2] : 0, nw, l.ld, (double)l.alpha, (double)l.beta);
    }
    ck_run(c, &call);
}

/* BLIP-2's own: rows, inputs, outputs; then whether weights come from memory. */
static const struct bench_shape {
    int m, k, n[3], nw;
    bool cold;
} bench_shapes[] = {
    {257, 1408, {4224}, 1, false},      {257, 1408, {6144}, 1, false}, {257, 6144, {1408}, 1, false},
    {48, 2048, {5120, 5120}, 2, false}, {48, 5120, {2048}, 1, false},  {1, 2048, {5120}, 1, true},
    {4, 2048, {5120}, 1, true},         {8, 2048, {5120}, 1, true},    {1, 2048, {32128}, 1, true},
    {4, 2048, {32128}, 1, true},        {8, 2048, {32128}, 1, true},   {3200, 128, {128, 128, 128}, 3, false},
    {3200, 128, {512}, 1, false},       {3200, 512, {128}, 1, false},
};
#define BENCH_SHAPES (int)(sizeof bench_shapes / sizeof bench_shapes[0])

/* Shapes at the edges of what kernels cut into pieces. */
static const int edge_shapes[][3] = {{0, 64, 8},    {1, 1, 1},      {1, 31, 33},   {3, 63, 65},
                                     {4, 129, 127}, {8, 256, 257},  {31, 64, 31},  {33, 127, 63},
                                     {64, 128, 64}, {65, 258, 129}, {127, 33, 31}, {128, 65, 16},
                                     {257, 88, 33}, {258, 31, 127}, {2, 2048, 5},  {1, 5120, 24},
                                     {5, 6144, 17}, {50, 128, 384}, {1100, 24, 9}};
#define EDGE_SHAPES (int)(sizeof edge_shapes / sizeof edge_shapes[0])

/* Products of a random case; the double computation is what takes time. */
#define MOST 1000000

static void random_gemm(ck *c, void (*run)(ck *, int, const int *, int, int, int, bool), int cases)
{
    for (int i = 0; i < cases; i++) {
        const int m = ck_size(c, i % 2 ? 16 : 260), k = ck_size(c, 600), nw = 1 + ck_below(c, 3);
        const int64_t room = MOST / m / k / nw;
        int n[3];
        for (int b = 0; b < nw; b++) n[b] = ck_size(c, room < 1 ? 1 : room > 300 ? 300 : (int)room);
        run(c, m, n, nw, k, ck_flip(c) ? 1 + ck_below(c, 40) : 0, false);
    }
}

static void every_gemm(ck *c, void (*run)(ck *, int, const int *, int, int, int, bool))
{
    for (int i = 0; c->bench && i < BENCH_SHAPES; i++) {
        const struct bench_shape *s = &bench_shapes[i];
        run(c, s->m, s->n, s->nw, s->k, 0, s->cold);
    }
    if (c->bench) return;
    for (int i = 0; i < EDGE_SHAPES; i++)
        run(c, edge_shapes[i][0], &edge_shapes[i][2], 1, edge_shapes[i][1], 0, false);
    const int with_empty[] = {5, 0, 19};
    run(c, 6, with_empty, 3, 40, 3, false);
    random_gemm(c, run, 24);
}

static void check_gemm(ck *c) { every_gemm(c, gemm_case); }

/* ---- dx = dy W ----------------------------------------------------------------------------------------- */

static void call_dx(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    (l->bf16 ? k->gemm_dx_wbf16 : k->gemm_dx_wf32)(q, l->y->p, l->x->p, l->ld, l->rows, l->nw, l->m, l->k,
                                                   l->alpha, l->beta, ws);
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
    for (int64_t at = 0; at < (int64_t)l->m * l->k; at++) {
        const double old = l->beta ? l->beta * dx[at] : 0;
        ck_want(l->y, at, old, fabs(old));
    }
    int first = 0;
    for (int b = 0; b < l->nw; first += l->rows[b++].n) {
        const double *w = ck_was(l->w[b]);
        for (int64_t i = 0; i < l->m; i++) {
            for (int64_t o = 0; o < l->rows[b].n; o++) {
                const double d = l->alpha * dy[i * l->ld + first + o];
                for (int c = 0; c < l->k; c++) {
                    l->y->want[i * l->k + c] += d * w[o * l->k + c];
                    l->y->mag[i * l->k + c] += fabs(d * w[o * l->k + c]);
                }
            }
        }
    }
}

static void dx_case(ck *c, int m, const int *n, int nw, int k, int gap, bool cold)
{
    lin l = {.nw = nw, .m = m, .k = k, .alpha = 1, .bf16 = strcmp(c->check->name, "gemm_dx_wbf16") == 0};
    if (!c->bench && ck_below(c, 3) == 0) l.alpha = (float)ck_uniform(c, 2);
    if (!c->bench) l.beta = (float)ck_below(c, 2);
    weights(c, &l, n, false, cold);
    l.ld = l.n + gap;
    l.x = ck_in(c, CK_F32, (int64_t)m * l.ld, 1.7);
    l.y = l.beta ? ck_inout(c, CK_F32, m, k, k, 1) : ck_out(c, CK_F32, m, k, k);
    ck_call call = {.args = &l, .call = call_dx, .ws = ws_dx, .want = want_dx, .turn = take_turn};
    if (l.bf16) call.rounded[0] = l.x;
    call.flops = 2.0 * m * l.n * k;
    call.bytes = (double)l.n * k * (l.bf16 ? 2 : 4) + 4.0 * m * (l.n + k);
    snprintf(call.shape, sizeof call.shape, "%d x %d <- %d (%d blocks)%s", m, k, l.n, nw,
             cold ? " cold" : "");
    if (l.beta || l.alpha != 1) {
        snprintf(call.shape, sizeof call.shape, "%d x %d <- %d,%d,%d (%d blocks) ld %d alpha %g beta %g", m,
                 k, n[0], nw > 1 ? n[1] : 0, nw > 2 ? n[2] : 0, nw, l.ld, (double)l.alpha, (double)l.beta);
    }
    ck_run(c, &call);
}

static void check_dx(ck *c) { every_gemm(c, dx_case); }

/* ---- dw += dy^T x, db += sum dy ------------------------------------------------------------------------ */

static void call_dw(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    k->gemm_dw(q, l->y->p, l->w[0]->p, l->ld, l->x->p, l->m, l->n, l->k, l->alpha, ws);
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

static void dw_case(ck *c, int m, const int *n, int nw, int k, int gap, bool cold)
{
    if (cold || n[0] > 10000) return; /* not a shape of training */
    lin l = {.m = m, .n = n[0], .k = k, .alpha = c->bench || ck_below(c, 3) ? 1 : (float)ck_uniform(c, 2)};
    (void)nw;
    l.ld = l.n + gap;
    l.w[0] = ck_in(c, CK_F32, (int64_t)m * l.ld, 1);
    l.x = ck_in(c, CK_ACT, (int64_t)m * k, 1.7);
    l.y = ck_inout(c, CK_F32, l.n, k, k, 1);
    ck_call call = {.args = &l, .call = call_dw, .ws = ws_dw, .want = want_dw, .rounded = {l.w[0]}};
    call.flops = 2.0 * m * l.n * k;
    call.bytes = 8.0 * l.n * k + 4.0 * m * l.n + (c->dtype ? 2.0 : 4.0) * m * k;
    snprintf(call.shape, sizeof call.shape, "%d rows, [%d, %d] ld %d alpha %g", m, l.n, k, l.ld,
             (double)l.alpha);
    ck_run(c, &call);
}

static void check_dw(ck *c) { every_gemm(c, dw_case); }

static void call_bias(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lin *l = args;
    (void)ws;
    k->bias_grad(q, l->y->p, l->x->p, l->ld, l->m, l->n);
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

static void check_bias(ck *c)
{
    for (int i = 0; i < (c->bench ? 2 : 40); i++) {
        lin l = {.m = i == 0 ? 0 : ck_size(c, 400), .n = i == 1 ? 0 : ck_size(c, 700)};
        if (c->bench) l = (lin){.m = i ? 3200 : 257, .n = i ? 512 : 6144};
        l.ld = l.n + (c->bench || ck_flip(c) ? 0 : ck_below(c, 30));
        l.x = ck_in(c, CK_F32, (int64_t)l.m * l.ld, 1);
        l.y = ck_inout(c, CK_F32, 1, l.n, l.n, 1);
        ck_call call = {.args = &l, .call = call_bias, .want = want_bias, .bytes = 4.0 * l.m * l.n};
        snprintf(call.shape, sizeof call.shape, "%d x %d ld %d", l.m, l.n, l.ld);
        ck_run(c, &call);
    }
}

/* Sums of up to 6144 products in f32: a single accumulator strays sqrt(k)/2 half-steps, 2.4e-6 at worst, a
 * few 1e-7 in practice. No kernel may round an operand: that would show as 1e-3; the exception is
 * `rounded`. */
const ck_check ck_linear[] = {
    {"gemm_wf32", "gemm_ws", check_gemm, {2e-6, 2e-6}},
    {"gemm_wbf16", "gemm_ws", check_gemm, {2e-6, 2e-6}},
    {"gemm_dx_wf32", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dx_wbf16", "gemm_dx_ws", check_dx, {2e-6, 2e-6}},
    {"gemm_dw", "gemm_dw_ws", check_dw, {2e-6, 2e-6}},
    {"bias_grad", NULL, check_bias, {1e-6, 1e-6}},
    {0},
};
