/* Attention on tensor cores, backward (cuda_attention_bwd.cu): the same two kernels with bf16 operands. p
 * times dropout is rounded before it meets dctx, ds before it meets k and q; ds of the bias's gradient is
 * not. */
#ifndef B2_KERNELS_CUDA_ATTENTION_MMA_BWD_CUH
#define B2_KERNELS_CUDA_ATTENTION_MMA_BWD_CUH
#include "kernels/cuda/attention_mma.cuh"

/* 64 rows each of k and v, of q and dctx; 4 warps, each 16 rows of one pair. Results wider than registers are
 * made in slices, each by blocks of its own. */
template <int N> struct attn_mma_grads {
    enum { LD = attn_mma_line<N>::LD, THREADS = 128, ROWS = 64, OUT = N > 11 ? 8 : N, SLICES = N / OUT };
    static constexpr int BLOCKS = N == 4 ? 3 : 2; /* of a multiprocessor, as registers allow */
    bf16 q[ROWS * LD], g[ROWS * LD], k[ROWS * LD], v[ROWS * LD];
};

/* Calls f(query, key, place in the lane) for the scores of a strip from (row, column) on. TURNED: rows are
 * keys. */
template <bool TURNED, class F> __device__ static inline void attn_mma_each(int row, int column, F f)
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < 32; e++) {
        const int r = row + g + e % 4 / 2 * 8, c = column + e / 4 * 8 + 2 * t + e % 2;
        f(TURNED ? c : r, TURNED ? r : c, e);
    }
}

/* p of a score; lse of the item's head. */
__device__ static inline float attn_mma_p(const b2_attn &a, const attn_view &view, const float *lse, int i,
                                          int j, float dot)
{
    if (i >= a.tq || j >= attn_keys(a, view, i)) return 0.0f;
    return k_exp2(attn_mma_score(a, view, i, j, dot) - lse[i] * ATTN_LOG2E);
}

/* A strip's results, rounded: rows up to `end`, columns from `first` on. */
template <int M>
__device__ static inline void attn_mma_store(bf16 *to, int64_t ld, const float (*out)[4], int row, int end,
                                             int first, int dim, float scale)
{
    const int row0 = row + (int)threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const bool paired = (uintptr_t)to % 4 == 0 && (ld | dim) % 2 == 0;
#pragma unroll
    for (int e = 0; e < 2 * M; e++) {
        const int r = row0 + e % 2 * 8, c = first + e / 2 * 8 + 2 * t;
        const float x = scale * out[e / 2][e % 2 * 2], y = scale * out[e / 2][e % 2 * 2 + 1];
        bf16 *at = to + r * ld + c;
        if (r >= end || c >= dim) continue;
        if (paired) {
            *(uint32_t *)(void *)at = k_pack_bf16(x, y);
        } else {
            at[0] = k_store<bf16>(x);
            if (c + 1 < dim) at[1] = k_store<bf16>(y);
        }
    }
}

/* What a dq block knows. */
template <int N> struct attn_mma_dq {
    attn_mma_grads<N> *room;
    attn_view view;
    attn_mma_rows k, v;
    const float *lse;      /* of this head */
    int first, strip, any; /* query and row of this warp, keys that it sees */
};

/* p and dp of 16 queries and the keys from j0 on. */
template <int N>
__device__ static inline void attn_mma_terms(const attn_mma_dq<N> &w, const b2_attn &a, float (*s)[4],
                                             float (*d)[4], float *sum, int j0)
{
    typedef attn_mma_grads<N> M;
    const int n = min(w.k.rows - j0, 64);
    __syncthreads(); /* for those who still read the tile before */
    attn_mma_load<N, M::ROWS, M::THREADS>(w.room->k, w.k, j0);
    attn_mma_load<N, M::ROWS, M::THREADS>(w.room->v, w.v, j0);
    k_copy_commit();
    k_copy_wait<0>();
    __syncthreads();
    if (j0 >= w.any) return;
    attn_mma_dots<N>(s, w.room->q + w.strip * M::LD, w.room->k, n);
    attn_mma_dots<N>(d, w.room->g + w.strip * M::LD, w.room->v, n);
    attn_mma_each<false>(w.first, j0, [&](int i, int j, int e) {
        float &p = s[e / 4][e % 4], &x = d[e / 4][e % 4];
        p = attn_mma_p(a, w.view, w.lse, i, j, p);
        x = p == 0.0f ? 0.0f : x * attn_keep(a, w.view, i, j);
        if (sum) sum[e % 4 / 2] += p * x;
    });
}

