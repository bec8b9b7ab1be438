/* LoRA of all adapted blocks of a linear layer: one launch forward, two backward. A and B are f32, and so is
 * the arithmetic. Dropout's mask is drawn where x is read: no dropped copy of x is ever in memory.
 *
 * Memory bounds all three. A row costs the forward x once an adapted weight block, base once and y once (8 n
 * bytes; 6 n where y is bf16; nothing for a block without an adapter in place), the first of the backward dy
 * once (4 n bytes; 2 n where it is bf16) and dx twice, the second dy once and x once a weight block. A and B
 * come from L2, once for 8 rows. */
#include "kernels/cuda/lora_parts.cuh"

/* ---- forward ------------------------------------------------------------------------------------------- */

/* u = A xd of R rows. Dropout's bits are drawn for the first ranks and stay in `bits`, a word for a
 * thread's V columns, which no other thread looks at. */
template <int R, int V, class T>
__device__ static void lora_down(float *u, int pitch, uint32_t *bits, const T *x, const lora_one &b,
                                 const lora_row *row, int rows, int k)
{
    for (int r0 = 0; r0 < b.ab.r; r0 += LORA_PIECE) {
        float sum[R * LORA_PIECE] = {};
        for (int c = threadIdx.x * V; c < k; c += LORA_THREADS * V) {
            float v[R][V] = {};
            const T *from = x + c;
#pragma unroll
            for (int i = 0; i < R; i++, from += k) {
                if (i < rows) k_get<V>(v[i], from);
            }
            if (b.drop.limit) {
                const uint32_t kept = r0 ? bits[c / V] : lora_kept<R, V>(row, rows, c, b.drop.limit);
                if (r0 == 0) bits[c / V] = kept;
                lora_drop<R, V, T>(v, kept, b.drop.scale);
            }
            const float *weight = b.ab.a + (int64_t)r0 * k + c;
#pragma unroll
            for (int j = 0; j < LORA_PIECE; j++, weight += k) {
                if (r0 + j >= b.ab.r) continue;
                float a[V];
                k_get<V>(a, weight);
#pragma unroll
                for (int i = 0; i < R; i++) {
#pragma unroll
                    for (int t = 0; t < V; t++)
                        sum[i * LORA_PIECE + j] = fmaf(a[t], v[i][t], sum[i * LORA_PIECE + j]);
                }
            }
        }
        lora_join<R>(u + r0, pitch, 1.0f, sum);
    }
}

/* Where rows of y go, and what they are without LoRA: base is y itself or apart. */
struct lora_rows {
    void *y;
    const float *base;
    int ldy, ldbase;
    bool narrow; /* y is bf16; else f32 */
};

/* y = base + scale B u, u of no ranks too: a thread a column; this block of threads takes every gridDim.z-th
 * 256 of them. The first row is `first`. */
template <int R>
__device__ static void lora_up(const lora_rows &to, int64_t first, const float *u, int pitch,
                               const lora_one &b, int rows)
{
    for (int o = blockIdx.z * LORA_THREADS + threadIdx.x; o < b.n; o += gridDim.z * LORA_THREADS) {
        const float *base = to.base + first * to.ldbase + b.c0 + o;
        float sum[R] = {}, old[R];
#pragma unroll
        for (int i = 0; i < R; i++) old[i] = i < rows ? base[(int64_t)i * to.ldbase] : 0.0f;
        for (int r0 = 0; r0 < b.ab.r; r0 += LORA_PIECE) {
            float w[LORA_PIECE];
            lora_ranks(w, b.ab.b + (int64_t)o * b.ab.r + r0, b.ab.r - r0, b.wide);
#pragma unroll
            for (int i = 0; i < R; i++) {
#pragma unroll
                for (int j = 0; j < LORA_PIECE; j++) sum[i] = fmaf(w[j], u[i * pitch + r0 + j], sum[i]);
            }
        }
        const int64_t at = first * to.ldy + b.c0 + o;
#pragma unroll
        for (int i = 0; i < R; i++) {
            if (i >= rows) continue;
            const float y = old[i] + b.ab.scale * sum[i];
            if (to.narrow)
                ((bf16 *)to.y)[at + (int64_t)i * to.ldy] = k_store<bf16>(y);
            else
                ((float *)to.y)[at + (int64_t)i * to.ldy] = y;
        }
    }
}

/* A block of threads: up to R rows that share an adapter, one weight block (y), a part of its columns (z).
 * The rows come in spans of which none shares a group with the next: an item's, where items have adapters of
 * their own, else all. */
