/* The shared loop of products on tensor cores: c = a b with bf16 operands and f32 sums. A block makes 128
 * x 128 of c with 8 warps of 64 x 32, 32 terms at a time: while one step is multiplied, the next one is on
 * its way to registers, and goes to the other half of shared memory. An operand lies with its terms along
 * the columns (ALONG: x and w of x w^T) or down the rows (w of dy w); f32 operands (dy, where it is f32) are
 * rounded on the way. */
#ifndef B2_KERNELS_CUDA_GEMM_MMA_CUH
#define B2_KERNELS_CUDA_GEMM_MMA_CUH
#include "kernels/cuda/gemm_quant.cuh"

enum { MMA_SIDE = 128, MMA_STEP = 32, MMA_THREADS = 256, MMA_PIECES = MMA_SIDE * MMA_STEP / 8 / MMA_THREADS };

/* One operand's tile in shared memory, as it lies in global memory. Rows are padded so that the 8 rows
 * that ldmatrix reads at once start in different banks: 80 and 272 bytes. */
template <bool ALONG> struct mma_tile {
    enum {
        COLS = ALONG ? MMA_STEP : MMA_SIDE,
        LD = COLS + 8,
        ROWS = ALONG ? MMA_SIDE : MMA_STEP,
        SIZE = ROWS * LD,
        ROW_PIECES = COLS / 8
    };
};

/* 8 elements of row r from column c on, of which `cols` exist, as bf16. */
template <bool WIDE, class T>
__device__ static inline uint4 view_piece(const gemm_view<T> &v, int r, int c, int cols)
{
    const T *row = gemm_row(v, r);
    float x[8];
    if (!row || c >= cols) return make_uint4(0, 0, 0, 0);
    if (WIDE && c + 8 <= cols) {
        if (sizeof(T) == 2) return *(const uint4 *)(const void *)(row + c);
        k_get<8>(x, row + c);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = c + j < cols ? k_load(row[c + j]) : 0.0f;
    }
    return make_uint4(k_pack_bf16(x[0], x[1]), k_pack_bf16(x[2], x[3]), k_pack_bf16(x[4], x[5]),
                      k_pack_bf16(x[6], x[7]));
}

/* This thread's pieces of the tile at `side` (first row or column of c) and `term`. */
template <bool ALONG, bool WIDE, class V>
__device__ static inline void mma_fetch(uint4 *piece, const V &v, int side, int term, int end)
{
    typedef mma_tile<ALONG> tile;
#pragma unroll
    for (int i = 0; i < MMA_PIECES; i++) {
        const int at = (int)threadIdx.x + i * MMA_THREADS, r = at / tile::ROW_PIECES,
                  c = at % tile::ROW_PIECES * 8;
        if (ALONG) {
            piece[i] = view_piece<WIDE>(v, side + r, term + c, end);
        } else {
            piece[i] = view_piece<WIDE>(v, term + r < end ? term + r : v.rows, side + c, v.cols);
        }
    }
}

template <bool ALONG> __device__ static inline void mma_put(bf16 *to, const uint4 *piece)
{
    typedef mma_tile<ALONG> tile;
#pragma unroll
    for (int i = 0; i < MMA_PIECES; i++) {
        const int at = (int)threadIdx.x + i * MMA_THREADS, r = at / tile::ROW_PIECES,
                  c = at % tile::ROW_PIECES * 8;
        *(uint4 *)(void *)(to + r * tile::LD + c) = piece[i];
    }
}

/* Fragment of a (16 rows from m, 16 terms from k) and fragments of b (two times 8 columns from n). */
template <bool ALONG> __device__ static inline void mma_load_a(uint32_t r[4], const bf16 *a, int m, int k)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16;
    if (ALONG) {
        k_ldmatrix_x4(r, a + (m + low + b3 * 8) * mma_tile<true>::LD + k + b4 * 8);
    } else {
        k_ldmatrix_x4_trans(r, a + (k + low + b4 * 8) * mma_tile<false>::LD + m + b3 * 8);
    }
}
template <bool ALONG> __device__ static inline void mma_load_b(uint32_t r[4], const bf16 *b, int n, int k)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16;
    if (ALONG) {
        k_ldmatrix_x4(r, b + (n + low + b4 * 8) * mma_tile<true>::LD + k + b3 * 8);
    } else {
        k_ldmatrix_x4_trans(r, b + (k + low + b3 * 8) * mma_tile<false>::LD + n + b4 * 8);
    }
}

/* One step's 32 terms into a warp's 64 x 32 sums. */
template <bool AA, bool BA>
__device__ static inline void mma_multiply(float (*sum)[4][4], const bf16 *a, const bf16 *b, int m0, int n0)
{
#pragma unroll
    for (int k = 0; k < MMA_STEP; k += 16) {
        uint32_t fa[4][4], fb[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++) mma_load_a<AA>(fa[i], a, m0 + i * 16, k);
#pragma unroll
        for (int j = 0; j < 2; j++) mma_load_b<BA>(fb[j], b, n0 + j * 16, k);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) k_mma_bf16(sum[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
    }
}

/* A warp's 64 x 32 sums: a lane has two neighbouring columns of each row. */
template <bool NARROW>
__device__ static inline void mma_write(const float (*sum)[4][4], int m0, int n0, int m, int n,
                                        const gemm_out &c)
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        gemm_store_twos<NARROW, 8>(
            c, n0 + j * 8 + t * 2, m, n, [&](int k) { return m0 + k / 2 * 16 + g + k % 2 * 8; },
            [&](int k) { return sum[k / 2][j] + k % 2 * 2; });
    }
}

/* c [m, n] of this block over the terms first..end-1. a's side is m, b's side is n. */
template <bool AA, bool BA, bool WIDE, bool NARROW, class VA, class VB>
__device__ static inline void mma_block(const VA &a, const VB &b, int m, int n, int first, int end,
                                        const gemm_out &c)
{
    SHARED_ARR(bf16, sa, 2 * mma_tile<AA>::SIZE);
    SHARED_ARR(bf16, sb, 2 * mma_tile<BA>::SIZE);
    const int warp = threadIdx.x / 32, m0 = warp / 4 * 64, n0 = warp % 4 * 32;
    const int am = (int)blockIdx.y * MMA_SIDE, bn = (int)blockIdx.x * MMA_SIDE;
    float sum[4][4][4] = {};
    uint4 pa[MMA_PIECES], pb[MMA_PIECES];
    mma_fetch<AA, WIDE>(pa, a, am, first, end);
    mma_fetch<BA, WIDE>(pb, b, bn, first, end);
    mma_put<AA>(sa, pa);
    mma_put<BA>(sb, pb);
    __syncthreads();
    for (int k = first, half = 0; k < end; k += MMA_STEP, half ^= 1) {
        const bool more = k + MMA_STEP < end;
        if (more) {
            mma_fetch<AA, WIDE>(pa, a, am, k + MMA_STEP, end);
            mma_fetch<BA, WIDE>(pb, b, bn, k + MMA_STEP, end);
        }
        mma_multiply<AA, BA>(sum, sa + half * mma_tile<AA>::SIZE, sb + half * mma_tile<BA>::SIZE, m0, n0);
        if (more) {
            mma_put<AA>(sa + (half ^ 1) * mma_tile<AA>::SIZE, pa);
            mma_put<BA>(sb + (half ^ 1) * mma_tile<BA>::SIZE, pb);
        }
        __syncthreads();
    }
    mma_write<NARROW>(sum, am + m0, bn + n0, m, n, c);
}
#endif
