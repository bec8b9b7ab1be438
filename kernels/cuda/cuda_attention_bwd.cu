/* Attention, backward: probabilities again from the scores and lse. One kernel for dq, which also leaves
 * sum_j dp p of each query, and one for dk and dv; no sums across blocks, so that bits do not depend on
 * their order (Dao et al. 2022, FlashAttention, appendix B.4). The gradient of the bias sums ds along its
 * diagonals. */
#include "kernels/cuda/attention_mma_bwd.cuh"

/* p of a tile in place of its scores, dp with dropout in place of dp. `turned`: rows are keys. */
__device__ static inline void bwd_terms(float (*s)[4], float (*g)[4], const b2_attn &a, const attn_view &view,
                                        const float *lse, int i0, int j0, bool turned)
{
    const int r0 = (int)threadIdx.x / 16 * 4, c0 = (int)threadIdx.x % 16 * 4;
#pragma unroll
    for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int i = i0 + (turned ? c0 + c : r0 + r), j = j0 + (turned ? r0 + r : c0 + c);
            const bool seen = i < a.tq && j < attn_keys(a, view, i);
            s[r][c] = seen ? expf(attn_score(a, view, i, j, s[r][c]) - lse[i]) : 0.0f;
            g[r][c] = seen ? g[r][c] * attn_keep(a, view, i, j) : 0.0f;
        }
    }
}

/* dq of 64 queries. Keys twice, for sum_j dp p comes before ds; once when they are one tile. */
template <int C, class T>
__global__ void __launch_bounds__(ATTN_THREADS)
    attn_dq_kernel(T *dq, int lddq, float *delta, float *ds, const T *dctx, const float *lse, b2_attn a,
                   const b2_step *step)
{
    DYN_SHARED(attn_room<C>, room);
    const int i0 = (int)blockIdx.x * ATTN_SIDE, h = (int)blockIdx.y % a.heads, b = blockIdx.z;
    const int first = (int)blockIdx.y / a.heads * 128, rows = min(a.tq - i0, (int)ATTN_SIDE);
    const int r0 = (int)threadIdx.x / 16 * 4, c0 = (int)threadIdx.x % 16 * 4, width = a.heads * a.dim;
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<T> in = attn_find<T>(a, b, h);
    const int keys = attn_keys(a, view, i0 + rows - 1);
    const int64_t row = ((int64_t)b * a.heads + h) * a.tq;
    const T *g0 = dctx + ((int64_t)b * a.tq + i0) * width + h * a.dim;
    float out[4][2 * C] = {}, sum[4] = {}, s[4][4], g[4][4];
    for (int pass = 0; pass < 2; pass++) {
        for (int j0 = 0; j0 < keys; j0 += ATTN_SIDE) {
            const int n = min(keys - j0, (int)ATTN_SIDE);
            if (pass == 0 || keys > ATTN_SIDE) {
                attn_dots(s, room->x, room->y, in.q + (int64_t)i0 * a.ldq, a.ldq, rows,
                          in.k + (int64_t)j0 * a.ldk, a.ldk, n, a.dim);
                attn_dots(g, room->x, room->y, g0, width, rows, in.v + (int64_t)j0 * a.ldv, a.ldv, n, a.dim);
                bwd_terms(s, g, a, view, lse + row, i0, j0, false);
            }
            if (pass == 0) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float x =
                        s[i][0] * g[i][0] + s[i][1] * g[i][1] + s[i][2] * g[i][2] + s[i][3] * g[i][3];
                    sum[i] += attn_row_sum(x);
                }
                continue;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float x = s[i][j] == 0.0f ? 0.0f : s[i][j] * (g[i][j] - sum[i]);
                    room->p[(c0 + j) * ATTN_LD + r0 + i] = x;
                    if (ds && r0 + i < rows && c0 + j < n) ds[(row + i0 + r0 + i) * a.tk + j0 + c0 + j] = x;
                }
            }
            attn_fill<C>(room->m, in.k + (int64_t)j0 * a.ldk, a.ldk, n, first, a.dim);
            __syncthreads();
            attn_gather<C>(out, room->p, room->m);
        }
    }
    attn_each<C>(first, a.dim, [&](int r, int column, int i, int c) {
        if (dq && r < rows)
            dq[((int64_t)b * a.tq + i0 + r) * lddq + h * a.dim + column] = k_store<T>(a.scale * out[i][c]);
    });
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first == 0 && c0 == 0 && r0 + i < rows) delta[row + i0 + r0 + i] = sum[i];
    }
}

