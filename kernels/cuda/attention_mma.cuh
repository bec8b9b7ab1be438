/* Attention on tensor cores, forward (FlashAttention, as in cuda_attention.cu): q, k and v are rounded to
 * bf16 on their way into shared memory, probabilities once more before they meet v; scores, sums and results
 * are f32. A warp has 16 queries, a block walks over the keys 64 at a time. Fragments as k_mma_bf16 has them:
 * a lane (g, t) holds rows g and g + 8 of its strip, columns 2t and 2t + 1 of every 8. */
#ifndef B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#define B2_KERNELS_CUDA_ATTENTION_MMA_CUH
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/vectors.cuh"

/* Heads of up to 8 N columns. Products take 16 columns of q and k at a time: zeros fill the last ones. */
template <int N> struct attn_mma {
    enum {
        KEYS = 64,
        WIDTH = (N + 1) / 2 * 16,
        LD = WIDTH + 8, /* an odd number of 16 bytes: the 8 rows of a matrix lie in different banks */
        /* ViT-g has heads of 88 and 257 queries: 3 blocks of 6 warps read the keys, not 5 of 4. */
        WARPS = N == 11 ? 6 : 4,
        THREADS = 32 * WARPS,
        QUERIES = 16 * WARPS,
        ROW_PIECES = WIDTH / 4, /* a piece: 4 columns of a row */
        ROWS_AT_ONCE = THREADS / ROW_PIECES,
        KEY_PIECES = KEYS / ROWS_AT_ONCE, /* of one thread */
        QUERY_PIECES = QUERIES / ROWS_AT_ONCE
    };
    static constexpr int BLOCKS = N == 4 ? 4 : N == 8 ? 3 : 2; /* of a multiprocessor, as registers allow */
    static_assert(THREADS % ROW_PIECES == 0 && KEYS % ROWS_AT_ONCE == 0, "pieces cover a tile exactly");
    bf16 q[QUERIES * LD], k[KEYS * LD], v[KEYS * LD];
};

/* What a lane holds of its two rows; scores are in units of log 2. `sum` is of this lane's columns. */
template <int N> struct attn_mma_state {
    float top[2], sum[2], out[N][4];
};

/* Rows of q, k or v: addresses, and whether 4 columns may be read at a time. */
struct attn_mma_rows {
    const float *from;
    int64_t ld;
    int rows, dim;
    bool wide;
};

/* This thread's P pieces of the rows from `first` on; what is not there is 0. */
template <int N, int P>
__device__ static inline void attn_mma_fetch(float4 *piece, const attn_mma_rows &m, int first)
{
    const int c = (int)threadIdx.x % attn_mma<N>::ROW_PIECES * 4;
#pragma unroll
    for (int i = 0; i < P; i++) {
        const int r = first + (int)threadIdx.x / attn_mma<N>::ROW_PIECES + i * attn_mma<N>::ROWS_AT_ONCE;
        const float *at = m.from + r * m.ld + c;
        piece[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (r >= m.rows || c >= m.dim) continue;
        if (m.wide) {
            piece[i] = *(const float4 *)(const void *)at;
        } else {
            piece[i].x = at[0];
            if (c + 1 < m.dim) piece[i].y = at[1];
            if (c + 2 < m.dim) piece[i].z = at[2];
            if (c + 3 < m.dim) piece[i].w = at[3];
        }
    }
}

template <int N, int P> __device__ static inline void attn_mma_put(bf16 *to, const float4 *piece)
{
    const int c = (int)threadIdx.x % attn_mma<N>::ROW_PIECES * 4;
#pragma unroll
    for (int i = 0; i < P; i++) {
        const int r = (int)threadIdx.x / attn_mma<N>::ROW_PIECES + i * attn_mma<N>::ROWS_AT_ONCE;
        const uint2 x = make_uint2(k_pack_bf16(piece[i].x, piece[i].y), k_pack_bf16(piece[i].z, piece[i].w));
        *(uint2 *)(void *)(to + r * attn_mma<N>::LD + c) = x;
    }
}

/* s = q k^T of a warp's strip; groups of 16 keys from n on are left at 0. */
template <int N, bool WHOLE>
__device__ static inline void attn_mma_scores(float (*s)[4], const bf16 *q, const bf16 *k, int n)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16, ld = attn_mma<N>::LD;
#pragma unroll
    for (int i = 0; i < 32; i++) s[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int d = 0; d < attn_mma<N>::WIDTH; d += 16) {
        uint32_t fq[4], fk[4];
        k_ldmatrix_x4(fq, q + (low + b3 * 8) * ld + d + b4 * 8);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (!WHOLE && 16 * j >= n) continue;
            k_ldmatrix_x4(fk, k + (16 * j + low + b4 * 8) * ld + d + b3 * 8);
            k_mma_bf16(s[2 * j], fq, fk);
            k_mma_bf16(s[2 * j + 1], fq, fk + 2);
        }
    }
}

