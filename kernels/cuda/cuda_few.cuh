/* y = x w^T for at most 16 rows of x, as generation has them: each weight is read once, and that is the
 * time it takes. */
#ifndef B2_KERNELS_CUDA_CUDA_FEW_CUH
#define B2_KERNELS_CUDA_CUDA_FEW_CUH
#include "kernels/cuda/gemm_mma.cuh"

enum { FEW_ROWS = 16, FEW_WARPS = 8, FEW_COLUMNS = 8, FEW_AHEAD = 4 };

/* ---- tensor cores without shared memory: 8 columns a block, the terms dealt to its 8 warps. A lane holds
 * some terms of its row of x and of its row of w; which pairs of terms an instruction multiplies with each
 * other does not matter, as long as both sides agree. A policy says which TERMS a warp takes at a time,
 * how a lane loads its part of w, and how it multiplies. ---- */

/* N elements of bf16 from k on, 8 or 4; none there: zeros. */
__device__ static inline uint4 few_eight(const bf16 *row, int k, int length)
{
    return row && k < length ? *(const uint4 *)(const void *)(row + k) : make_uint4(0, 0, 0, 0);
}
__device__ static inline uint2 few_four(const bf16 *row, int k, int length)
{
    return row && k < length ? *(const uint2 *)(const void *)(row + k) : make_uint2(0, 0);
}
/* 8 terms of two rows of x with 8 of w. */
__device__ static inline void few_multiply(float sum[4], uint4 low, uint4 high, uint4 w)
{
    const uint32_t a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
    const uint32_t b0[2] = {w.x, w.y}, b1[2] = {w.z, w.w};
    k_mma_bf16(sum, a0, b0);
    k_mma_bf16(sum, a1, b1);
}

/* Lane t of four takes the 8 terms from 8t on. */
struct few_bf16 {
    enum { TERMS = 32 };
    typedef gemm_view<bf16> view;
    uint4 w;
    __device__ void load(const view &v, int o, int k, int t)
    {
        w = few_eight(gemm_row(v, o), k + t * 8, v.cols);
    }
    __device__ void multiply(float sum[4], const bf16 *low, const bf16 *high, int k, int t, int length) const
    {
        few_multiply(sum, few_eight(low, k + t * 8, length), few_eight(high, k + t * 8, length), w);
    }
};
struct few_i8 {
    enum { TERMS = 32 };
    typedef i8_view view;
    uint2 w;
    __device__ void load(const view &v, int o, int k, int t)
    {
        const int8_t *row = gemm_row(v.v, o);
        const bool there = row && k + t * 8 < v.cols;
        w = there ? *(const uint2 *)(const void *)(row + k + t * 8) : make_uint2(0, 0);
    }
    __device__ void multiply(float sum[4], const bf16 *low, const bf16 *high, int k, int t, int length) const
    {
        const uint2 a = i8_pairs(w.x), b = i8_pairs(w.y);
        few_multiply(sum, few_eight(low, k + t * 8, length), few_eight(high, k + t * 8, length),
                     make_uint4(a.x, a.y, b.x, b.y));
    }
};
/* A group: lane t takes its words 4t to 4t+3, terms 16n + 4t.. of x with nibble n. */
struct few_i4 {
    enum { TERMS = B2_I4_GROUP };
    typedef i4_view view;
    uint2 w;
    float scale;
    __device__ void load(const view &v, int o, int k, int t)
    {
        const uint16_t *row = gemm_row(v.v, o);
        const bool there = row && k < v.cols;
        w = there ? *(const uint2 *)(const void *)(row + k / B2_I4_GROUP * 16 + t * 4) : make_uint2(0, 0);
        scale = there ? i4_scale(v, o, k / B2_I4_GROUP) : 0.0f;
    }
    __device__ void multiply(float sum[4], const bf16 *low, const bf16 *high, int k, int t, int length) const
    {
        const uint32_t ss = k_pack_bf16(scale, scale);
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const uint2 l = few_four(low, k + n * 16 + t * 4, length),
                        h = few_four(high, k + n * 16 + t * 4, length);
            const uint32_t a[4] = {l.x, h.x, l.y, h.y}, b[2] = {i4_pair(w.x, n, ss), i4_pair(w.y, n, ss)};
            k_mma_bf16(sum, a, b);
        }
    }
};

