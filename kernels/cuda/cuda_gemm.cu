/* Products with weight rows and their gradients, from 17 rows on (fewer: cuda_few.cu). Tensor cores where
 * both operands may be bf16; elsewhere f32 multiply-adds. Bounds: arithmetic, 2 m n k; 128 x 128 tiles
 * read each operand once per 128 of the other side, from L2 mostly. Where cuBLASLt is at hand it is asked
 * first (cublaslt.c): operands of one type, whole eights of columns. */
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cuda_few.cuh"
#include "kernels/cuda/gemm_mma.cuh"
#include "kernels/cuda/gemm_simt.cuh"

/* Terms of part p: whole steps of 32. */
__device__ static inline void gemm_range(int length, int parts, int p, int *first, int *end)
{
    const int steps = (length + 31) / 32, each = (steps + parts - 1) / parts;
    *first = min(p * each * 32, length);
    *end = min(*first + each * 32, length);
}

/* May a product's result be bf16? Those of a bf16 table whose rows are x or dy: all on tensor cores, with x
 * or dy of bf16, and dy times f32 weights, which both tables share. Parameters' gradients are f32. */
template <bool AA, bool BA, bool MMA, class VA, class VB> struct gemm_narrows {
    enum { VALUE = AA && (MMA || view_bf16<VA>::VALUE || (!BA && !view_narrow<VB>::VALUE)) };
};

