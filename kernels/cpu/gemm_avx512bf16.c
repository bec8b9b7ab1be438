/* Products of bf16 activations or gradients with bf16 weights, AVX512_BF16: pairs along the sum pass for
 * floats. */
#define B2_ACT 1
#include "kernels/act.h"
#include "kernels/cpu/simd_avx512.h"
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN avx512bf16
#include "kernels/cpu/gemm_dx.h"
#include "kernels/cpu/gemm_many.h"

/* The most rows that count as few here: with 2048 or more columns tiles take a tenth less time for 6 rows, a
 * fifth less for 8, a third more for 4. */
enum { FEW_PAIR_ROWS = 5 };
enum { MOST_BLOCKS = 3 }; /* of weights, in a gradient by pairs */

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

void b2_avx512bf16_bf16_gemm_wbf16(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m,
                                   int k, float alpha, float beta, void *ws)
{
    if (m <= 0) return;
    if (m <= FEW_PAIR_ROWS) {
        const b2_few f = {y, m, k, ws, w, nw, B2_BF16, alpha, beta, 0};
        prepare(ws, x, m, k);
        ISA_FN(few)(q, &f);
    } else if (k % 2) { /* pairs would straddle rows */
        b2_avx512_bf16_gemm_wbf16(q, y, x, w, nw, m, k, alpha, beta, ws);
    } else {
        gemm g = {.y = y, .x = x, .w = w, .nw = nw, .m = m, .k = k / 2, .alpha = alpha, .beta = beta};
        g.wf = g.xf = B2_F32;
        g.packed = ws;
        run_many(q, &g);
    }
}

/* The blocks in pairs of rows; false: one of them has an odd number. */
static bool in_pairs(b2_rows to[MOST_BLOCKS], const b2_rows *w, int nw)
{
    if (nw > MOST_BLOCKS) return false;
    for (int i = 0; i < nw; i++) {
        if (w[i].n % 2) return false;
        to[i] = w[i];
        to[i].n = w[i].n / 2;
    }
    return true;
}

void b2_avx512bf16_bf16_gemm_dx_wbf16(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m,
                                      int k, float alpha, float beta, void *ws)
{
    b2_rows pairs[MOST_BLOCKS];
    if (m <= B2_FEW_ROWS || dy.type == B2_F32 || dy.ld % 2 || !in_pairs(pairs, w, nw)) {
        b2_avx512_bf16_gemm_dx_wbf16(q, dx, dy, w, nw, m, k, alpha, beta, ws);
        return;
    }
    gemm g = {.y = dx, .w = pairs, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta, .pairs = true};
    g.dy = (b2_in){dy.p, dy.ld / 2, B2_F32};
    g.wf = B2_F32; /* a pair of rows has as many bytes as a row of floats */
    g.n = outputs(pairs, nw);
    run_dx(q, &g, ws);
}

size_t b2_avx512bf16_bf16_gemm_dx_ws(int m, int n, int k, int threads)
{
    const size_t own = dx_room(m, n / 2, k, threads) * sizeof(float);
    const size_t wide = b2_avx512_bf16_gemm_dx_ws(m, n, k, threads);
    return own > wide ? own : wide;
}

/* Few rows with quantised weights; false: more rows than that. */
static bool few_quantised(b2_queue *q, const b2_few *f, const b2_bf16 *x)
{
    if (f->m > B2_FEW_ROWS) return false;
    for (int i = 0; i < f->m; i++) b2_few_fix(f, x + (size_t)i * (size_t)f->k, i);
    if (f->m > 0) ISA_FN(few_quant)(q, f);
    return true;
}

void b2_avx512bf16_bf16_gemm_wi8(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                                 float alpha, float beta, void *ws)
{
    const b2_few f = {y, m, k, ws, w, nw, B2_I8, alpha, beta, 0};
    if (!few_quantised(q, &f, x)) b2_avx512_bf16_gemm_wi8(q, y, x, w, nw, m, k, alpha, beta, ws);
}

void b2_avx512bf16_bf16_gemm_wi4(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                                 float alpha, float beta, void *ws)
{
    const b2_few f = {y, m, k, ws, w, nw, B2_I4, alpha, beta, 0};
    if (!few_quantised(q, &f, x)) b2_avx512_bf16_gemm_wi4(q, y, x, w, nw, m, k, alpha, beta, ws);
}

size_t b2_avx512bf16_bf16_gemm_ws(int m, int n, int k, int threads)
{
    const size_t own = many_room(m, k / 2) * sizeof(float), wide = b2_avx512_bf16_gemm_ws(m, n, k, threads);
    return own > wide ? own : wide;
}
