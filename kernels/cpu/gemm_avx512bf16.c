/* Products of bf16 activations with bf16 weights, AVX512_BF16: pairs along k take the place of floats. As
 * in gemm_body.h's `many outputs`: the activations are packed, weight rows are read in place, once, and
 * tiles come out turned. */
#define B2_ACT 1
#include "kernels/cpu/simd_avx512.h"
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN avx512bf16
#include "kernels/cpu/gemm_common.h"

/* Pairs in a row; k is even here. */
static int pairs(const gemm *g) { return g->k / 2; }

static size_t x_panel(const gemm *g, int p, int i)
{
    return (size_t)p * KC * panels_width(g->m) + (size_t)b2_cut(pairs(g), KC, p) * (size_t)i * NR;
}

static void pack_x(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int i = (int)(chunk % b2_cuts(g->m, NR)), p = (int)(chunk / b2_cuts(g->m, NR));
    const b2_bf16 *x = (const b2_bf16 *)g->x + (size_t)i * NR * (size_t)g->k + (size_t)p * KC * 2;
    (void)worker;
    pack_turned(g->packed + x_panel(g, p, i), (const char *)x, weight_stride(g), B2_F32, b2_cut(g->m, NR, i),
                b2_cut(pairs(g), KC, p));
}

static void many_outputs(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    int part = (int)chunk, at;
    const b2_rows *w = find_part(g, GROUP, &part, &at);
    const int outs = b2_cut(w->n, GROUP, part), o0 = part * GROUP;
    float turned[GROUP * NR] = {0};
    (void)worker;
    for (int p = 0; p < pieces(pairs(g)); p++) {
        const char *rows = weight_row(g, w, o0) + (size_t)p * KC * sizeof(float);
        b2_tile t = {.a = (const float *)(const void *)rows,
                     .rs = pairs(g),
                     .cs = 1,
                     .k = b2_cut(pairs(g), KC, p),
                     .c = turned,
                     .ldc = NR,
                     .alpha = 1};
        const turned_end end = {g->alpha, p ? 1 : g->beta, w->bias && !p ? w->bias + o0 : NULL};
        for (int i = 0; i < b2_cuts(g->m, NR); i++) {
            const int n = b2_cut(g->m, NR, i);
            t.b = g->packed + x_panel(g, p, i);
            ISA_FN(tile)(outs, panel_width(n), &t);
            put_turned(g->y + (size_t)i * NR * (size_t)g->ldy + at + o0, (size_t)g->ldy, turned, outs, n,
                       &end);
        }
    }
}

void b2_avx512bf16_bf16_gemm_wbf16(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw,
                                   int m, int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = y,
              .ldy = ldy,
              .x = x,
              .w = w,
              .nw = nw,
              .m = m,
              .k = k,
              .wf = B2_BF16,
              .alpha = alpha,
              .beta = beta,
              .packed = ws};
    if (m <= 0) return;
    if (m <= B2_FEW_ROWS) {
        const b2_few f = {y, ldy, m, k, NULL, x, w, nw, B2_BF16, alpha, beta};
        ISA_FN(few)(q, &f);
    } else if (k % 2) { /* pairs would straddle rows */
        b2_avx512_bf16_gemm_wbf16(q, y, ldy, x, w, nw, m, k, alpha, beta, ws);
    } else {
        b2_pool_run(q->pool, (int64_t)b2_cuts(m, NR) * pieces(pairs(&g)), pack_x, &g);
        b2_pool_run(q->pool, count_parts(&g, GROUP), many_outputs, &g);
    }
}

size_t b2_avx512bf16_bf16_gemm_ws(int m, int n, int k, int threads)
{
    const size_t own = panels_width(m) * (size_t)(k / 2) * sizeof(float),
                 wide = b2_avx512_bf16_gemm_ws(m, n, k, threads);
    return own > wide ? own : wide;
}
