/* Dense products for many rows; body of gemm_tmpl_<isa>.c.
 *
 * Two drivers over one tile. `few outputs`: the weights are small: they are packed once, activations are
 * read as they lie. `many outputs`: the activations are packed, weight rows are read in place, once, and
 * tiles come out turned. The sum over k runs in order, cut every KC: both give the same bits, whatever the
 * number of rows, of threads, or the neighbours in the batch. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_many.h"
#include "kernels/cpu/sweep.h"

/* ---- forward, few outputs ------------------------------------------------------------------------------ */

static void pack_weights_turned(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    int part = (int)chunk, at;
    const b2_rows *w = find_part(g, NR, &part, &at);
    float *dst = g->packed + (size_t)chunk * NR * (size_t)g->k, *local = g->local + (size_t)worker * g->each;
    const int n = b2_cut(w->n, NR, part);
    if (!quantised(g->wf)) {
        pack_turned(dst, weight_row(g, w, part * NR), weight_stride(g), g->wf, n, g->k);
        return;
    }
    for (int k0 = 0; k0 < g->k; k0 += KC, dst += KC * (size_t)panel_width(n)) {
        const int len = g->k - k0 < KC ? g->k - k0 : KC;
        widen_quant(local, KC, g, w, part * NR, n, k0, len);
        pack_turned(dst, (const char *)local, KC * sizeof *local, B2_F32, n, len);
    }
}

/* Rows i0.. of x from column k0 on, as f32; *ld their distance. */
static const float *rows_f32(const gemm *g, int i0, int rows, int k0, int len, float *local, ptrdiff_t *ld)
{
    const act_t *x = (const act_t *)g->x + (size_t)i0 * (size_t)g->k + k0;
#if B2_ACT == 0
    (void)rows, (void)len, (void)local;
    *ld = g->k;
    return x;
#else
    *ld = KC;
    widen_rows(local, KC, x, (size_t)g->k, rows, len);
    return local;
#endif
}

static void few_outputs(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int i0 = (int)chunk * GROUP, rows = b2_cut(g->m, GROUP, (int)chunk);
    for (int p = 0; p < pieces(g->k); p++) {
        const int k0 = p * KC, len = b2_cut(g->k, KC, p);
        b2_tile t = {.cs = 1, .k = len, .ldc = g->ldy, .alpha = g->alpha, .beta = p ? 1 : g->beta};
        t.a = rows_f32(g, i0, rows, k0, len, g->local + (size_t)worker * g->each, &t.rs);
        const float *panel = g->packed;
        int at = 0;
        for (const b2_rows *w = g->w; w < g->w + g->nw; at += w++->n)
            for (int o = 0; o < w->n; o += NR, panel += NR * (size_t)g->k) {
                const int n = w->n - o < NR ? w->n - o : NR;
                t.b = panel + (size_t)k0 * (size_t)panel_width(n);
                t.c = g->y + (size_t)i0 * (size_t)g->ldy + at + o;
                t.bias = w->bias && p + 1 == pieces(g->k) ? w->bias + o : NULL;
                ISA_FN(tile)(rows, n, &t);
            }
    }
}

/* ---- forward, few rows --------------------------------------------------------------------------------- */

/* n <= 2*VL elements of x as b2_few wants them. */
static inline void prepare_step(float *to, const act_t *x, int n, b2_dtype wf)
{
    act_t t[2 * VL] = {0};
    if (n < 2 * VL) {
        memcpy(t, x, (size_t)n * sizeof *t);
        x = t;
    }
#if B2_ACT == 1
    const vi raw = vraw_load(x);
    vstore(to, wf == B2_BF16 ? vraw_even(raw) : vbf_load(x));
    vstore(to + VL, wf == B2_BF16 ? vraw_odd(raw) : vbf_load(x + VL));
#else
    if (wf == B2_F32)
        memcpy(to, x, 2 * VL * sizeof *to);
    else
        for (int i = 0; i < VL; i++) to[i] = x[2 * i], to[VL + i] = x[2 * i + 1];
#endif
}

static void prepare_row(void *ctx, int64_t row, int worker)
{
    const gemm *g = ctx;
    const act_t *x = (const act_t *)g->x + row * g->k;
    float *to = g->packed + row * 2 * VL;
    (void)worker;
    for (int c = 0; c < g->k; c += 2 * VL, to += (size_t)g->m * 2 * VL)
        prepare_step(to, x + c, g->k - c < 2 * VL ? g->k - c : 2 * VL, g->wf);
}

