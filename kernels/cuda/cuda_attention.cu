/* Attention, forward. Scores never leave the chip: a block takes 64 queries of one head and walks over the
 * keys 64 at a time, its softmax rescaled as larger scores come (Dao et al. 2022, FlashAttention,
 * algorithm 1); here in f32, in attention_mma_fwd.cuh on tensor cores. One query, as in generation: a block a
 * head, all its scores in shared memory. Where cuDNN is wanted it is asked first (cudnn.c): bf16, nothing
 * masked. */
#include "kernels/cuda/attention_mma_fwd.cuh"
#include "kernels/cuda/cudnn.h"

/* What a thread holds of its 4 rows. */
template <int C> struct attn_state {
    float top[4], sum[4], out[4][2 * C];
};

/* A tile's scores become probabilities relative to the largest score so far. */
template <int C>
__device__ static inline void attn_softmax(attn_state<C> &st, float (*s)[4], const b2_attn &a,
                                           const attn_view &view, int i0, int j0, float *p)
{
    const int r0 = (int)threadIdx.x / 16 * 4, c0 = (int)threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = i0 + r0 + i, keys = row < a.tq ? attn_keys(a, view, row) : 0;
        float top = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int key = j0 + c0 + j;
            s[i][j] = key < keys ? attn_score(a, view, row, key, s[i][j]) : -INFINITY;
            top = fmaxf(top, s[i][j]);
        }
        top = fmaxf(st.top[i], attn_row_max(top));
        const float base = top == -INFINITY ? 0.0f : top, shrink = expf(st.top[i] - base);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float e = expf(s[i][j] - base);
            sum += e;
            p[(c0 + j) * ATTN_LD + r0 + i] = a.drop > 0 ? e * attn_keep(a, view, row, j0 + c0 + j) : e;
        }
        st.sum[i] = st.sum[i] * shrink + attn_row_sum(sum);
        st.top[i] = top;
#pragma unroll
        for (int c = 0; c < 2 * C; c++) st.out[i][c] *= shrink;
    }
}

/* 4 tq tk dim operations a head; arithmetic bounds long rows, memory (q, k, v once or twice, ctx) short
 * ones. */
template <int C, class T>
__global__ void __launch_bounds__(ATTN_THREADS)
    attn_fwd_kernel(T *ctx, float *lse, b2_attn a, const b2_step *step)
{
    DYN_SHARED(attn_room<C>, room);
    const int i0 = (int)blockIdx.x * ATTN_SIDE, h = (int)blockIdx.y % a.heads, b = blockIdx.z;
    const int first = (int)blockIdx.y / a.heads * 128, rows = min(a.tq - i0, (int)ATTN_SIDE);
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<T> in = attn_find<T>(a, b, h);
    const int keys = attn_keys(a, view, i0 + rows - 1);
    attn_state<C> st;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        st.top[i] = -INFINITY;
        st.sum[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < 2 * C; c++) st.out[i][c] = 0.0f;
    }
    for (int j0 = 0; j0 < keys; j0 += ATTN_SIDE) {
        const int n = min(keys - j0, (int)ATTN_SIDE);
        float s[4][4];
        attn_dots(s, room->x, room->y, in.q + (int64_t)i0 * a.ldq, a.ldq, rows, in.k + (int64_t)j0 * a.ldk,
                  a.ldk, n, a.dim);
        attn_softmax(st, s, a, view, i0, j0, room->p);
        attn_fill<C>(room->m, in.v + (int64_t)j0 * a.ldv, a.ldv, n, first, a.dim);
        __syncthreads();
        attn_gather<C>(st.out, room->p, room->m);
    }
    attn_each<C>(first, a.dim, [&](int r, int column, int i, int c) {
        if (r >= rows) return;
        const float x = st.sum[i] == 0.0f ? 0.0f : st.out[i][c] / st.sum[i];
        ctx[(((int64_t)b * a.tq + i0 + r) * a.heads + h) * a.dim + column] = k_store<T>(x);
    });
    const bool mine = lse && first == 0 && threadIdx.x % 16 == 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = (int)threadIdx.x / 16 * 4 + i;
        const float l = st.sum[i] == 0.0f ? -INFINITY : st.top[i] + logf(st.sum[i]);
        if (mine && r < rows) lse[((int64_t)b * a.heads + h) * a.tq + i0 + r] = l;
    }
}

/* ---- one query ----------------------------------------------------------------------------------------- */

/* 8 lanes share a key, each V neighbouring columns at a time, for scores and again for the result. */
enum { ONE_THREADS = 128, ONE_LANES = 8, ONE_KEYS = ONE_THREADS / ONE_LANES };

