/* Products with weight rows and their gradients, from 17 rows on (fewer: cuda_few.cu). Tensor cores where
 * both operands may be bf16; elsewhere f32 multiply-adds. Bounds: arithmetic, 2 m n k; 128 x 128 tiles
 * read each operand once per 128 of the other side, from L2 mostly. Where cuBLASLt is at hand it is asked
 * first (cublaslt.c): operands of one type, whole eights of columns. */
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cuda_few.cuh"
#include "kernels/cuda/gemm_mma.cuh"
#include "kernels/cuda/gemm_simt.cuh"
#include "kernels/cuda/round_rows.h"

/* What becomes of a sum: the result itself or, where the terms are cut into parts, one of them in the
 * workspace. */
struct gemm_to {
    gemm_out c;
    float *part; /* NULL: the result */
    int n;
    __device__ void operator()(int i, int o, float sum) const
    {
        if (part)
            part[(int64_t)i * n + o] = sum;
        else
            gemm_store(c, i, o, sum);
    }
};

/* Terms of part p: whole steps of 32. */
__device__ static inline void gemm_range(int length, int parts, int p, int *first, int *end)
{
    const int steps = (length + 31) / 32, each = (steps + parts - 1) / parts;
    *first = min(p * each * 32, length);
    *end = min(*first + each * 32, length);
}

template <bool AA, bool BA, bool MMA, bool WIDE, class VA, class VB>
__global__ void __launch_bounds__(256)
    gemm_kernel(VA a, VB b, gemm_out c, int m, int n, int length, int parts, float *part)
{
    int first, end;
    gemm_range(length, parts, (int)blockIdx.z, &first, &end);
    const gemm_to to = {c, parts > 1 ? part + (int64_t)blockIdx.z * m * n : NULL, n};
    if constexpr (MMA)
        mma_block<AA, BA, WIDE>(a, b, m, n, first, end, to);
    else
        simt_block<AA, BA>(a, b, m, n, first, end, to);
}

/* The parts of each sum, added in order. Memory bounds it. */
__global__ void __launch_bounds__(256)
    gemm_join_kernel(gemm_out c, const float *part, int m, int n, int parts)
{
    const int64_t at = (int64_t)blockIdx.x * 256 + threadIdx.x, size = (int64_t)m * n;
    if (at >= size) return;
    float sum = 0.0f;
    for (int p = 0; p < parts; p++) sum += part[at + p * size];
    gemm_store(c, (int)(at / n), (int)(at % n), sum);
}

template <bool AA, bool BA, bool MMA, class VA, class VB>
static void gemm(b2_queue *q, const VA &a, const VB &b, const gemm_out &c, int m, int n, int length,
                 int parts, void *ws)
{
    const int side = MMA ? (int)MMA_SIDE : (int)SIMT_SIDE;
    const dim3 grid(k_blocks(n, side), k_blocks(m, side), parts);
    float *part = (float *)ws;
    if (m == 0 || n == 0) return;
    const bool wide = MMA && gemm_view_fits(a) && gemm_view_fits(b);
    if (wide) {
        k_launch(q, (gemm_kernel<AA, BA, MMA, MMA, VA, VB>), grid, 256, 0, a, b, c, m, n, length, parts,
                 part);
    } else {
        k_launch(q, (gemm_kernel<AA, BA, MMA, false, VA, VB>), grid, 256, 0, a, b, c, m, n, length, parts,
                 part);
    }
    if (parts > 1) k_launch(q, gemm_join_kernel, k_blocks((int64_t)m * n, 256), 256, 0, c, part, m, n, parts);
}

/* ---- y = x w^T ---- */

template <class T, class VB>
static void forward(b2_queue *q, const void *x, int m, const VB &b, const gemm_out &c)
{
    const gemm_view<T> a = gemm_view_of<T>(x, m, b.cols, b.cols);
    if (m <= FEW_ROWS)
        few_rows(q, a, b, c);
    else
        gemm<true, true, sizeof(T) == 2 && view_narrow<VB>::VALUE>(q, a, b, c, m, b.rows, b.cols, 1, NULL);
}