/* ds of the same, to memory (`ds` of this head, or NULL) and into dq. */
template <int N>
__device__ static inline void attn_mma_ds(const attn_mma_dq<N> &w, const b2_attn &a, float (*out)[4],
                                          float (*s)[4], const float (*d)[4], const float *sum, float *ds,
                                          int first, int j0)
{
    uint32_t p[4][4];
    if (j0 >= w.any) return;
    attn_mma_each<false>(w.first, j0, [&](int i, int j, int e) {
        float &x = s[e / 4][e % 4];
        x = x == 0.0f ? 0.0f : x * (d[e / 4][e % 4] - sum[e % 4 / 2]);
        if (ds && i < a.tq && j < w.k.rows) ds[(int64_t)i * a.tk + j] = x;
    });
    attn_mma_pack(p, s);
    attn_mma_gather<N, attn_mma_grads<N>::OUT>(out, p, w.room->k + first, min(w.k.rows - j0, 64));
}

/* dq of 64 queries. Keys twice, for sum_j dp p comes before ds; once when they are one tile. */
template <int N>
__global__ void __launch_bounds__(attn_mma_grads<N>::THREADS, attn_mma_grads<N>::BLOCKS)
    attn_mma_dq_kernel(bf16 *dq, int lddq, float *delta, float *ds, const bf16 *dctx, const float *lse,
                       b2_attn a, const b2_step *step, bool wide)
{
    typedef attn_mma_grads<N> M;
    DYN_SHARED(M, room);
    const int i0 = (int)blockIdx.x * M::ROWS, h = (int)blockIdx.y % a.heads, b = blockIdx.z;
    const int slice = (int)blockIdx.y / a.heads * M::OUT * 8, strip = (int)threadIdx.x / 32 * 16;
    const int first = i0 + strip, width = a.heads * a.dim;
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<bf16> in = attn_find<bf16>(a, b, h);
    const int keys = attn_keys(a, view, min(i0 + M::ROWS, a.tq) - 1);
    const int any = first < a.tq ? attn_keys(a, view, min(first + 16, a.tq) - 1) : 0;
    const int64_t row = ((int64_t)b * a.heads + h) * a.tq, item = (int64_t)b * a.tq;
    const attn_mma_rows q = {in.q, a.ldq, a.tq, a.dim, wide};
    const attn_mma_rows g = {dctx + item * width + h * a.dim, width, a.tq, a.dim, wide};
    const attn_mma_dq<N> w = {
        room,  view, {in.k, a.ldk, keys, a.dim, wide}, {in.v, a.ldv, keys, a.dim, wide}, lse + row, first,
        strip, any};
    float out[M::OUT][4] = {}, sum[2] = {}, s[8][4], d[8][4];
    float *const to = ds && slice == 0 ? ds + row * a.tk : NULL;
    if (keys > 0) { /* attn_mma_terms waits */
        attn_mma_load<N, M::ROWS, M::THREADS>(room->q, q, i0);
        attn_mma_load<N, M::ROWS, M::THREADS>(room->g, g, i0);
    }
    for (int j0 = 0; j0 < keys; j0 += 64) attn_mma_terms<N>(w, a, s, d, sum, j0);
    sum[0] = attn_mma_sum(sum[0]);
    sum[1] = attn_mma_sum(sum[1]);
    for (int j0 = 0; j0 < keys; j0 += 64) {
        if (keys > 64) attn_mma_terms<N>(w, a, s, d, NULL, j0);
        attn_mma_ds<N>(w, a, out, s, d, sum, to, slice, j0);
    }
    if (dq)
        attn_mma_store<M::OUT>(dq + item * lddq + h * a.dim, lddq, out, first, a.tq, slice, a.dim, a.scale);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = first + (int)threadIdx.x % 32 / 4 + 8 * i;
        if (threadIdx.x % 4 == 0 && slice == 0 && r < a.tq) delta[row + r] = sum[i];
    }
}