/* Where the terms are cut into parts, c is the first part's: [m, n] of f32, the others' behind it. */
template <bool AA, bool BA, bool MMA, bool WIDE, class VA, class VB>
__global__ void __launch_bounds__(256)
    gemm_kernel(VA a, VB b, gemm_out c, int m, int n, int length, int parts)
{
    int first, end;
    gemm_range(length, parts, (int)blockIdx.z, &first, &end);
    if (parts > 1) c.y = (float *)c.y + (int64_t)blockIdx.z * m * n;
    constexpr bool narrow = gemm_narrows<AA, BA, MMA, VA, VB>::VALUE;
    if constexpr (MMA)
        mma_block<AA, BA, WIDE, narrow>(a, b, m, n, first, end, c);
    else
        simt_block<AA, BA, narrow>(a, b, m, n, first, end, c);
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
    if (m == 0 || n == 0) return;
    const gemm_out to = parts > 1 ? gemm_plain_out({ws, n, B2_F32}, 1.0f, 0.0f) : c;
    const bool wide = MMA && gemm_view_fits(a) && gemm_view_fits(b);
    if (wide) {
        k_launch(q, (gemm_kernel<AA, BA, MMA, MMA, VA, VB>), grid, 256, 0, a, b, to, m, n, length, parts);
    } else {
        k_launch(q, (gemm_kernel<AA, BA, MMA, false, VA, VB>), grid, 256, 0, a, b, to, m, n, length, parts);
    }
    if (parts > 1)
        k_launch(q, gemm_join_kernel, k_blocks((int64_t)m * n, 256), 256, 0, c, (const float *)ws, m, n,
                 parts);
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
static void gemm_wf32(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    if (sizeof(T) == 4 && b2_blas_forward(q, B2_F32, y, x, w, nw, m, k, alpha, beta, ws)) return;
    forward<T>(q, x, m, gemm_view_blocks<float>(w, nw, k), gemm_biased_out(y, alpha, beta, w, nw));
}
template <class T>
static void gemm_wbf16(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    if (sizeof(T) == 2 && b2_blas_forward(q, B2_BF16, y, x, w, nw, m, k, alpha, beta, ws)) return;
    forward<T>(q, x, m, gemm_view_blocks<bf16>(w, nw, k), gemm_biased_out(y, alpha, beta, w, nw));
}
/* Tensor cores multiply the bytes themselves; the f32 loop has met their scales already. */
template <class T>
static void gemm_wi8(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                     float alpha, float beta, void *ws)
{
    (void)ws;
    forward<T>(q, x, m, quant_view_blocks<int8_t>(w, nw, k),
               sizeof(T) == 2 ? gemm_scaled_out(y, alpha, beta, w, nw)
                              : gemm_biased_out(y, alpha, beta, w, nw));
}
template <class T>
static void gemm_wi4(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                     float alpha, float beta, void *ws)
{
    (void)ws;
    forward<T>(q, x, m, quant_view_blocks<uint16_t>(w, nw, k), gemm_biased_out(y, alpha, beta, w, nw));
}
static size_t gemm_ws(int m, int n, int k, int threads)
{
    (void)k, (void)threads;
    return b2_blas_forward_ws(m, n);
}

/* ---- dx = dy w: the terms run down w's rows ---- */

template <bool MMA, class VA, class VB>
static void backward_of(b2_queue *q, const b2_out &dx, const VA &dy, const VB &w, float alpha, float beta)
{
    gemm<true, false, MMA>(q, dy, w, gemm_plain_out(dx, alpha, beta), dy.rows, w.cols, w.rows, 1, NULL);
}
template <class T, bool MMA, class VB>
static void backward(b2_queue *q, const b2_out &dx, const b2_in &dy, int m, const VB &w, float alpha,
                     float beta)
{
    if (dy.type == B2_F32)
        backward_of<MMA>(q, dx, gemm_view_of<float>(dy.p, m, w.rows, dy.ld), w, alpha, beta);
    else
        backward_of<MMA>(q, dx, gemm_view_of<T>(dy.p, m, w.rows, dy.ld), w, alpha, beta);
}

template <class T>
static void gemm_dx_wf32(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                         float alpha, float beta, void *ws)
{
    if (sizeof(T) == 4 && b2_blas_dx(q, B2_F32, dx, dy, w, nw, m, k, alpha, beta, ws)) return;
    backward<T, false>(q, dx, dy, m, gemm_view_blocks<float>(w, nw, k), alpha, beta);
}
template <class T>
static void gemm_dx_wbf16(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                          float alpha, float beta, void *ws)
{
    if (sizeof(T) == 2 && b2_blas_dx(q, B2_BF16, dx, dy, w, nw, m, k, alpha, beta, ws)) return;
    backward<T, sizeof(T) == 2>(q, dx, dy, m, gemm_view_blocks<bf16>(w, nw, k), alpha, beta);
}
template <class T>
static void gemm_dx_wi8(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha,
                        float beta, void *ws)
{
    const i8_view b = quant_view_blocks<int8_t>(w, nw, k);
    (void)ws;
    if constexpr (sizeof(T) == 4)
        backward<T, false>(q, dx, dy, m, b, alpha, beta);
    else if (dy.type == B2_F32)
        backward_of<true>(q, dx, scaled_view_of<float>(dy, m, b), b, alpha, beta);
    else
        backward_of<true>(q, dx, scaled_view_of<T>(dy, m, b), b, alpha, beta);
}
template <class T>
static void gemm_dx_wi4(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha,
                        float beta, void *ws)
{
    (void)ws;
    backward<T, sizeof(T) == 2>(q, dx, dy, m, quant_view_blocks<uint16_t>(w, nw, k), alpha, beta);
}
static size_t gemm_dx_ws(int m, int n, int k, int threads)
{
    (void)k, (void)threads;
    return b2_blas_backward_ws(m, n);
}

/* ---- dw += dy^T x: the terms run down both ---- */

/* Parts are laid out for the larger tiles of tensor cores; both tables take the same. */
static int dw_parts(int m, int n, int k)
{
    return gemm_parts(k_blocks(n, MMA_SIDE) * k_blocks(k, MMA_SIDE), m);
}
template <class T>
static void gemm_dw(b2_queue *q, float *dw, b2_in dy, const void *x, int m, int n, int k, float alpha,
                    void *ws)
{
    const gemm_view<T> b = gemm_view_of<T>(x, m, k, k);
    const gemm_out c = gemm_plain_out({dw, k, B2_F32}, alpha, 1.0f);
    const int parts = dw_parts(m, n, k);
    constexpr bool mma = sizeof(T) == 2;
    if (m == 0 || b2_blas_dw(q, mma ? B2_BF16 : B2_F32, dw, dy, x, m, n, k, alpha, ws)) return;
    if (dy.type == B2_F32)
        gemm<false, false, mma>(q, gemm_view_of<float>(dy.p, m, n, dy.ld), b, c, n, k, m, parts, ws);
    else
        gemm<false, false, mma>(q, gemm_view_of<T>(dy.p, m, n, dy.ld), b, c, n, k, m, parts, ws);
}
static size_t gemm_dw_ws(int m, int n, int k, int threads)
{
    (void)threads;
    const int parts = dw_parts(m, n, k);
    const size_t own = parts > 1 ? (size_t)parts * (size_t)n * (size_t)k * sizeof(float) : 0;
    const size_t library = b2_blas_backward_ws(m, n);
    return own > library ? own : library;
}

K_EXPORT(gemm_wf32,
         (b2_queue * q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wbf16,
         (b2_queue * q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wi8,
         (b2_queue * q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_wi4,
         (b2_queue * q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k, float alpha,
          float beta, void *ws),
         (q, y, x, w, nw, m, k, alpha, beta, ws))
K_EXPORT_WS(gemm_ws, (int m, int n, int k, int threads), (m, n, k, threads))
K_EXPORT(gemm_dx_wf32,
         (b2_queue * q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha, float beta,
          void *ws),
         (q, dx, dy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wbf16,
         (b2_queue * q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha, float beta,
          void *ws),
         (q, dx, dy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wi8,
         (b2_queue * q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha, float beta,
          void *ws),
         (q, dx, dy, w, nw, m, k, alpha, beta, ws))
K_EXPORT(gemm_dx_wi4,
         (b2_queue * q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha, float beta,
          void *ws),
         (q, dx, dy, w, nw, m, k, alpha, beta, ws))
K_EXPORT_WS(gemm_dx_ws, (int m, int n, int k, int threads), (m, n, k, threads))
K_EXPORT(gemm_dw,
         (b2_queue * q, float *dw, b2_in dy, const void *x, int m, int n, int k, float alpha, void *ws),
         (q, dw, dy, x, m, n, k, alpha, ws))
K_EXPORT_WS(gemm_dw_ws, (int m, int n, int k, int threads), (m, n, k, threads))