template <class T>
static void gemm_wf32(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    if (sizeof(T) == 4 && b2_blas_forward(q, B2_F32, y, ldy, x, w, nw, m, k, alpha, beta, ws)) return;
    forward<T>(q, x, m, gemm_view_blocks<float>(w, nw, k), gemm_biased_out(y, ldy, alpha, beta, w, nw));
}
template <class T>
static void gemm_wbf16(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    if (sizeof(T) == 2 && b2_blas_forward(q, B2_BF16, y, ldy, x, w, nw, m, k, alpha, beta, ws)) return;
    forward<T>(q, x, m, gemm_view_blocks<bf16>(w, nw, k), gemm_biased_out(y, ldy, alpha, beta, w, nw));
}
/* Tensor cores multiply the bytes themselves; the f32 loop has met their scales already. */
template <class T>
static void gemm_wi8(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                     float alpha, float beta, void *ws)
{
    (void)ws;
    forward<T>(q, x, m, quant_view_blocks<int8_t>(w, nw, k),
               sizeof(T) == 2 ? gemm_scaled_out(y, ldy, alpha, beta, w, nw)
                              : gemm_biased_out(y, ldy, alpha, beta, w, nw));
}
template <class T>
static void gemm_wi4(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                     float alpha, float beta, void *ws)
{
    (void)ws;
    forward<T>(q, x, m, quant_view_blocks<uint16_t>(w, nw, k), gemm_biased_out(y, ldy, alpha, beta, w, nw));
}
static size_t gemm_ws(int m, int n, int k, int threads)
{
    (void)n, (void)k, (void)threads;
    return b2_blas_ws(m);
}

/* ---- dx = dy w: the terms run down w's rows ---- */

/* What a gradient made narrow takes of a workspace, before what cuBLASLt wants. */
static size_t narrow_bytes(int rows, int cols) { return (size_t)rows * (size_t)cols * sizeof(bf16); }

template <bool MMA, class VA, class VB>
static void backward(b2_queue *q, float *dx, const VA &dy, const VB &w, float alpha, float beta)
{
    gemm<true, false, MMA>(q, dy, w, gemm_plain_out(dx, w.cols, alpha, beta), dy.rows, w.cols, w.rows, 1,
                           NULL);
}

template <class T>
static void gemm_dx_wf32(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                         int k, float alpha, float beta, void *ws)
{
    const gemm_view<float> b = gemm_view_blocks<float>(w, nw, k);
    if (sizeof(T) == 4 && b2_blas_dx(q, B2_F32, dx, dy, ldy, w, nw, m, k, alpha, beta, ws)) return;
    backward<false>(q, dx, gemm_view_of<float>(dy, m, b.rows, ldy), b, alpha, beta);
}
template <class T>
static void gemm_dx_wbf16(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                          int k, float alpha, float beta, void *ws)
{
    const gemm_view<bf16> b = gemm_view_blocks<bf16>(w, nw, k);
    if (sizeof(T) == 2 && b2_blas_takes(q, m, b.rows, k)) {
        b2_cuda_round_rows(q, ws, dy, ldy, m, b.rows);
        void *rest = (char *)ws + narrow_bytes(m, b.rows);
        if (b2_blas_dx(q, B2_BF16, dx, ws, b.rows, w, nw, m, k, alpha, beta, rest)) return;
    }
    backward<sizeof(T) == 2>(q, dx, gemm_view_of<float>(dy, m, b.rows, ldy), b, alpha, beta);
}
template <class T>
static void gemm_dx_wi8(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                        int k, float alpha, float beta, void *ws)
{
    const i8_view b = quant_view_blocks<int8_t>(w, nw, k);
    (void)ws;
    if constexpr (sizeof(T) == 2)
        backward<true>(q, dx, scaled_view_of(dy, m, ldy, b), b, alpha, beta);
    else
        backward<false>(q, dx, gemm_view_of<float>(dy, m, b.rows, ldy), b, alpha, beta);
}
template <class T>
static void gemm_dx_wi4(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                        int k, float alpha, float beta, void *ws)
{
    const i4_view b = quant_view_blocks<uint16_t>(w, nw, k);
    (void)ws;
    backward<sizeof(T) == 2>(q, dx, gemm_view_of<float>(dy, m, b.rows, ldy), b, alpha, beta);
}
static size_t gemm_dx_ws(int m, int n, int k, int threads)
{
    (void)k, (void)threads;
    return narrow_bytes(m, n) + b2_blas_ws(m);
}

