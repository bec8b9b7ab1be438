/* Dense products for many rows; body of gemm_tmpl_<isa>.c.
 *
 * Two drivers over one tile. `few outputs`: the weights are small: they are packed once, activations are
 * read as they lie. `many outputs`: the activations are packed, weight rows are read in place, once, and
 * tiles come out turned. The sum over k runs in order, cut every KC: both give the same bits, whatever the
 * number of rows, of threads, or the neighbours in the batch. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_many.h"

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

/* A task's rows of x against the weights' panels `first` to last-1; sums go to c, ldc floats a row. Returns
 * how many columns that were. */
static int add_panels(const gemm *g, int chunk, int first, int last, float *c, int ldc, float *local)
{
    const int i0 = chunk * GROUP, rows = b2_cut(g->m, GROUP, chunk);
    const b2_in x = {g->x, g->k, (b2_dtype)B2_ACT};
    int cols = 0;
    for (int p = 0; p < pieces(g->k); p++) {
        const int k0 = p * KC, len = b2_cut(g->k, KC, p);
        b2_tile t = {.cs = 1, .k = len, .ldc = ldc, .alpha = g->alpha, .beta = p ? 1 : g->beta};
        t.a = rows_f32(&x, i0, rows, k0, len, local, &t.rs);
        cols = 0;
        for (int i = first; i < last; i++) {
            int part = i, at;
            const b2_rows *w = find_part(g, NR, &part, &at);
            const int n = b2_cut(w->n, NR, part);
            t.b = g->packed + (size_t)i * NR * (size_t)g->k + (size_t)k0 * (size_t)panel_width(n);
            t.c = c + cols;
            t.bias = w->bias && p + 1 == pieces(g->k) ? w->bias + part * NR : NULL;
            ISA_FN(tile)(rows, n, &t);
            cols += n;
        }
    }
    return cols;
}

/* Sums grow in y itself where it is f32; else in the second-level cache, ROUND_COLS columns at a time. */
static void few_outputs(void *ctx, int64_t task, int worker)
{
    const gemm *g = ctx;
    const int chunk = (int)task, panels = count_parts(g, NR), step = ROUND_COLS / NR;
    float *local = g->local + (size_t)worker * g->each, *sums = local + GROUP * KC;
    if (!rounds(&g->y)) {
        add_panels(g, chunk, 0, panels, b2_out_at(&g->y, chunk * GROUP, 0), g->y.ld, local);
        return;
    }
    for (int p = 0, first = 0, n; p < panels; p += step, first += n) {
        n = add_panels(g, chunk, p, panels - p < step ? panels : p + step, sums, ROUND_COLS, local);
        round_sums(&g->y, chunk * GROUP, b2_cut(g->m, GROUP, chunk), first, n, sums, ROUND_COLS);
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
    for (int i = 0; i < g->m; i++)
        b2_put_one(&g->y, i, at + o, g->alpha * vsum(sum[i]), g->beta, w->bias ? w->bias + o : NULL);
}

static void few_quant(b2_queue *q, gemm *g, const b2_few *f)
{
    (void)f;
    b2_pool_run(q->pool, g->n, quant_task, g);
}
#endif

static void few_rows(b2_queue *q, gemm *g)
{
    const b2_few f = {g->y, g->m, g->k, g->packed, g->w, g->nw, g->wf, g->alpha, g->beta, 0};
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
    g->each = LOCAL_ROOM;
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

void TIER_FN(gemm_wf32)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                        float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_F32;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wbf16)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                         float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_BF16;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wi8)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I8;
    forward(q, &g, ws);
}

void TIER_FN(gemm_wi4)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    gemm g = {.y = y, .x = x, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
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
    const size_t shared = (packed > many ? packed : many) + (size_t)threads * LOCAL_ROOM;
    return (shared > few ? shared : few) * sizeof(float);
}
