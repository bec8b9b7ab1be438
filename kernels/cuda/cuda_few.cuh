/* y = x w^T for at most 16 rows of x, as generation has them: each weight is read once, and that is the
 * time it takes. */
#ifndef B2_KERNELS_CUDA_CUDA_FEW_CUH
#define B2_KERNELS_CUDA_CUDA_FEW_CUH
#include "kernels/cuda/gemm_mma.cuh"

enum { FEW_ROWS = 16, FEW_WARPS = 8, FEW_COLUMNS = 8, FEW_AHEAD = 4 };

/* 8 elements of bf16 from k on; none there: zeros. */
__device__ static inline uint4 few_piece(const bf16 *row, int k, int length)
{
    return row && k < length ? *(const uint4 *)(const void *)(row + k) : make_uint4(0, 0, 0, 0);
}

/* Tensor cores without shared memory: 8 columns a block, the terms dealt to its 8 warps 32 at a time. A
 * lane holds 8 neighbouring terms of its row of x and of its row of w; which four pairs of terms an
 * instruction multiplies with each other does not matter, as long as both sides agree. */
__global__ void __launch_bounds__(FEW_WARPS * 32, 3)
    few_mma_kernel(gemm_view<bf16> x, gemm_view<bf16> w, gemm_out c, int n)
{
    SHARED_ARR(float, room, FEW_WARPS *FEW_ROWS *FEW_COLUMNS);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4,
              o0 = (int)blockIdx.x * FEW_COLUMNS;
    const bf16 *row = gemm_row(w, o0 + g), *low = gemm_row(x, g), *high = gemm_row(x, g + 8);
    float sum[4] = {};
    for (int k0 = warp * 32; k0 < x.cols; k0 += FEW_AHEAD * FEW_WARPS * 32) {
        uint4 pw[FEW_AHEAD], pl[FEW_AHEAD], ph[FEW_AHEAD];
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) pw[i] = few_piece(row, k0 + i * FEW_WARPS * 32 + t * 8, x.cols);
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) {
            pl[i] = few_piece(low, k0 + i * FEW_WARPS * 32 + t * 8, x.cols);
            ph[i] = few_piece(high, k0 + i * FEW_WARPS * 32 + t * 8, x.cols);
        }
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) {
            const uint32_t a0[4] = {pl[i].x, ph[i].x, pl[i].y, ph[i].y},
                           a1[4] = {pl[i].z, ph[i].z, pl[i].w, ph[i].w};
            const uint32_t b0[2] = {pw[i].x, pw[i].y}, b1[2] = {pw[i].z, pw[i].w};
            k_mma_bf16(sum, a0, b0);
            k_mma_bf16(sum, a1, b1);
        }
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
template <int R, int V, class T, class W>
__global__ void __launch_bounds__(256, R > 4 ? 2 : 4)
    few_simt_kernel(gemm_view<T> x, gemm_view<W> w, gemm_out c, int n)
{
    const int lane = threadIdx.x % 32, o = (int)blockIdx.x * 8 + (int)threadIdx.x / 32;
    const W *row = gemm_row(w, o);
    float sum[R] = {};
    for (int k = lane * V; row && k < x.cols; k += 32 * V) {
        float fw[V], fx[V];
        k_get<V>(fw, row + k);
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

template <int R, class T, class W>
static void few_simt(b2_queue *q, const gemm_view<T> &x, const gemm_view<W> &w, const gemm_out &c)
{
    const bool wide =
        x.cols % 4 == 0 && k_fits<4>(x.block[0]) && k_fits<4>(w.block[0], w.block[1], w.block[2]);
    if (wide)
        k_launch(q, (few_simt_kernel<R, 4, T, W>), k_blocks(w.rows, 8), 256, 0, x, w, c, w.rows);
    else
        k_launch(q, (few_simt_kernel<R, 1, T, W>), k_blocks(w.rows, 8), 256, 0, x, w, c, w.rows);
}

template <class T, class W>
static void few_exact(b2_queue *q, const gemm_view<T> &x, const gemm_view<W> &w, const gemm_out &c)
{
    if (x.rows == 1)
        few_simt<1>(q, x, w, c);
    else if (x.rows <= 4)
        few_simt<4>(q, x, w, c);
    else
        few_simt<16>(q, x, w, c);
}

template <class T, class W>
static void few_rows(b2_queue *q, const gemm_view<T> &x, const gemm_view<W> &w, const gemm_out &c)
{
    if (x.rows > 0) few_exact(q, x, w, c);
}
static inline void few_rows(b2_queue *q, const gemm_view<bf16> &x, const gemm_view<bf16> &w,
                            const gemm_out &c)
{
    if (x.rows == 0) return;
    if (gemm_view_fits(x) && gemm_view_fits(w))
        k_launch(q, few_mma_kernel, k_blocks(w.rows, FEW_COLUMNS), FEW_WARPS * 32, 0, x, w, c, w.rows);
    else
        few_exact(q, x, w, c);
}
#endif