/* dk and dv of 64 keys: rows of the tiles are keys, terms are queries. */
template <int C, class T>
__global__ void __launch_bounds__(ATTN_THREADS)
    attn_dkv_kernel(T *dk, int lddk, T *dv, int lddv, const float *delta, const T *dctx, const float *lse,
                    b2_attn a, const b2_step *step)
{
    DYN_SHARED(attn_room<C>, room);
    const int j0 = (int)blockIdx.x * ATTN_SIDE, h = (int)blockIdx.y % a.heads, b = blockIdx.z;
    const int first = (int)blockIdx.y / a.heads * 128, r0 = (int)threadIdx.x / 16 * 4,
              c0 = (int)threadIdx.x % 16 * 4;
    const int width = a.heads * a.dim;
    const attn_view view = attn_look(a, step, b, h);
    const attn_operands<T> in = attn_find<T>(a, b, h);
    const int n = min(view.keys - j0, (int)ATTN_SIDE);
    const int64_t row = ((int64_t)b * a.heads + h) * a.tq;
    const T *g0 = dctx + (int64_t)b * a.tq * width + h * a.dim;
    float ok[4][2 * C] = {}, ov[4][2 * C] = {}, s[4][4], g[4][4];
    for (int i0 = 0; n > 0 && i0 < a.tq; i0 += ATTN_SIDE) {
        const int rows = min(a.tq - i0, (int)ATTN_SIDE);
        attn_dots(s, room->x, room->y, in.k + (int64_t)j0 * a.ldk, a.ldk, n, in.q + (int64_t)i0 * a.ldq,
                  a.ldq, rows, a.dim);
        attn_dots(g, room->x, room->y, in.v + (int64_t)j0 * a.ldv, a.ldv, n, g0 + (int64_t)i0 * width, width,
                  rows, a.dim);
        bwd_terms(s, g, a, view, lse + row, i0, j0, true);
#pragma unroll
        for (int r = 0; r < 4; r++) {
#pragma unroll
            for (int c = 0; c < 4; c++)
                room->p[(c0 + c) * ATTN_LD + r0 + r] =
                    s[r][c] == 0.0f ? 0.0f : s[r][c] * attn_keep(a, view, i0 + c0 + c, j0 + r0 + r);
        }
        attn_fill<C>(room->m, g0 + (int64_t)i0 * width, width, rows, first, a.dim);
        __syncthreads();
        attn_gather<C>(ov, room->p, room->m);
        __syncthreads();
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int i = i0 + c0 + c;
            const float mean = i < a.tq ? delta[row + i] : 0.0f;
#pragma unroll
            for (int r = 0; r < 4; r++)
                room->p[(c0 + c) * ATTN_LD + r0 + r] = s[r][c] == 0.0f ? 0.0f : s[r][c] * (g[r][c] - mean);
        }
        attn_fill<C>(room->m, in.q + (int64_t)i0 * a.ldq, a.ldq, rows, first, a.dim);
        __syncthreads();
        attn_gather<C>(ok, room->p, room->m);
    }
    attn_each<C>(first, a.dim, [&](int r, int column, int i, int c) {
        const int64_t key = (int64_t)b * a.krows + j0 + r;
        if (j0 + r >= a.krows) return;
        if (dk) dk[key * lddk + h * a.dim + column] = k_store<T>(a.scale * ok[i][c]);
        if (dv) dv[key * lddv + h * a.dim + column] = k_store<T>(ov[i][c]);
    });
}

enum { DBIAS_THREADS = 128 };

/* A block a relative position of a head; every query row has at most one key there. */
__global__ void __launch_bounds__(DBIAS_THREADS) attn_dbias_kernel(float *dbias, const float *ds, b2_attn a)
{
    SHARED_ARR(float, room, 32);
    const int column = blockIdx.x, h = blockIdx.y;
    float sum = 0.0f;
    for (int64_t at = threadIdx.x; at < (int64_t)a.batch * a.tq; at += DBIAS_THREADS) {
        const int b = (int)(at / a.tq), i = (int)(at % a.tq);
        const attn_view view = attn_look(a, NULL, b, h);
        const int j = column - a.bias0 + view.at + i;
        if (j >= 0 && j < attn_keys(a, view, i))
            sum += ds[(((int64_t)b * a.heads + h) * a.tq + i) * a.tk + j];
    }
    sum = k_block_sum(sum, room);
    if (threadIdx.x == 0) dbias[(int64_t)h * a.ldbias + column] += sum;
}

static size_t delta_bytes(const b2_attn *a)
{
    return ((size_t)a->batch * (size_t)a->heads * (size_t)a->tq * sizeof(float) + 63) / 64 * 64;
}
static size_t attn_bwd_ws(const b2_attn *a, int threads)
{
    (void)threads;
    return delta_bytes(a) * (a->bias ? (size_t)a->tk + 1 : 1);
}