template <int R, int V, class T>
__global__ void __launch_bounds__(LORA_THREADS, R == 1 ? 4 : 2)
    lora_kernel(lora_rows to, const T *x, b2_lora l, const b2_step *step, int span)
{
    DYN_SHARED(float, u); /* [R][pitch]; behind it dropout's bits, a word for V columns */
    SHARED_ARR(lora_row, row, R);
    const int groups = (span + R - 1) / R, inside = (int)(blockIdx.x % groups) * R,
              rows = min(span - inside, R);
    const int64_t first = (int64_t)(blockIdx.x / groups) * span + inside;
    const lora_one b = lora_pick(l, (int)blockIdx.y, l.which ? l.which[first / l.per_item] : 0);
    const int pitch = lora_pitch(b.ab.r);
    if (b.ab.r == 0 && to.y == to.base) return; /* the whole block */
    if (b.ab.r && b.drop.limit) lora_keys(row, step, b.drop.site, first, rows, l.per_item, l.k);
    lora_down<R, V>(u, pitch, (uint32_t *)(u + R * pitch), x + first * l.k, b, row, rows, l.k);
    for (int i = threadIdx.x; b.u && blockIdx.z == 0 && i < rows * b.ab.r; i += LORA_THREADS)
        b.u[first * b.ab.r + i] = u[i / b.ab.r * pitch + i % b.ab.r];
    lora_up<R>(to, first, u, pitch, b, rows);
}

/* May rows of k floats and all their A be read V at a time? */
template <int V> static bool lora_wide(const b2_lora *l)
{
    bool wide = l->k % V == 0;
    for (int i = 0; i < l->blocks; i++) {
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) {
            const b2_lora_ab &ab = l->block[i].ab[a];
            wide = wide && (ab.r == 0 || k_fits<V>(ab.a));
        }
    }
    return wide;
}

/* Of any block and adapter. */
static int lora_largest_rank(const b2_lora *l)
{
    int r = 0;
    for (int i = 0; i < l->blocks; i++) {
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) r = l->block[i].ab[a].r > r ? l->block[i].ab[a].r : r;
    }
    return r;
}

/* Bytes for u of so many rows, and dropout's bits of V columns a word. */
static size_t forward_room(const b2_lora *l, int rows, int V)
{
    size_t words = (size_t)rows * (size_t)lora_pitch(lora_largest_rank(l));
    for (int i = 0; i < l->blocks; i++) {
        if (l->block[i].drop > 0.0f) return (words + (size_t)(l->k / V)) * sizeof(float);
    }
    return words * sizeof(float);
}

/* Few rows: the columns of y go to several blocks of threads, each of which makes u again. */
template <int R, int V, class T>
static void forward(b2_queue *q, const lora_rows &to, const T *x, const b2_lora *l, int span)
{
    const bool wide = lora_wide<V>(l) && k_fits<V>(x);
    const int groups = l->items * l->per_item / span * k_blocks(span, R),
              pitch = lora_pitch(lora_largest_rank(l));
    int n = 0;
    for (int i = 0; i < l->blocks; i++) n = l->block[i].n > n ? l->block[i].n : n;
    const int idle = k_blocks(2 * b2_cuda_sms(q), groups * l->blocks), most = k_blocks(n, LORA_THREADS);
    const int parts = n == 0 ? 1 : idle < most ? idle : most;
    const size_t room = forward_room(l, R, wide ? V : 1);
    const dim3 grid(groups, l->blocks, parts);
    if (pitch == 0 && to.y == to.base) return;
    if (wide)
        k_launch(q, (lora_kernel<R, V, T>), grid, LORA_THREADS, room, to, x, *l, b2_cuda_step(q), span);
    else
        k_launch(q, (lora_kernel<R, 1, T>), grid, LORA_THREADS, room, to, x, *l, b2_cuda_step(q), span);
}

template <class T>
static void lora_fwd(b2_queue *q, b2_out y, float *base, int ldbase, const void *x, const b2_lora *l,
                     void *ws)
{
    const int span = l->which ? l->per_item : l->items * l->per_item;
    const lora_rows to = {y.p, base, y.ld, ldbase, y.type == B2_BF16};
    (void)ws;
    if (l->items == 0 || l->per_item == 0) return;
    if (span == 1 || forward_room(l, LORA_ROWS, 1) > LORA_ROOM)
        forward<1, 4>(q, to, (const T *)x, l, span);
    else
        forward<LORA_ROWS, 4>(q, to, (const T *)x, l, span);
}
static size_t lora_fwd_ws(const b2_lora *l, int threads)
{
    (void)l, (void)threads;
    return 0;
}