__device__ static inline float one_block_max(float x, float *room)
{
    x = k_warp_max(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = fmaxf(fmaxf(room[0], room[1]), fmaxf(room[2], room[3]));
    __syncthreads();
    return x;
}

/* A step's own key and value, which go into the caches first; kcache NULL: none. */
template <class T> struct attn_fresh {
    T *kcache, *vcache;
    const T *kv;
    int ld, k0, v0;
    /* This block's head of them; no other block reads or writes those columns of the item. */
    __device__ void put(const b2_attn &a, int b, int h) const
    {
        const int64_t row = ((int64_t)b * a.krows + a.qpos[b]) * a.heads * a.dim + h * a.dim;
        const T *from = kv + (int64_t)b * ld + h * a.dim;
        for (int d = threadIdx.x; d < a.dim; d += blockDim.x) {
            kcache[row + d] = from[k0 + d];
            vcache[row + d] = from[v0 + d];
        }
        __syncthreads();
    }
};

/* q k of a key, in each of its lanes; a key that nobody sees is not read. */
template <int V, class T> __device__ static inline float one_dot(const T *q, const T *k, int dim, bool seen)
{
    float dot = 0.0f;
    for (int d = (int)threadIdx.x % ONE_LANES * V; seen && d < dim; d += ONE_LANES * V) {
        float x[V], y[V];
        k_get<V>(x, q + d);
        k_get<V>(y, k + d);
#pragma unroll
        for (int i = 0; i < V; i++) dot = fmaf(x[i], y[i], dot);
    }
    for (int d = ONE_LANES / 2; d > 0; d >>= 1) dot += __shfl_xor_sync(K_ALL_LANES, dot, d);
    return dot;
}

/* x = sum over keys j of p[j] v[j], for V columns of a lane: the keys of its place in the warp, then those of
 * the warp. */
template <int V, class T>
__device__ static inline void one_gather(float *x, const float *p, const T *v, int64_t ld, int keys,
                                         bool here)
{
#pragma unroll
    for (int i = 0; i < V; i++) x[i] = 0.0f;
    for (int j = (int)threadIdx.x / ONE_LANES; here && j < keys; j += ONE_KEYS) {
        float y[V];
        k_get<V>(y, v + j * ld);
#pragma unroll
        for (int i = 0; i < V; i++) x[i] = fmaf(p[j], y[i], x[i]);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        for (int d = 16; d >= ONE_LANES; d >>= 1) x[i] += __shfl_xor_sync(K_ALL_LANES, x[i], d);
    }
}

/* Reads k and v of the visible keys once: 2 keys dim numbers a head bound it. */
template <int V, class T>
__global__ void __launch_bounds__(ONE_THREADS, 8)
    attn_one_kernel(T *ctx, float *lse, b2_attn a, const b2_step *step, attn_fresh<T> fresh)
{
    constexpr int SPAN = ONE_LANES * V; /* columns at a time */
    DYN_SHARED(float, p);               /* a score a key */
    SHARED_ARR(float, room, 4 * SPAN);  /* a row a warp */
    const int h = blockIdx.x, b = blockIdx.y, t = threadIdx.x;
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<T> in = attn_find<T>(a, b, h);
    const int keys = attn_keys(a, view, 0);
    float top = -INFINITY, sum = 0.0f;
    if (fresh.kcache) fresh.put(a, b, h);
    for (int j0 = 0; j0 < keys; j0 += ONE_KEYS) {
        const int j = j0 + t / ONE_LANES;
        const float dot = one_dot<V>(in.q, in.k + (int64_t)j * a.ldk, a.dim, j < keys);
        if (j < keys) {
            const float s = attn_score(a, view, 0, j, dot);
            top = fmaxf(top, s);
            if (t % ONE_LANES == 0) p[j] = s;
        }
    }
    top = one_block_max(top, room);
    const float base = top == -INFINITY ? 0.0f : top;
    for (int j = t; j < keys; j += ONE_THREADS) {
        const float e = expf(p[j] - base);
        sum += e;
        p[j] = a.drop > 0 ? e * attn_keep(a, view, 0, j) : e;
    }
    sum = k_block_sum(sum, room);
    for (int d0 = 0; d0 < a.dim; d0 += SPAN) {
        const int d = d0 + t % ONE_LANES * V;
        float x[V];
        one_gather<V>(x, p, in.v + d, a.ldv, keys, d < a.dim);
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (t % 32 < ONE_LANES) room[t / 32 * SPAN + t % ONE_LANES * V + i] = x[i];
        }
        __syncthreads();
        if (t < SPAN && d0 + t < a.dim) {
            const float y = room[t] + room[SPAN + t] + room[2 * SPAN + t] + room[3 * SPAN + t];
            ctx[((int64_t)b * a.heads + h) * a.dim + d0 + t] = k_store<T>(sum == 0.0f ? 0.0f : y / sum);
        }
        __syncthreads();
    }
    if (lse && t == 0) lse[(int64_t)b * a.heads + h] = sum == 0.0f ? -INFINITY : top + logf(sum);
}