/* What the launchers of one call share. */
template <class T> struct attn_grads {
    T *dq, *dk, *dv;
    int lddq, lddk, lddv;
    const T *dctx;
    const float *lse;
    float *delta, *ds;
    bool by_query() const { return dq || dk || ds; } /* dk wants delta */
    bool by_key() const { return dk || dv; }
};

template <int C, class T> static void backward(b2_queue *q, const attn_grads<T> &g, const b2_attn *a)
{
    const int across = a->heads * attn_slices(a->dim);
    if (g.by_query())
        k_launch(q, (attn_dq_kernel<C, T>), dim3(k_blocks(a->tq, ATTN_SIDE), across, a->batch), ATTN_THREADS,
                 sizeof(attn_room<C>), g.dq, g.lddq, g.delta, g.ds, g.dctx, g.lse, *a, b2_cuda_step(q));
    if (g.by_key())
        k_launch(q, (attn_dkv_kernel<C, T>), dim3(k_blocks(a->krows, ATTN_SIDE), across, a->batch),
                 ATTN_THREADS, sizeof(attn_room<C>), g.dk, g.lddk, g.dv, g.lddv, g.delta, g.dctx, g.lse, *a,
                 b2_cuda_step(q));
}

template <int N> static void backward_mma(b2_queue *q, const attn_grads<bf16> &g, const b2_attn *a)
{
    typedef attn_mma_grads<N> M;
    const bool wide = attn_mma_wide(a) && k_fits<8>(g.dctx);
    const int across = a->heads * M::SLICES;
    if (g.by_query())
        k_launch(q, (attn_mma_dq_kernel<N>), dim3(k_blocks(a->tq, M::ROWS), across, a->batch), M::THREADS,
                 sizeof(M), g.dq, g.lddq, g.delta, g.ds, g.dctx, g.lse, *a, b2_cuda_step(q), wide);
    if (g.by_key())
        k_launch(q, (attn_mma_dkv_kernel<N>), dim3(k_blocks(a->krows, M::ROWS), across, a->batch), M::THREADS,
                 sizeof(M), g.dk, g.lddk, g.dv, g.lddv, g.delta, g.dctx, g.lse, *a, b2_cuda_step(q), wide);
}

static void backward_rounded(b2_queue *q, const attn_grads<bf16> &g, const b2_attn *a)
{
    if (a->dim <= 32)
        backward_mma<4>(q, g, a);
    else if (a->dim <= 64)
        backward_mma<8>(q, g, a);
    else if (a->dim <= 88)
        backward_mma<11>(q, g, a);
    else
        backward_mma<16>(q, g, a);
}

template <class T> static void backward_by(b2_queue *q, const attn_grads<T> &g, const b2_attn *a)
{
    if constexpr (sizeof(T) == 4) {
        switch (attn_width(a->dim)) {
        case 1: backward<1, T>(q, g, a); return;
        case 2: backward<2, T>(q, g, a); return;
        case 3: backward<3, T>(q, g, a); return;
        }
    } else if (attn_rounds<T>(a)) {
        backward_rounded(q, g, a);
        return;
    }
    backward<4, T>(q, g, a);
}

template <class T>
static void attn_bwd(b2_queue *q, void *dq, int lddq, void *dk, int lddk, void *dv, int lddv, float *dbias,
                     const void *dctx, const float *lse, const b2_attn *a, void *ws)
{
    float *delta = (float *)ws, *ds = dbias ? (float *)((char *)ws + delta_bytes(a)) : NULL;
    const attn_grads<T> g = {(T *)dq, (T *)dk, (T *)dv, lddq, lddk, lddv, (const T *)dctx, lse, delta, ds};
    b2_attn plain = *a; /* diagonals need no masks of dropout */
    plain.drop = 0.0f;
    backward_by(q, g, a);
    if (dbias) k_launch(q, attn_dbias_kernel, dim3(a->ldbias, a->heads), DBIAS_THREADS, 0, dbias, ds, plain);
}

K_EXPORT(attn_bwd,
         (b2_queue * q, void *dq, int lddq, void *dk, int lddk, void *dv, int lddv, float *dbias,
          const void *dctx, const float *lse, const b2_attn *a, void *ws),
         (q, dq, lddq, dk, lddk, dv, lddv, dbias, dctx, lse, a, ws))
K_EXPORT_WS(attn_bwd_ws, (const b2_attn *a, int threads), (a, threads))