/* ---- backward: du and dx ------------------------------------------------------------------------------- */

/* du = scale dy B of R rows, dy of type D: a thread a column of dy at a time. */
template <int R, class D>
__device__ static void lora_du(float *du, int pitch, const D *dy, int lddy, const lora_one &b, int rows)
{
    for (int r0 = 0; r0 < b.ab.r; r0 += LORA_PIECE) {
        float sum[R * LORA_PIECE] = {};
        for (int o = threadIdx.x; o < b.n; o += LORA_THREADS) {
            float w[LORA_PIECE];
            lora_ranks(w, b.ab.b + (int64_t)o * b.ab.r + r0, b.ab.r - r0, b.wide);
#pragma unroll
            for (int i = 0; i < R; i++) {
                const float g = i < rows ? k_load(dy[(int64_t)i * lddy + o]) : 0.0f;
#pragma unroll
                for (int j = 0; j < LORA_PIECE; j++)
                    sum[i * LORA_PIECE + j] = fmaf(g, w[j], sum[i * LORA_PIECE + j]);
            }
        }
        lora_join<R>(du + r0, pitch, b.ab.scale, sum);
    }
}

/* to += du A, dropped as x was, for V columns of R rows. */
template <int R, int V>
__device__ static inline void lora_add_dx(float (*to)[V], const float *du, int pitch, const lora_one &b,
                                          const lora_row *row, int rows, int k, int c)
{
    float sum[R][V] = {};
    for (int j = 0; j < b.ab.r; j++) {
        float a[V];
        k_get<V>(a, b.ab.a + (int64_t)j * k + c);
#pragma unroll
        for (int i = 0; i < R; i++) {
#pragma unroll
            for (int t = 0; t < V; t++) sum[i][t] = fmaf(a[t], du[i * pitch + j], sum[i][t]);
        }
    }
    if (b.drop.limit) lora_drop<R, V, float>(sum, lora_kept<R, V>(row, rows, c, b.drop.limit), b.drop.scale);
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int t = 0; t < V; t++) to[i][t] += sum[i][t];
    }
}

/* A block of threads: R rows, all weight blocks. du goes to memory too, [m, r] a weight block, for the
 * gradients of A. */
template <int R, int V, class D>
__global__ void __launch_bounds__(LORA_THREADS, 2)
    lora_dx_kernel(float *dx, const D *dy, int lddy, b2_lora l, const b2_step *step, float *du, int m)
{
    DYN_SHARED(float, room); /* du of each weight block, [R][pitch] */
    SHARED_ARR(lora_row, row, 3 * R);
    const int64_t first = (int64_t)blockIdx.x * R;
    const int rows = min(m - (int)first, R);
    float *at = room;
    for (int i = 0; i < l.blocks; i++) {
        const lora_one b = lora_pick(l, i, 0);
        const int pitch = lora_pitch(b.ab.r);
        if (b.drop.limit) lora_keys(row + i * R, step, b.drop.site, first, rows, l.per_item, l.k);
        lora_du<R>(at, pitch, dy + first * lddy + b.c0, lddy, b, rows);
        for (int j = threadIdx.x; j < rows * b.ab.r; j += LORA_THREADS)
            du[first * b.ab.r + j] = at[j / b.ab.r * pitch + j % b.ab.r];
        du += (int64_t)m * b.ab.r;
        at += R * pitch;
    }
    for (int c = threadIdx.x * V; dx && c < l.k; c += LORA_THREADS * V) {
        float to[R][V] = {};
        at = room;
        for (int i = 0; i < l.blocks; i++) {
            const lora_one b = lora_pick(l, i, 0);
            lora_add_dx<R, V>(to, at, lora_pitch(b.ab.r), b, row + i * R, rows, l.k, c);
            at += R * lora_pitch(b.ab.r);
        }
#pragma unroll
        for (int i = 0; i < R; i++) {
            float old[V];
            if (i >= rows) continue;
            k_get<V>(old, dx + (first + i) * l.k + c);
#pragma unroll
            for (int t = 0; t < V; t++) old[t] += to[i][t];
            k_put<V>(dx + (first + i) * l.k + c, old);
        }
    }
}

/* ---- backward: gradients of A and B -------------------------------------------------------------------- */

/* One gradient: g += scale * (sum over rows of v[i, c] w[i, j]), c a column of v, j a rank.
 * B's: v dy, of type D, w u, g [c, j].  A's: v xd, w du, g [j, c]. */