/* ---- dw += dy^T x: the terms run down both ---- */

/* Parts are laid out for the smaller tiles of the f32 loop; both tables take the same. */
static int dw_parts(int m, int n, int k)
{
    return gemm_parts(k_blocks(n, MMA_SIDE) * k_blocks(k, MMA_SIDE), m);
}
template <class T>
static void gemm_dw(b2_queue *q, float *dw, const float *dy, int ldy, const void *x, int m, int n, int k,
                    float alpha, void *ws)
{
    if (m == 0) return;
    if (sizeof(T) == 4 && b2_blas_dw(q, B2_F32, dw, dy, ldy, x, m, n, k, alpha, ws)) return;
    if (sizeof(T) == 2 && b2_blas_takes(q, m, n, k)) {
        b2_cuda_round_rows(q, ws, dy, ldy, m, n);
        void *rest = (char *)ws + narrow_bytes(m, n);
        if (b2_blas_dw(q, B2_BF16, dw, ws, n, x, m, n, k, alpha, rest)) return;
    }
    const gemm_view<float> a = gemm_view_of<float>(dy, m, n, ldy);
    const gemm_view<T> b = gemm_view_of<T>(x, m, k, k);
    gemm<false, false, sizeof(T) == 2>(q, a, b, gemm_plain_out(dw, k, alpha, 1.0f), n, k, m,
                                       dw_parts(m, n, k), ws);
}
static size_t gemm_dw_ws(int m, int n, int k, int threads)
{
    (void)threads;
    const int parts = dw_parts(m, n, k);
    const size_t own = parts > 1 ? (size_t)parts * (size_t)n * (size_t)k * sizeof(float) : 0;
    const size_t library = narrow_bytes(m, n) + b2_blas_ws(m);
    return own > library ? own : library;
}

K_EXPORT(gemm_wf32,
         (b2_queue * q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, ldy, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wbf16,
         (b2_queue * q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, ldy, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wi8,
         (b2_queue * q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, ldy, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wi4,
         (b2_queue * q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, ldy, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT_WS(gemm_ws, (int m, int n, int k, int threads), (m, n, k, threads))
K_EXPORT(gemm_dx_wf32,
         (b2_queue * q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m, int k,
          float alpha, float beta, void *ws),
         (q, dx, dy, ldy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wbf16,
         (b2_queue * q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m, int k,
          float alpha, float beta, void *ws),
         (q, dx, dy, ldy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wi8,
         (b2_queue * q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m, int k,
          float alpha, float beta, void *ws),
         (q, dx, dy, ldy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wi4,
         (b2_queue * q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m, int k,
          float alpha, float beta, void *ws),
         (q, dx, dy, ldy, w, nw, m, k, alpha, beta, ws))
K_EXPORT_WS(gemm_dx_ws, (int m, int n, int k, int threads), (m, n, k, threads))
K_EXPORT(gemm_dw,
         (b2_queue * q, float *dw, const float *dy, int ldy, const void *x, int m, int n, int k, float alpha,
          void *ws),
         (q, dw, dy, ldy, x, m, n, k, alpha, ws))
K_EXPORT_WS(gemm_dw_ws, (int m, int n, int k, int threads), (m, n, k, threads))