template <int C, class T> static void attn_tiles(b2_queue *q, void *ctx, float *lse, const b2_attn *a)
{
    const dim3 grid(k_blocks(a->tq, ATTN_SIDE), a->heads * attn_slices(a->dim), a->batch);
    k_launch(q, (attn_fwd_kernel<C, T>), grid, ATTN_THREADS, sizeof(attn_room<C>), (T *)ctx, lse, *a,
             b2_cuda_step(q));
}

template <int N> static void attn_mma_tiles(b2_queue *q, void *ctx, float *lse, const b2_attn *a)
{
    const dim3 grid(k_blocks(a->tq, attn_mma_room<N>::ROWS), a->heads, a->batch);
    const bool wide = attn_mma_wide(a) && k_fits<2>((const bf16 *)ctx);
    k_launch(q, (attn_mma_kernel<N>), grid, attn_mma_room<N>::THREADS, sizeof(attn_mma_room<N>), (bf16 *)ctx,
             lse, *a, b2_cuda_step(q), wide);
}

static void attn_rounded(b2_queue *q, void *ctx, float *lse, const b2_attn *a)
{
    if (a->dim <= 32)
        attn_mma_tiles<4>(q, ctx, lse, a);
    else if (a->dim <= 64)
        attn_mma_tiles<8>(q, ctx, lse, a);
    else if (a->dim <= 88)
        attn_mma_tiles<11>(q, ctx, lse, a);
    else
        attn_mma_tiles<16>(q, ctx, lse, a);
}

template <int V, class T>
static void attn_one_by(b2_queue *q, void *ctx, float *lse, const b2_attn *a, const attn_fresh<T> &fresh)
{
    k_launch(q, (attn_one_kernel<V, T>), dim3(a->heads, a->batch), ONE_THREADS, (size_t)a->tk * sizeof(float),
             (T *)ctx, lse, *a, b2_cuda_step(q), fresh);
}

template <class T>
static void attn_one(b2_queue *q, void *ctx, float *lse, const b2_attn *a, const attn_fresh<T> &fresh)
{
    enum { V = 16 / sizeof(T) };
    const bool wide = (a->dim | a->ldq | a->ldk | a->ldv) % V == 0 &&
                      k_fits<V>((const T *)a->q, (const T *)a->k, (const T *)a->v);
    if (wide)
        attn_one_by<V, T>(q, ctx, lse, a, fresh);
    else
        attn_one_by<1, T>(q, ctx, lse, a, fresh);
}

template <class T> static void attn_fwd(b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws)
{
    if (sizeof(T) == 2 && b2_dnn_attention(q, ctx, lse, a, ws)) return;
    if (a->tq == 1) {
        attn_one<T>(q, ctx, lse, a, attn_fresh<T>{NULL, NULL, NULL, 0, 0, 0});
        return;
    }
    if (attn_rounds<T>(a)) {
        attn_rounded(q, ctx, lse, a);
        return;
    }
    if constexpr (sizeof(T) == 4) {
        switch (attn_width(a->dim)) {
        case 1: attn_tiles<1, T>(q, ctx, lse, a); return;
        case 2: attn_tiles<2, T>(q, ctx, lse, a); return;
        case 3: attn_tiles<3, T>(q, ctx, lse, a); return;
        }
    }
    attn_tiles<4, T>(q, ctx, lse, a);
}
template <class T>
static void attn_append(b2_queue *q, void *ctx, void *kcache, void *vcache, const void *kv, int ld, int k0,
                        int v0, const b2_attn *a, void *ws)
{
    (void)ws;
    attn_one<T>(q, ctx, NULL, a, attn_fresh<T>{(T *)kcache, (T *)vcache, (const T *)kv, ld, k0, v0});
}

K_EXPORT(attn_fwd, (b2_queue * q, void *ctx, float *lse, const b2_attn *a, void *ws), (q, ctx, lse, a, ws))
K_EXPORT(attn_append,
         (b2_queue * q, void *ctx, void *kcache, void *vcache, const void *kv, int ld, int k0, int v0,
          const b2_attn *a, void *ws),
         (q, ctx, kcache, vcache, kv, ld, k0, v0, a, ws))
extern "C" size_t b2_cuda_f32_attn_fwd_ws(const b2_attn *, int) { return 0; }
extern "C" size_t b2_cuda_bf16_attn_fwd_ws(const b2_attn *a, int) { return b2_dnn_attention_ws(a); }