template <class D> struct lora_sum {
    float *g;
    const D *dy; /* NULL: v is xd */
    int ld, cols, r;
    const float *w; /* [m, r] */
    bool wide;      /* w may be read 4 at a time */
    float scale;
    lora_dropout drop;
};
template <class D> struct lora_sums {
    lora_sum<D> of[6];
};

/* Adds rows first..end-1, all of one sample, of column c; e: c's element number in the first of them. */
template <int RANKS, class T, class D>
__device__ static inline void lora_add_rows(float *sum, const lora_sum<D> &s, const T *x, int r0, int first,
                                            int end, int c, uint64_t key, uint32_t e)
{
    for (int row = first; row < end; row += SUM_AHEAD, e += SUM_AHEAD * s.ld) {
        float v[SUM_AHEAD];
#pragma unroll
        for (int q = 0; q < SUM_AHEAD; q++) {
            const int64_t at = (int64_t)(row + q) * s.ld + c;
            v[q] = row + q >= end || c >= s.cols ? 0.0f : s.dy ? k_load(s.dy[at]) : k_load(x[at]);
        }
#pragma unroll
        for (int q = 0; q < SUM_AHEAD; q++) {
            if (s.drop.limit)
                v[q] =
                    b2_drop_keep(key, e + q * s.ld, s.drop.limit) ? lora_scaled<T>(v[q], s.drop.scale) : 0.0f;
#pragma unroll
            for (int p = 0; p < RANKS; p += LORA_PIECE) {
                float w[LORA_PIECE];
                if (row + q >= end || r0 + p >= s.r) continue;
                lora_ranks(w, s.w + (int64_t)(row + q) * s.r + r0 + p, s.r - r0 - p, s.wide);
#pragma unroll
                for (int j = 0; j < LORA_PIECE; j++) sum[p + j] = fmaf(v[q], w[j], sum[p + j]);
            }
        }
    }
}

/* A block of threads: 32 columns (x) of one gradient (y), RANKS of its ranks (z), all rows: a lane a column,
 * a warp a sixteenth of the rows. The sixteen sums are added in order. */
template <int RANKS, class T, class D>
__global__ void __launch_bounds__(SUM_WARPS * 32)
    lora_sum_kernel(lora_sums<D> all, const T *x, const b2_step *step, int per_item, int m)
{
    SHARED_ARR(float, part, SUM_WARPS *LORA_PIECE *SUM_COLS);
    lora_sum<D> s = all.of[0];
#pragma unroll
    for (int i = 1; i < 6; i++) {
        if (i == (int)blockIdx.y) s = all.of[i];
    }
    const int c0 = (int)blockIdx.x * SUM_COLS, r0 = (int)blockIdx.z * RANKS;
    if (c0 >= s.cols || r0 >= s.r) return; /* the whole block */
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, share = (m + SUM_WARPS - 1) / SUM_WARPS;
    const int end = min(m, (warp + 1) * share);
    float sum[RANKS] = {};
    for (int row = warp * share, stop; row < end; row = stop) {
        const int sample = row / per_item;
        stop = min(end, (sample + 1) * per_item);
        const uint64_t key =
            s.drop.limit ? b2_drop_key(step->seed, step->step, step->sample[sample], s.drop.site) : 0;
        lora_add_rows<RANKS>(sum, s, x, r0, row, stop, c0 + lane, key,
                             (uint32_t)((int64_t)(row % per_item) * s.ld + c0 + lane));
    }
#pragma unroll
    for (int p = 0; p < RANKS; p += LORA_PIECE) {
#pragma unroll
        for (int j = 0; j < LORA_PIECE; j++) part[(warp * LORA_PIECE + j) * SUM_COLS + lane] = sum[p + j];
        __syncthreads();
        const int t = threadIdx.x, j = s.dy ? t % LORA_PIECE : t / SUM_COLS,
                  c = s.dy ? t / LORA_PIECE : t % SUM_COLS, rank = r0 + p + j;
        if (t < LORA_PIECE * SUM_COLS && rank < s.r && c0 + c < s.cols) {
            float total = 0.0f;
            for (int w = 0; w < SUM_WARPS; w++) total += part[(w * LORA_PIECE + j) * SUM_COLS + c];
            s.g[s.dy ? (int64_t)(c0 + c) * s.r + rank : (int64_t)rank * s.cols + c0 + c] += s.scale * total;
        }
        __syncthreads();
    }
}

