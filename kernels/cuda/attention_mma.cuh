/* Attention on tensor cores, what forward and backward share. Rows of q, k, v and dctx are copied into
 * shared memory as they are; scores and sums are f32. A warp makes 16 rows by 64 columns of scores at a time.
 * Fragments as k_mma_bf16 has them: a lane (g, t) holds rows g and g + 8 of its strip, columns 2t and 2t + 1
 * of every 8. */
#ifndef B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#define B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/vectors.cuh"

#define ATTN_LOG2E 1.4426950408889634f

/* A row in shared memory, of a head of up to 8 N columns. Products take 16 of them at a time: zeros fill the
 * last ones. LD is an odd number of 16 bytes, so that the 8 rows of a matrix lie in different banks. */
template <int N> struct attn_mma_line {
    enum { WIDTH = (N + 1) / 2 * 16, LD = WIDTH + 8, PIECES = WIDTH / 8 /* of 8 columns */ };
};

/* Rows of q, k, v or dctx. wide: 8 columns may be copied at a time, by 16 bytes. */
struct attn_mma_rows {
    const bf16 *from;
    int64_t ld;
    int rows, dim;
    bool wide;
};

/* May those of q, k and v be copied so? */
static inline bool attn_mma_wide(const b2_attn *a)
{
    return (a->dim | a->ldq | a->ldk | a->ldv) % 8 == 0 &&
           k_fits<8>((const bf16 *)a->q, (const bf16 *)a->k, (const bf16 *)a->v);
}

/* 8 columns of a row, `left` of them there, the rest 0. */
__device__ static inline uint4 attn_mma_piece(const bf16 *at, int left)
{
    float x[8];
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = j < left ? k_load(at[j]) : 0.0f;
    return make_uint4(k_pack_bf16(x[0], x[1]), k_pack_bf16(x[2], x[3]), k_pack_bf16(x[4], x[5]),
                      k_pack_bf16(x[6], x[7]));
}

/* ROWS rows from `first` on, by a block of THREADS: each some rows' same 8 columns. They may be on their
 * way afterwards: the caller commits and waits. */
template <int N, int ROWS, int THREADS>
__device__ static inline void attn_mma_load(bf16 *to, const attn_mma_rows &m, int first)
{
    typedef attn_mma_line<N> L;
    constexpr int STEP = THREADS / L::PIECES;
    const int r0 = (int)threadIdx.x / L::PIECES, c = (int)threadIdx.x % L::PIECES * 8;
    const bf16 *at = m.from + (first + r0) * m.ld + c;
    const int rows = m.rows - first, left = m.dim - c;
    if (r0 >= STEP) return;
    to += c;
    if (!m.wide) {
#pragma unroll 1
        for (int r = r0; r < ROWS; r += STEP, at += STEP * m.ld)
            *(uint4 *)(void *)(to + r * L::LD) = attn_mma_piece(at, r < rows ? left : 0);
        return;
    }
#pragma unroll
    for (int i = 0; i < (ROWS + STEP - 1) / STEP; i++, at += STEP * m.ld) {
        const int r = r0 + i * STEP;
        const bool there = r < rows && left > 0;
        if (ROWS % STEP && r >= ROWS) break;
        k_copy_async16(to + r * L::LD, there ? at : m.from, there ? 16 : 0);
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