template <class P>
__global__ void __launch_bounds__(FEW_WARPS * 32, 3)
    few_mma_kernel(gemm_view<bf16> x, typename P::view w, gemm_out c, int n)
{
    SHARED_ARR(float, room, FEW_WARPS *FEW_ROWS *FEW_COLUMNS);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4,
              o0 = (int)blockIdx.x * FEW_COLUMNS, step = FEW_WARPS * (int)P::TERMS;
    const bf16 *low = gemm_row(x, g), *high = gemm_row(x, g + 8);
    float sum[4] = {};
    for (int k0 = warp * P::TERMS; k0 < x.cols; k0 += FEW_AHEAD * step) {
        P part[FEW_AHEAD];
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) part[i].load(w, o0 + g, k0 + i * step, t);
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) part[i].multiply(sum, low, high, k0 + i * step, t, x.cols);
    }
    float *mine = room + warp * FEW_ROWS * FEW_COLUMNS;
    mine[g * FEW_COLUMNS + t * 2] = sum[0];
    mine[g * FEW_COLUMNS + t * 2 + 1] = sum[1];
    mine[(g + 8) * FEW_COLUMNS + t * 2] = sum[2];
    mine[(g + 8) * FEW_COLUMNS + t * 2 + 1] = sum[3];
    __syncthreads();
    const int at = threadIdx.x, i = at / FEW_COLUMNS, o = o0 + at % FEW_COLUMNS;
    if (at < FEW_ROWS * FEW_COLUMNS && i < x.rows && o < n) {
        float total = 0.0f;
        for (int p = 0; p < FEW_WARPS; p++) total += room[p * FEW_ROWS * FEW_COLUMNS + at];
        gemm_store(c, i, o, total);
    }
}

/* Any types, nothing rounded: a warp a column, R rows of x at once. */
template <int R, int V, class T, class VW>
__global__ void __launch_bounds__(256, R > 4 ? 2 : 4) few_simt_kernel(gemm_view<T> x, VW w, gemm_out c, int n)
{
    const int lane = threadIdx.x % 32, o = (int)blockIdx.x * 8 + (int)threadIdx.x / 32;
    float sum[R] = {};
    for (int k = lane * V; o < n && k < x.cols; k += 32 * V) {
        float fw[V], fx[V];
        view_get<V>(fw, w, o, k);
#pragma unroll
        for (int i = 0; i < R; i++) {
            if (i < x.rows) {
                k_get<V>(fx, x.block[0] + (int64_t)i * x.ld + k);
#pragma unroll
                for (int j = 0; j < V; j++) sum[i] = fmaf(fx[j], fw[j], sum[i]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        const float total = k_warp_sum(sum[i]);
        if (lane == 0 && i < x.rows && o < n) gemm_store(c, i, o, total);
    }
}

/* May its rows be read four elements at a time? Quantised ones are read one by one. */
template <class W> static inline bool few_fits(const gemm_view<W> &w)
{
    return k_fits<4>(w.block[0], w.block[1], w.block[2]);
}
template <class Q> static inline bool few_fits(const quant_view<Q> &w)
{
    (void)w;
    return true;
}

template <int R, class T, class VW>
static void few_simt(b2_queue *q, const gemm_view<T> &x, const VW &w, const gemm_out &c)
{
    if (x.cols % 4 == 0 && k_fits<4>(x.block[0]) && few_fits(w))
        k_launch(q, (few_simt_kernel<R, 4, T, VW>), k_blocks(w.rows, 8), 256, 0, x, w, c, w.rows);
    else
        k_launch(q, (few_simt_kernel<R, 1, T, VW>), k_blocks(w.rows, 8), 256, 0, x, w, c, w.rows);
}

template <class T, class VW>
static void few_exact(b2_queue *q, const gemm_view<T> &x, const VW &w, gemm_out c)
{
    for (int i = 0; i < 3; i++) c.scale[i] = NULL; /* elements have met their scales */
    if (x.rows == 1)
        few_simt<1>(q, x, w, c);
    else if (x.rows <= 4)
        few_simt<4>(q, x, w, c);
    else
        few_simt<16>(q, x, w, c);
}

template <class P>
static void few_mma(b2_queue *q, const gemm_view<bf16> &x, const typename P::view &w, const gemm_out &c)
{
    if (x.rows == 0) return;
    if (gemm_view_fits(x) && gemm_view_fits(w))
        k_launch(q, few_mma_kernel<P>, k_blocks(w.rows, FEW_COLUMNS), FEW_WARPS * 32, 0, x, w, c, w.rows);
    else
        few_exact(q, x, w, c);
}

template <class T, class VW>
static void few_rows(b2_queue *q, const gemm_view<T> &x, const VW &w, const gemm_out &c)
{
    if (x.rows > 0) few_exact(q, x, w, c);
}
static inline void few_rows(b2_queue *q, const gemm_view<bf16> &x, const gemm_view<bf16> &w,
                            const gemm_out &c)
{
    few_mma<few_bf16>(q, x, w, c);
}
static inline void few_rows(b2_queue *q, const gemm_view<bf16> &x, const i8_view &w, const gemm_out &c)
{
    few_mma<few_i8>(q, x, w, c);
}
static inline void few_rows(b2_queue *q, const gemm_view<bf16> &x, const i4_view &w, const gemm_out &c)
{
    few_mma<few_i4>(q, x, w, c);
}
#endif