/* Which gradients are wanted: their number. */
template <class D>
static int lora_wanted(lora_sums<D> *all, const D *dy, int lddy, const b2_lora *l, const float *du)
{
    const int m = l->items * l->per_item;
    int count = 0;
    for (int i = 0; i < l->blocks; i++) {
        const b2_lora_block *b = &l->block[i];
        const b2_lora_ab *ab = &b->ab[0];
        const bool whole = ab->r % 4 == 0;
        if (ab->r == 0) continue;
        if (b->gb)
            all->of[count++] = {b->gb,     dy + b->c0, lddy, b->n, ab->r, b->u, whole && k_fits<4>(b->u),
                                ab->scale, {}};
        if (b->ga)
            all->of[count++] = {
                b->ga, NULL, l->k, l->k, ab->r, du, whole && k_fits<4>(du), 1.0f, lora_dropout_of(*b)};
        du += (int64_t)m * ab->r;
    }
    return count;
}

template <int R, class D>
static void du_and_dx(b2_queue *q, float *dx, const D *dy, int lddy, const b2_lora *l, float *du, size_t room)
{
    const int m = l->items * l->per_item;
    if (lora_wide<4>(l) && k_fits<4>(dx))
        k_launch(q, (lora_dx_kernel<R, 4, D>), k_blocks(m, R), LORA_THREADS, room, dx, dy, lddy, *l,
                 b2_cuda_step(q), du, m);
    else
        k_launch(q, (lora_dx_kernel<R, 1, D>), k_blocks(m, R), LORA_THREADS, room, dx, dy, lddy, *l,
                 b2_cuda_step(q), du, m);
}

template <class T, class D>
static void backward(b2_queue *q, float *dx, const D *dy, int lddy, const T *x, const b2_lora *l, float *du)
{
    const int m = l->items * l->per_item, rmax = lora_largest_rank(l);
    bool du_wanted = dx != NULL;
    size_t row = 0; /* of du, all weight blocks: bytes */
    int cols = l->k;
    if (m == 0 || rmax == 0) return;
    for (int i = 0; i < l->blocks; i++) {
        const b2_lora_block &b = l->block[i];
        row += (size_t)lora_pitch(b.ab[0].r) * sizeof(float);
        cols = b.n > cols ? b.n : cols;
        du_wanted = du_wanted || b.ga;
    }
    if (du_wanted && LORA_ROWS * row <= LORA_ROOM)
        du_and_dx<LORA_ROWS>(q, dx, dy, lddy, l, du, LORA_ROWS * row);
    else if (du_wanted)
        du_and_dx<1>(q, dx, dy, lddy, l, du, row);
    lora_sums<D> all = {};
    const int wanted = lora_wanted(&all, dy, lddy, l, du);
    if (rmax <= 8)
        k_launch(q, (lora_sum_kernel<8, T, D>), dim3(k_blocks(cols, SUM_COLS), wanted), SUM_WARPS * 32, 0,
                 all, x, b2_cuda_step(q), l->per_item, m);
    else
        k_launch(q, (lora_sum_kernel<32, T, D>), dim3(k_blocks(cols, SUM_COLS), wanted, k_blocks(rmax, 32)),
                 SUM_WARPS * 32, 0, all, x, b2_cuda_step(q), l->per_item, m);
}

template <class T>
static void lora_bwd(b2_queue *q, float *dx, b2_in dy, const void *x, const b2_lora *l, void *ws)
{
    if (dy.type == B2_F32)
        backward(q, dx, (const float *)dy.p, dy.ld, (const T *)x, l, (float *)ws);
    else
        backward(q, dx, (const T *)dy.p, dy.ld, (const T *)x, l, (float *)ws);
}
static size_t lora_bwd_ws(const b2_lora *l, int threads)
{
    size_t ranks = 0;
    (void)threads;
    for (int i = 0; i < l->blocks; i++) ranks += (size_t)l->block[i].ab[0].r;
    return (size_t)(l->items * l->per_item) * ranks * sizeof(float);
}

K_EXPORT(lora_fwd,
         (b2_queue * q, b2_out y, float *base, int ldbase, const void *x, const b2_lora *l, void *ws),
         (q, y, base, ldbase, x, l, ws))
K_EXPORT_WS(lora_fwd_ws, (const b2_lora *l, int threads), (l, threads))
K_EXPORT(lora_bwd, (b2_queue * q, float *dx, b2_in dy, const void *x, const b2_lora *l, void *ws),
         (q, dx, dy, x, l, ws))
K_EXPORT_WS(lora_bwd_ws, (const b2_lora *l, int threads), (l, threads))