/* ---- few rows, quantised weights ---- */

#if B2_ACT == 1
static void fix_row(void *ctx, int64_t row, int worker)
{
    const gemm *g = ctx;
    const b2_few f = {.m = g->m, .k = g->k, .x = g->packed};
    (void)worker;
    b2_few_fix(&f, (const uint16_t *)g->x + row * g->k, (int)row);
}

static void few_quant(b2_queue *q, gemm *g, const b2_few *f)
{
    b2_pool_run(q->pool, g->m, fix_row, g);
    b2_avx2_few_quant(q, f);
}
#else
/* Nothing is rounded: a weight row's floats are made once and meet all rows of x. */
static void quant_task(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    int o = (int)chunk, at;
    const b2_rows *w = find_part(g, 1, &o, &at);
    const quant_row r = quant_row_at(g, w, o);
    const float *x = g->x;
    vf sum[B2_FEW_ROWS];
    (void)worker;
    for (int i = 0; i < g->m; i++) sum[i] = vzero();
    for (int c = 0; c < g->k; c += VL) {
        const int len = g->k - c < VL ? g->k - c : VL;
        const vf v = load_quant(&r, g->wf, c, len);
        for (int i = 0; i < g->m; i++) sum[i] = vfma(v, vget(x + (size_t)i * (size_t)g->k + c, len), sum[i]);
    }
    for (int i = 0; i < g->m; i++) {
        float *y = g->y + (ptrdiff_t)i * g->ldy + at + o, v = g->alpha * vsum(sum[i]);
        if (g->beta != 0) v += g->beta * *y;
        *y = w->bias ? v + w->bias[o] : v;
    }
}

static void few_quant(b2_queue *q, gemm *g, const b2_few *f)
{
    (void)f;
    b2_pool_run(q->pool, g->n, quant_task, g);
}
#endif

static void few_rows(b2_queue *q, gemm *g)
{
    const b2_few f = {g->y, g->ldy, g->m, g->k, g->packed, g->w, g->nw, g->wf, g->alpha, g->beta, 0};
    if (quantised(g->wf)) {
        few_quant(q, g, &f);
        return;
    }
    b2_pool_run(q->pool, g->m, prepare_row, g);
    ISA_FN(few)(q, &f);
}

static void forward(b2_queue *q, gemm *g, float *ws)
{
    g->n = outputs(g->w, g->nw);
    if (g->m <= 0 || g->n <= 0) return;
    g->xf = (b2_dtype)B2_ACT;
    g->packed = ws;
    g->each = (size_t)GROUP * KC;
    if (g->m <= B2_FEW_ROWS) {
        few_rows(q, g);
    } else if (packs_weights(g->m, g->n, g->k)) {
        const int parts = count_parts(g, NR);
        g->local = ws + b2_line((size_t)parts * NR * (size_t)g->k);
        b2_pool_run(q->pool, parts, pack_weights_turned, g);
        b2_pool_run(q->pool, b2_cuts(g->m, GROUP), few_outputs, g);
    } else {
        g->local = ws + many_room(g->m, g->k);
        run_many(q, g);
    }
}

void TIER_FN(gemm_wf32)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                        float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .ldy = ldy, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_F32;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wbf16)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m,
                         int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .ldy = ldy, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_BF16;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wi8)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .ldy = ldy, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I8;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wi4)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .ldy = ldy, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I4;
    forward(q, &g, ws);
}

size_t TIER_FN(gemm_ws)(int m, int n, int k, int threads)
{
    const size_t few = b2_few_room(m < B2_FEW_ROWS ? m : B2_FEW_ROWS, k);
    if (m <= B2_FEW_ROWS) return few * sizeof(float);
    /* Fewer rows may take another way, and their room must be in it. */
    const bool packs = packs_weights(m, n, k);
    const size_t many = many_room(packs ? B2_SMALL_ROWS : m, k);
    const size_t packed = packs ? b2_line(((size_t)n + 3 * NR) * (size_t)k) : 0;
    const size_t shared = (packed > many ? packed : many) + (size_t)threads * GROUP * KC;
    return (shared > few ? shared : few) * sizeof(float);
}
