/* The shared loop of products that round nothing: f32 multiply-adds on the ordinary cores, operands of
 * either type. A block makes 64 x 64 of c with 256 threads of 4 x 4, 16 terms at a time. */
#ifndef B2_KERNELS_CUDA_GEMM_SIMT_CUH
#define B2_KERNELS_CUDA_GEMM_SIMT_CUH
#include "kernels/cuda/gemm_quant.cuh"

enum {
    SIMT_SIDE = 64,
    SIMT_STEP = 16,
    SIMT_THREADS = 256,
    SIMT_LD = SIMT_SIDE + 4,
    SIMT_EACH = SIMT_SIDE * SIMT_STEP / SIMT_THREADS
};

/* This thread's elements of a tile; neighbours read neighbours. `along`: terms run along the columns. */
template <bool ALONG, class V>
__device__ static inline void simt_fetch(float *x, const V &v, int side, int term, int end)
{
#pragma unroll
    for (int i = 0; i < SIMT_EACH; i++) {
        const int at = (int)threadIdx.x + i * SIMT_THREADS;
        const int s = side + (ALONG ? at / SIMT_STEP : at % SIMT_SIDE),
                  k = term + (ALONG ? at % SIMT_STEP : at / SIMT_SIDE);
        const int r = ALONG ? s : k, c = ALONG ? k : s;
        x[i] = k < end && r < v.rows && c < v.cols ? view_element(v, r, c) : 0.0f;
    }
}

template <bool ALONG> __device__ static inline void simt_put(float *to, const float *x)
{
#pragma unroll
    for (int i = 0; i < SIMT_EACH; i++) {
        const int at = (int)threadIdx.x + i * SIMT_THREADS;
        const int s = ALONG ? at / SIMT_STEP : at % SIMT_SIDE, k = ALONG ? at % SIMT_STEP : at / SIMT_SIDE;
        to[k * SIMT_LD + s] = x[i];
    }
}

__device__ static inline void simt_multiply(float (*sum)[4], const float *a, const float *b, int m0, int n0)
{
#pragma unroll
    for (int k = 0; k < SIMT_STEP; k++) {
        const float4 fa = *(const float4 *)(const void *)(a + k * SIMT_LD + m0);
        const float4 fb = *(const float4 *)(const void *)(b + k * SIMT_LD + n0);
        const float xa[4] = {fa.x, fa.y, fa.z, fa.w}, xb[4] = {fb.x, fb.y, fb.z, fb.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) sum[i][j] = fmaf(xa[i], xb[j], sum[i][j]);
        }
    }
}

template <bool AA, bool BA, bool NARROW, class VA, class VB>
__device__ static inline void simt_block(const VA &a, const VB &b, int m, int n, int first, int end,
                                         const gemm_out &c)
{
    SHARED_ARR(float, sa, 2 * SIMT_STEP * SIMT_LD);
    SHARED_ARR(float, sb, 2 * SIMT_STEP * SIMT_LD);
    const int m0 = (int)threadIdx.x / 16 * 4, n0 = (int)threadIdx.x % 16 * 4;
    const int am = (int)blockIdx.y * SIMT_SIDE, bn = (int)blockIdx.x * SIMT_SIDE;
    float sum[4][4] = {}, xa[SIMT_EACH], xb[SIMT_EACH];
    simt_fetch<AA>(xa, a, am, first, end);
    simt_fetch<BA>(xb, b, bn, first, end);
    simt_put<AA>(sa, xa);
    simt_put<BA>(sb, xb);
    __syncthreads();
    for (int k = first, half = 0; k < end; k += SIMT_STEP, half ^= SIMT_STEP * SIMT_LD) {
        const int other = half ^ (SIMT_STEP * SIMT_LD);
        const bool more = k + SIMT_STEP < end;
        if (more) {
            simt_fetch<AA>(xa, a, am, k + SIMT_STEP, end);
            simt_fetch<BA>(xb, b, bn, k + SIMT_STEP, end);
        }
        simt_multiply(sum, sa + half, sb + half, m0, n0);
        if (more) {
            simt_put<AA>(sa + other, xa);
            simt_put<BA>(sb + other, xb);
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
        gemm_store_twos<NARROW, 4>(
            c, bn + n0 + j, m, n, [&](int k) { return am + m0 + k; }, [&](int k) { return sum[k] + j; });
    }
}
#endif
