/* Attention on tensor cores, forward (FlashAttention, as in cuda_attention.cu): probabilities are rounded to
 * bf16 before they meet v. A warp has 16 queries, a block walks over the keys 64 at a time. */
#ifndef B2_KERNELS_CUDA_ATTENTION_MMA_FWD_CUH
#define B2_KERNELS_CUDA_ATTENTION_MMA_FWD_CUH
#include "kernels/cuda/attention_mma.cuh"

/* Shared memory of a block. Heads of 88 come from ViT-g, with 257 queries: 3 blocks of 6 warps read the keys,
 * not 5 of 4. */
template <int N> struct attn_mma_room {
    enum { LD = attn_mma_line<N>::LD, WARPS = N == 11 ? 6 : 4, THREADS = 32 * WARPS, ROWS = 16 * WARPS };
    static constexpr int BLOCKS = N == 11 ? 2 : N == 16 ? 3 : 4; /* of a multiprocessor, as registers allow */
    bf16 q[ROWS * LD], k[64 * LD], v[64 * LD];
};

/* What a lane holds of its two rows; `top` is in units of log 2, `sum` is of this lane's columns. */
template <int N> struct attn_mma_state {
    float top[2], sum[2], out[N][4];
};

/* Scores, and -inf where nothing is seen. PLAIN: all rows see all 64 keys, no bias. */
template <bool PLAIN>
__device__ static inline void attn_mma_mask(float (*s)[4], const b2_attn &a, const attn_view &view,
                                            const int *row, int j0)
{
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int keys = PLAIN ? 0 : attn_keys(a, view, row[i]);
#pragma unroll
        for (int e = 0; e < 16; e++) {
            const int j = j0 + e / 2 * 8 + 2 * t + e % 2;
            float &x = s[e / 2][2 * i + e % 2];
            if (PLAIN)
                x *= a.scale * ATTN_LOG2E;
            else
                x = j < keys ? attn_mma_score(a, view, row[i], j, x) : -INFINITY;
        }
    }
}

/* Scores become probabilities relative to the largest so far, as operands of the second product. */
template <int N>
__device__ static inline void attn_mma_softmax(attn_mma_state<N> &st, uint32_t (*p)[4], float (*s)[4],
                                               const b2_attn &a, const attn_view &view, const int *row,
                                               int j0)
{
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float top = st.top[i], sum = 0.0f;
#pragma unroll
        for (int e = 0; e < 16; e++) top = fmaxf(top, s[e / 2][2 * i + e % 2]);
        top = fmaxf(top, __shfl_xor_sync(K_ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(K_ALL_LANES, top, 2));
        const float base = top == -INFINITY ? 0.0f : top, shrink = k_exp2(st.top[i] - base);
#pragma unroll
        for (int e = 0; e < 16; e++) {
            float &x = s[e / 2][2 * i + e % 2];
            x = k_exp2(x - base);
            sum += x;
            if (a.drop > 0) x *= attn_keep(a, view, row[i], j0 + e / 2 * 8 + 2 * t + e % 2);
        }
        st.sum[i] = st.sum[i] * shrink + sum;
        st.top[i] = top;
#pragma unroll
        for (int c = 0; c < N; c++) {
            st.out[c][2 * i] *= shrink;
            st.out[c][2 * i + 1] *= shrink;
        }
    }
    attn_mma_pack(p, s);
}

/* ctx and lse of a strip; row0: its first query. */
template <int N>
__device__ static inline void attn_mma_finish(const attn_mma_state<N> &st, bf16 *ctx, float *lse,
                                              const b2_attn &a, int b, int h, int row0, bool wide)
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int row = row0 + g + 8 * i;
        const float sum = attn_mma_sum(st.sum[i]);
        if (row >= a.tq) continue;
        const float over = sum == 0.0f ? 0.0f : 1.0f / sum;
        bf16 *to = ctx + (((int64_t)b * a.tq + row) * a.heads + h) * a.dim;
#pragma unroll
        for (int n = 0; n < N; n++) {
            const int c = 8 * n + 2 * t;
            const float x = st.out[n][2 * i] * over, y = st.out[n][2 * i + 1] * over;
            if (wide && c < a.dim) {
                *(uint32_t *)(void *)(to + c) = k_pack_bf16(x, y);
            } else {
                if (c < a.dim) to[c] = k_store<bf16>(x);
                if (c + 1 < a.dim) to[c + 1] = k_store<bf16>(y);
            }
        }
        const float top = st.top[i] * 0.6931471805599453f;
        if (lse && t == 0)
            lse[((int64_t)b * a.heads + h) * a.tq + row] = sum == 0.0f ? -INFINITY : top + logf(sum);
    }
}

/* 4 tq tk dim operations a head on tensor cores, an exponential a score. While scores are made, v of the same
 * keys is on its way, and k of the next ones while v is gathered: one buffer each will do. */
template <int N>
__global__ void __launch_bounds__(attn_mma_room<N>::THREADS, attn_mma_room<N>::BLOCKS)
    attn_mma_kernel(bf16 *ctx, float *lse, b2_attn a, const b2_step *step, bool wide)
{
    typedef attn_mma_room<N> M;
    DYN_SHARED(M, room);
    const int i0 = (int)blockIdx.x * M::ROWS, h = blockIdx.y, b = blockIdx.z, lane = threadIdx.x % 32;
    const int strip = (int)threadIdx.x / 32 * 16, first = i0 + strip, last = min(first + 15, a.tq - 1);
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<bf16> in = attn_find<bf16>(a, b, h);
    const int keys = attn_keys(a, view, min(i0 + M::ROWS, a.tq) - 1);
    /* Keys that all rows of this warp see, and that any sees. Rows past the end repeat the last one. */
    const int all = attn_keys(a, view, first), any = first < a.tq ? attn_keys(a, view, last) : 0;
    const int row[2] = {min(first + lane / 4, last), min(first + lane / 4 + 8, last)};
    const attn_mma_rows q = {in.q, a.ldq, a.tq, a.dim, wide}, k = {in.k, a.ldk, keys, a.dim, wide},
                        v = {in.v, a.ldv, keys, a.dim, wide};
    attn_mma_state<N> st = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {}};
    if (keys > 0) {
        attn_mma_load<N, M::ROWS, M::THREADS>(room->q, q, i0);
        attn_mma_load<N, 64, M::THREADS>(room->k, k, 0);
        k_copy_commit();
    }
    for (int j0 = 0; j0 < keys; j0 += 64) {
        const int n = min(keys - j0, 64);
        uint32_t p[4][4] = {};
        k_copy_wait<0>();
        __syncthreads(); /* k is there; nobody reads the v before any more */
        attn_mma_load<N, 64, M::THREADS>(room->v, v, j0);
        k_copy_commit();
        if (j0 < any) {
            float s[8][4];
            attn_mma_dots<N>(s, room->q + strip * M::LD, room->k, n);
            if (!view.bias && j0 + 64 <= all)
                attn_mma_mask<true>(s, a, view, row, j0);
            else
                attn_mma_mask<false>(s, a, view, row, j0);
            attn_mma_softmax<N>(st, p, s, a, view, row, j0);
        }
        k_copy_wait<0>();
        __syncthreads(); /* v is there; nobody reads k any more */
        if (j0 + 64 < keys) {
            attn_mma_load<N, 64, M::THREADS>(room->k, k, j0 + 64);
            k_copy_commit();
        }
        if (j0 < any) attn_mma_gather<N>(st.out, p, room->v, n);
    }
    attn_mma_finish<N>(st, ctx, lse, a, b, h, first, wide);
}
#endif
