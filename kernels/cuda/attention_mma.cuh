/* Attention on tensor cores, what forward and backward share. Rows of q, k, v and dctx are rounded to bf16
 * on their way into shared memory; scores, sums and results are f32. A warp makes 16 rows by 64 columns of
 * scores at a time. Fragments as k_mma_bf16 has them: a lane (g, t) holds rows g and g + 8 of its strip,
 * columns 2t and 2t + 1 of every 8. */
#ifndef B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#define B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/vectors.cuh"

#define ATTN_LOG2E 1.4426950408889634f

/* A row in shared memory, of a head of up to 8 N columns. Products take 16 of them at a time: zeros fill the
 * last ones. LD is an odd number of 16 bytes, so that the 8 rows of a matrix lie in different banks. */
template <int N> struct attn_mma_line {
    enum { WIDTH = (N + 1) / 2 * 16, LD = WIDTH + 8, PIECES = WIDTH / 4 /* of 4 columns */ };
};

/* Rows of q, k, v or dctx: addresses, and whether 4 columns may be read at a time. */
struct attn_mma_rows {
    const float *from;
    int64_t ld;
    int rows, dim;
    bool wide;
};

/* 4 columns of a row; what is not there is 0. */
__device__ static inline float4 attn_mma_piece(const attn_mma_rows &m, int r, int c)
{
    const float *at = m.from + r * m.ld + c;
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (r >= m.rows || c >= m.dim) return x;
    if (m.wide) return *(const float4 *)(const void *)at;
    x.x = at[0];
    if (c + 1 < m.dim) x.y = at[1];
    if (c + 2 < m.dim) x.z = at[2];
    if (c + 3 < m.dim) x.w = at[3];
    return x;
}
__device__ static inline void attn_mma_place(bf16 *to, float4 x)
{
    *(uint2 *)(void *)to = make_uint2(k_pack_bf16(x.x, x.y), k_pack_bf16(x.z, x.w));
}

/* 64 rows from `first` on, by a block of 128 threads. */
template <int N> __device__ static inline void attn_mma_load(bf16 *to, const attn_mma_rows &m, int first)
{
    typedef attn_mma_line<N> L;
#pragma unroll 8
    for (int i = 0; i < L::PIECES / 2; i++) {
        const int at = (int)threadIdx.x + i * 128, r = at / L::PIECES, c = at % L::PIECES * 4;
        attn_mma_place(to + r * L::LD + c, attn_mma_piece(m, first + r, c));
    }
}

/* s = x y^T: 16 rows of x, 64 of y; groups of 16 rows of y from n on are left at 0. */
template <int N, bool WHOLE>
__device__ static inline void attn_mma_product(float (*s)[4], const bf16 *x, const bf16 *y, int n)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16, ld = attn_mma_line<N>::LD;
#pragma unroll
    for (int i = 0; i < 32; i++) s[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int d = 0; d < attn_mma_line<N>::WIDTH; d += 16) {
        uint32_t fx[4], fy[4];
        k_ldmatrix_x4(fx, x + (low + b3 * 8) * ld + d + b4 * 8);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (!WHOLE && 16 * j >= n) continue;
            k_ldmatrix_x4(fy, y + (16 * j + low + b4 * 8) * ld + d + b3 * 8);
            k_mma_bf16(s[2 * j], fx, fy);
            k_mma_bf16(s[2 * j + 1], fx, fy + 2);
        }
    }
}

template <int N>
__device__ static inline void attn_mma_dots(float (*s)[4], const bf16 *x, const bf16 *y, int n)
{
    if (n == 64)
        attn_mma_product<N, true>(s, x, y, n);
    else
        attn_mma_product<N, false>(s, x, y, n);
}

/* A product's results as the first operand of the next one. */
__device__ static inline void attn_mma_pack(uint32_t (*p)[4], const float (*s)[4])
{
#pragma unroll
    for (int j = 0; j < 16; j++) p[j / 4][j % 4] = k_pack_bf16(s[j / 2][j % 2 * 2], s[j / 2][j % 2 * 2 + 1]);
}

/* out += p m over the first n of 64 rows of m, which are as long as N says; 8 M columns of them. */
template <int N, int M = N>
__device__ static inline void attn_mma_gather(float (*out)[4], const uint32_t (*p)[4], const bf16 *m, int n)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16, ld = attn_mma_line<N>::LD;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (16 * j >= n) break;
#pragma unroll
        for (int c = 0; c < M; c += 2) {
            uint32_t fm[4];
            k_ldmatrix_x4_trans(fm, m + (16 * j + low + b3 * 8) * ld + 8 * c + b4 * 8);
            k_mma_bf16(out[c], p[j], fm);
            if (c + 1 < M) k_mma_bf16(out[c + 1], p[j], fm + 2);
        }
    }
}

/* A score in units of log 2. */
__device__ static inline float attn_mma_score(const b2_attn &a, const attn_view &view, int i, int j,
                                              float dot)
{
    const float x = dot * (a.scale * ATTN_LOG2E);
    return view.bias ? fmaf(view.bias[j - view.at - i], ATTN_LOG2E, x) : x;
}
/* Over the 4 lanes that share rows, in each of them. */
__device__ static inline float attn_mma_sum(float x)
{
    x += __shfl_xor_sync(K_ALL_LANES, x, 1);
    return x + __shfl_xor_sync(K_ALL_LANES, x, 2);
}
#endif