/* out += p v over the first n of 64 keys. */
template <int N>
__device__ static inline void attn_mma_gather(float (*out)[4], const uint32_t (*p)[4], const bf16 *v, int n)
{
    const int l = threadIdx.x % 32, low = l % 8, b3 = l / 8 % 2, b4 = l / 16, ld = attn_mma<N>::LD;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (16 * j >= n) break;
#pragma unroll
        for (int c = 0; c < N; c += 2) {
            uint32_t fv[4];
            k_ldmatrix_x4_trans(fv, v + (16 * j + low + b3 * 8) * ld + 8 * c + b4 * 8);
            k_mma_bf16(out[c], p[j], fv);
            if (c + 1 < N) k_mma_bf16(out[c + 1], p[j], fv + 2);
        }
    }
}

/* Scores in units of log 2, and -inf where nothing is seen. PLAIN: all rows see all 64 keys, no bias. */
template <bool PLAIN>
__device__ static inline void attn_mma_mask(float (*s)[4], const b2_attn &a, const attn_view &view,
                                            const int *row, int j0)
{
    const float log2e = 1.4426950408889634f, scale = a.scale * log2e;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int keys = PLAIN ? 0 : attn_keys(a, view, row[i]) - j0;
        const float *bias = PLAIN || !view.bias ? NULL : view.bias + (j0 - view.at - row[i]);
#pragma unroll
        for (int e = 0; e < 16; e++) {
            const int j = e / 2 * 8 + 2 * t + e % 2;
            float &x = s[e / 2][2 * i + e % 2];
            if (PLAIN) {
                x *= scale;
            } else if (j < keys) {
                x = bias ? fmaf(bias[j], log2e, x * scale) : x * scale;
            } else {
                x = -INFINITY;
            }
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
#pragma unroll
    for (int j = 0; j < 16; j++) p[j / 4][j % 4] = k_pack_bf16(s[j / 2][j % 2 * 2], s[j / 2][j % 2 * 2 + 1]);
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
        float sum = st.sum[i];
        sum += __shfl_xor_sync(K_ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(K_ALL_LANES, sum, 2);
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
 * keys is on its way to registers, and k of the next ones while v is gathered: one buffer each will do. */
template <int N>
__global__ void __launch_bounds__(attn_mma<N>::THREADS, attn_mma<N>::BLOCKS)
    attn_mma_kernel(bf16 *ctx, float *lse, b2_attn a, const b2_step *step, bool wide)
{
    typedef attn_mma<N> M;
    DYN_SHARED(M, room);
    const int i0 = (int)blockIdx.x * M::QUERIES, h = blockIdx.y, b = blockIdx.z, lane = threadIdx.x % 32;
    const int strip = (int)threadIdx.x / 32 * 16, first = i0 + strip, last = min(first + 15, a.tq - 1);
    const attn_view view = attn_look(a, step, b, h);
    const int keys = attn_keys(a, view, min(i0 + M::QUERIES, a.tq) - 1);
    /* Keys that all rows of this warp see, and that any sees. Rows past the end repeat the last one. */
    const int all = attn_keys(a, view, first), any = first < a.tq ? attn_keys(a, view, last) : 0;
    const int row[2] = {min(first + lane / 4, last), min(first + lane / 4 + 8, last)};
    const attn_mma_rows q = {view.q, a.ldq, a.tq, a.dim, wide}, k = {view.k, a.ldk, keys, a.dim, wide},
                        v = {view.v, a.ldv, keys, a.dim, wide};
    attn_mma_state<N> st = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {}};
    float4 piece[M::KEY_PIECES];
    {
        float4 queries[M::QUERY_PIECES];
        attn_mma_fetch<N, M::QUERY_PIECES>(queries, q, i0);
        attn_mma_fetch<N, M::KEY_PIECES>(piece, k, 0);
        attn_mma_put<N, M::QUERY_PIECES>(room->q, queries);
        attn_mma_put<N, M::KEY_PIECES>(room->k, piece);
    }
    for (int j0 = 0; j0 < keys; j0 += M::KEYS) {
        const int n = min(keys - j0, (int)M::KEYS);
        uint32_t p[4][4] = {};
        attn_mma_fetch<N, M::KEY_PIECES>(piece, v, j0);
        __syncthreads();
        if (j0 < any) {
            float s[8][4];
            if (n == M::KEYS)
                attn_mma_scores<N, true>(s, room->q + strip * M::LD, room->k, n);
            else
                attn_mma_scores<N, false>(s, room->q + strip * M::LD, room->k, n);
            if (!view.bias && j0 + M::KEYS <= all)
                attn_mma_mask<true>(s, a, view, row, j0);
            else
                attn_mma_mask<false>(s, a, view, row, j0);
            attn_mma_softmax<N>(st, p, s, a, view, row, j0);
        }
        attn_mma_put<N, M::KEY_PIECES>(room->v, piece);
        __syncthreads();
        if (n == M::KEYS) attn_mma_fetch<N, M::KEY_PIECES>(piece, k, j0 + M::KEYS);
        if (j0 < any) attn_mma_gather<N>(st.out, p, room->v, n);
        if (n == M::KEYS) attn_mma_put<N, M::KEY_PIECES>(room->k, piece);
    }
    attn_mma_finish<N>(st, ctx, lse, a, b, h, first, wide);
}
#endif
