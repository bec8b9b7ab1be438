/* Products of bf16 activations with bf16 weights, AVX512_BF16: pairs along k pass for floats. */
#define B2_ACT 1
#include "kernels/act.h"
#include "kernels/cpu/simd_avx512.h"
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN avx512bf16
#include "kernels/cpu/gemm_many.h"

/* x as b2_few wants it. */
static void prepare(b2_bf16 *to, const b2_bf16 *x, int m, int k)
{
    for (int c = 0; c < k; c += 2 * VL)
        for (int i = 0; i < m; i++, to += 2 * VL) {
            const int n = k - c < 2 * VL ? k - c : 2 * VL;
            memset(to, 0, 2 * VL * sizeof *to);
            memcpy(to, x + (size_t)i * (size_t)k + c, (size_t)n * sizeof *to);
        }
}

void b2_avx512bf16_bf16_gemm_wbf16(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw,
                                   int m, int k, float alpha, float beta, void *ws)
{
    if (m <= 0) return;
    if (m <= B2_FEW_ROWS) {
        const b2_few f = {y, ldy, m, k, ws, w, nw, B2_BF16, alpha, beta, 0};
        prepare(ws, x, m, k);
        ISA_FN(few)(q, &f);
    } else if (k % 2) { /* pairs would straddle rows */
        b2_avx512_bf16_gemm_wbf16(q, y, ldy, x, w, nw, m, k, alpha, beta, ws);
    } else {
        gemm g = {
            .y = y, .ldy = ldy, .x = x, .w = w, .nw = nw, .m = m, .k = k / 2, .alpha = alpha, .beta = beta};
        g.wf = g.xf = B2_F32;
        g.packed = ws;
        run_many(q, &g);
    }
}

/* Few rows with quantised weights; false: more rows than that. */
static bool few_quantised(b2_queue *q, const b2_few *f, const b2_bf16 *x)
{
    if (f->m > B2_FEW_ROWS) return false;
    for (int i = 0; i < f->m; i++) b2_few_fix(f, x + (size_t)i * (size_t)f->k, i);
    if (f->m > 0) ISA_FN(few_quant)(q, f);
    return true;
}

void b2_avx512bf16_bf16_gemm_wi8(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw,
                                 int m, int k, float alpha, float beta, void *ws)
{
    const b2_few f = {y, ldy, m, k, ws, w, nw, B2_I8, alpha, beta, 0};
    if (!few_quantised(q, &f, x)) b2_avx512_bf16_gemm_wi8(q, y, ldy, x, w, nw, m, k, alpha, beta, ws);
}

void b2_avx512bf16_bf16_gemm_wi4(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw,
                                 int m, int k, float alpha, float beta, void *ws)
{
    const b2_few f = {y, ldy, m, k, ws, w, nw, B2_I4, alpha, beta, 0};
    if (!few_quantised(q, &f, x)) b2_avx512_bf16_gemm_wi4(q, y, ldy, x, w, nw, m, k, alpha, beta, ws);
}

size_t b2_avx512bf16_bf16_gemm_ws(int m, int n, int k, int threads)
{
    const size_t own = many_room(m, k / 2) * sizeof(float), wide = b2_avx512_bf16_gemm_ws(m, n, k, threads);
    return own > wide ? own : wide;
}