/* dk and dv of 64 keys: rows of the tiles are keys, columns are queries. */
template <int N>
__global__ void __launch_bounds__(attn_mma_grads<N>::THREADS, attn_mma_grads<N>::BLOCKS)
    attn_mma_dkv_kernel(bf16 *dk, int lddk, bf16 *dv, int lddv, const float *delta, const bf16 *dctx,
                        const float *lse, b2_attn a, const b2_step *step, bool wide)
{
    typedef attn_mma_grads<N> M;
    DYN_SHARED(M, room);
    const int j0 = (int)blockIdx.x * M::ROWS, h = (int)blockIdx.y % a.heads, b = blockIdx.z;
    const int slice = (int)blockIdx.y / a.heads * M::OUT * 8, width = a.heads * a.dim;
    const int strip = (int)threadIdx.x / 32 * 16, first = j0 + strip;
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<bf16> in = attn_find<bf16>(a, b, h);
    const int64_t row = ((int64_t)b * a.heads + h) * a.tq, item = (int64_t)b * a.krows;
    const attn_mma_rows q = {in.q, a.ldq, a.tq, a.dim, wide}, k = {in.k, a.ldk, view.keys, a.dim, wide},
                        v = {in.v, a.ldv, view.keys, a.dim, wide};
    const attn_mma_rows g = {dctx + (int64_t)b * a.tq * width + h * a.dim, width, a.tq, a.dim, wide};
    float ok[M::OUT][4] = {}, ov[M::OUT][4] = {};
    attn_mma_load<N, M::ROWS, M::THREADS>(room->k, k, j0);
    attn_mma_load<N, M::ROWS, M::THREADS>(room->v, v, j0);
    k_copy_commit();
    for (int i0 = 0; j0 < view.keys && i0 < a.tq; i0 += 64) {
        const int n = min(a.tq - i0, 64);
        float s[8][4], d[8][4];
        uint32_t p[4][4];
        if (attn_keys(a, view, i0 + n - 1) <= j0) continue;
        __syncthreads(); /* for those who still read the tile before */
        attn_mma_load<N, M::ROWS, M::THREADS>(room->q, q, i0);
        attn_mma_load<N, M::ROWS, M::THREADS>(room->g, g, i0);
        k_copy_commit();
        k_copy_wait<0>();
        __syncthreads();
        if (first >= view.keys) continue;
        attn_mma_dots<N>(s, room->k + strip * M::LD, room->q, n);
        attn_mma_each<true>(first, i0, [&](int i, int j, int e) {
            float &x = s[e / 4][e % 4];
            x = attn_mma_p(a, view, lse + row, i, j, x);
            d[e / 4][e % 4] = x == 0.0f ? 0.0f : x * attn_keep(a, view, i, j);
        });
        attn_mma_pack(p, d);
        attn_mma_gather<N, M::OUT>(ov, p, room->g + slice, n);
        attn_mma_dots<N>(d, room->v + strip * M::LD, room->g, n);
        attn_mma_each<true>(first, i0, [&](int i, int j, int e) {
            float &x = s[e / 4][e % 4];
            if (x != 0.0f) x *= d[e / 4][e % 4] * attn_keep(a, view, i, j) - delta[row + i];
        });
        attn_mma_pack(p, s);
        attn_mma_gather<N, M::OUT>(ok, p, room->q + slice, n);
    }
    k_copy_wait<0>(); /* where no query sees these keys */
    if (dk)
        attn_mma_store<M::OUT>(dk + item * lddk + h * a.dim, lddk, ok, first, a.krows, slice, a.dim, a.scale);
    if (dv)
        attn_mma_store<M::OUT>(dv + item * lddv + h * a.dim, lddv, ov, first, a.krows, slice, a.dim, 1.0f);
}
#endif
