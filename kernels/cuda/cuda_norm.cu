/* Norms. A row belongs to a warp (narrow ones) or to a block, which reads it once and keeps it in
 * registers; rows too long for that, or not of whole vectors, are read anew in each pass. Memory bounds
 * all of them. Gradients of the weights: CHUNK rows at a time into the workspace, whose chunks are added
 * in a fixed order. */
#include "kernels/cuda/vectors.cuh"

enum { CHUNK = 64 };

/* Who works on a row: W threads. A warp shares its block with three others. */
template <int W> struct team {
    enum {
        ROWS = W == 32 ? 4 : 1,
        THREADS = W * ROWS,
        BLOCKS = 512 / THREADS
    }; /* BLOCKS: a multiprocessor's, 128 registers a thread */
    int lane;
    int64_t row;
    bool mine; /* is there such a row? */
    float *room;
    __device__ team(float *r, int rows)
        : lane(threadIdx.x % W), row((int64_t)blockIdx.x * ROWS + threadIdx.x / W), mine(row < rows), room(r)
    {
    }
    /* Sums over the team, in every thread of it; room: 64 floats. */
    __device__ void sum(float &a, float &b) const
    {
        a = k_warp_sum(a);
        b = k_warp_sum(b);
        if (W == 32) return;
        const int in_warp = threadIdx.x % 32, warp = threadIdx.x / 32;
        if (in_warp == 0) {
            room[warp] = a;
            room[32 + warp] = b;
        }
        __syncthreads();
        a = k_warp_sum(in_warp < W / 32 ? room[in_warp] : 0.0f);
        b = k_warp_sum(in_warp < W / 32 ? room[32 + in_warp] : 0.0f);
        __syncthreads();
    }
    __device__ float sum(float a) const { return W == 32 ? k_warp_sum(a) : k_block_sum(a, room); }
};

/* 6 bytes an element (bf16) or 8. */
template <class T, int W, int V, int P>
__global__ void __launch_bounds__(team<W>::THREADS)
    rmsnorm_fwd_kernel(T *y, float *r, const float *x, const float *w, int rows, int cols, float eps)
{
    SHARED_ARR(float, room, 32);
    const team<W> t(room, rows);
    using span = k_span<W, V, P>;
    const int length = t.mine ? cols : 0;
    const float *in = x + t.row * cols;
    float v[span::HELD], square = 0.0f;
    span::each(t.lane, length, [&](int c, int at) {
        k_get<V>(v + at, in + c);
#pragma unroll
        for (int j = 0; j < V; j++) square += v[at + j] * v[at + j];
    });
    const float inv = 1.0f / sqrtf(t.sum(square) / (float)cols + eps);
    span::each(t.lane, length, [&](int c, int at) {
        float weight[V], out[V];
        k_get<V>(weight, w + c);
        if (P == 0) k_get<V>(v + at, in + c);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = v[at + j] * inv * weight[j];
        k_put<V>(y + t.row * cols + c, out);
    });
    if (t.mine && r && t.lane == 0) r[t.row] = inv;
}

/* dx[c..] = beta*dx + d */
template <int V> __device__ static inline void put_gradient(float *dx, float *d, float beta)
{
    if (beta != 0.0f) {
        float old[V];
        k_get<V>(old, dx);
#pragma unroll
        for (int j = 0; j < V; j++) d[j] += beta * old[j];
    }
    k_put<V>(dx, d);
}

/* 12 bytes an element, 16 with beta. */
template <int W, int V, int P>
__global__ void __launch_bounds__(team<W>::THREADS, team<W>::BLOCKS)
    rmsnorm_dx_kernel(float *dx, const float *dy, const float *x, const float *r, const float *w, int rows,
                      int cols, float beta)
{
    SHARED_ARR(float, room, 32);
    const team<W> t(room, rows);
    using span = k_span<W, V, P>;
    const int length = t.mine ? cols : 0;
    const int64_t row = t.row * cols;
    float v[span::HELD], d[span::HELD], dot = 0.0f;
    const auto get = [&](int c, int at) {
        float weight[V];
        k_get<V>(v + at, x + row + c);
        k_get<V>(d + at, dy + row + c);
        k_get<V>(weight, w + c);
#pragma unroll
        for (int j = 0; j < V; j++) d[at + j] *= weight[j];
    };
    span::each(t.lane, length, [&](int c, int at) {
        get(c, at);
#pragma unroll
        for (int j = 0; j < V; j++) dot += d[at + j] * v[at + j];
    });
    dot = t.sum(dot);
    const float inv = t.mine ? r[t.row] : 0.0f, back = inv * inv * inv / (float)cols * dot;
    span::each(t.lane, length, [&](int c, int at) {
        float out[V];
        if (P == 0) get(c, at);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = inv * d[at + j] - v[at + j] * back;
        put_gradient<V>(dx + row + c, out, beta);
    });
}

/* 6 bytes an element (bf16), 8, or 10 and 12 with both outputs. y32 may be x: a thread reads its elements
 * before it writes them. The variance is that of the centred values: a mean far from 0 costs no digits. */
template <class T, int W, int V, int P>
__global__ void __launch_bounds__(team<W>::THREADS)
    layernorm_fwd_kernel(T *y, float *y32, float *stat, const float *x, const float *g, const float *b,
                         int rows, int cols, float eps)
{
    SHARED_ARR(float, room, 32);
    const team<W> t(room, rows);
    using span = k_span<W, V, P>;
    const int length = t.mine ? cols : 0;
    const int64_t row = t.row * cols;
    float v[span::HELD], sum = 0.0f, square = 0.0f;
    span::each(t.lane, length, [&](int c, int at) {
        k_get<V>(v + at, x + row + c);
#pragma unroll
        for (int j = 0; j < V; j++) sum += v[at + j];
    });
    const float mean = t.sum(sum) / (float)cols;
    span::each(t.lane, length, [&](int c, int at) {
        if (P == 0) k_get<V>(v + at, x + row + c);
#pragma unroll
        for (int j = 0; j < V; j++) square += (v[at + j] - mean) * (v[at + j] - mean);
    });
    const float rstd = 1.0f / sqrtf(t.sum(square) / (float)cols + eps);
    span::each(t.lane, length, [&](int c, int at) {
        float gain[V], shift[V], out[V];
        k_get<V>(gain, g + c);
        k_get<V>(shift, b + c);
        if (P == 0) k_get<V>(v + at, x + row + c);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = (v[at + j] - mean) * rstd * gain[j] + shift[j];
        if (y) k_put<V>(y + row + c, out);
        if (y32) k_put<V>(y32 + row + c, out);
    });
    if (t.mine && stat && t.lane == 0) {
        stat[2 * t.row] = mean;
        stat[2 * t.row + 1] = rstd;
    }
}

/* 12 bytes an element, 16 with beta. */
template <int W, int V, int P>
__global__ void __launch_bounds__(team<W>::THREADS, team<W>::BLOCKS)
    layernorm_dx_kernel(float *dx, const float *dy, const float *x, const float *stat, const float *g,
                        int rows, int cols, float beta)
{
    SHARED_ARR(float, room, 64);
    const team<W> t(room, rows);
    using span = k_span<W, V, P>;
    const int length = t.mine ? cols : 0;
    const int64_t row = t.row * cols;
    const float mean = t.mine ? stat[2 * t.row] : 0.0f, rstd = t.mine ? stat[2 * t.row + 1] : 0.0f;
    float h[span::HELD], d[span::HELD], sum = 0.0f, dot = 0.0f;
    const auto get = [&](int c, int at) {
        float gain[V];
        k_get<V>(h + at, x + row + c);
        k_get<V>(d + at, dy + row + c);
        k_get<V>(gain, g + c);
#pragma unroll
        for (int j = 0; j < V; j++) {
            h[at + j] = (h[at + j] - mean) * rstd;
            d[at + j] *= gain[j];
        }
    };
    span::each(t.lane, length, [&](int c, int at) {
        get(c, at);
#pragma unroll
        for (int j = 0; j < V; j++) {
            sum += d[at + j];
            dot += d[at + j] * h[at + j];
        }
    });
    t.sum(sum, dot);
    sum /= (float)cols;
    dot /= (float)cols;
    span::each(t.lane, length, [&](int c, int at) {
        float out[V];
        if (P == 0) get(c, at);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = rstd * (d[at + j] - sum - h[at + j] * dot);
        put_gradient<V>(dx + row + c, out, beta);
    });
}

/* One chunk of rows, 256 columns a block: part[chunk, c] = sum of dy*h, part_b[chunk, c] = sum of dy; h =
 * (x - mean)*scale. Stats of a row: r alone (Centred false), or mean and rstd. 8 bytes an element. */
enum { COLUMNS = 256 };
template <bool Centred>
__global__ void __launch_bounds__(COLUMNS)
    weight_parts_kernel(float *part, float *part_b, const float *dy, const float *x, const float *stat,
                        int rows, int cols)
{
    const int c = blockIdx.x * COLUMNS + threadIdx.x, first = blockIdx.y * CHUNK;
    const int end = first + CHUNK < rows ? first + CHUNK : rows;
    float sum = 0.0f, sum_b = 0.0f;
#pragma unroll 8
    for (int i = first; i < (c < cols ? end : 0); i++) {
        const float d = dy[(int64_t)i * cols + c], v = x[(int64_t)i * cols + c];
        sum += d * (Centred ? (v - stat[2 * i]) * stat[2 * i + 1] : v * stat[i]);
        sum_b += d;
    }
    if (c < cols && part) part[(int64_t)blockIdx.y * cols + c] = sum;
    if (c < cols && part_b) part_b[(int64_t)blockIdx.y * cols + c] = sum_b;
}

/* to[c] += the chunks' sums: 32 columns a block, eight turns over the chunks, those added in order. */
__global__ void __launch_bounds__(256) add_parts_kernel(float *to, const float *part, int chunks, int cols)
{
    SHARED_ARR(float, turns, 256);
    const int lane = threadIdx.x % 32, turn = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    float sum = 0.0f;
#pragma unroll 4
    for (int k = turn; k < (c < cols ? chunks : 0); k += 8) sum += part[(int64_t)k * cols + c];
    turns[threadIdx.x] = sum;
    __syncthreads();
    if (turn == 0 && c < cols) {
        for (int k = 1; k < 8; k++) sum += turns[32 * k + lane];
        to[c] += sum;
    }
}

static size_t norm_bwd_ws(int rows, int cols, int threads)
{
    (void)threads;
    return 2 * (size_t)k_blocks(rows, CHUNK) * (size_t)cols * sizeof(float);
}

template <bool Centred>
static void weight_gradients(b2_queue *q, float *dw, float *db, const float *dy, const float *x,
                             const float *stat, int rows, int cols, void *ws)
{
    const int chunks = k_blocks(rows, CHUNK), wide = k_blocks(cols, COLUMNS);
    float *part = (float *)ws, *part_b = part + (int64_t)chunks * cols;
    if (rows == 0 || (!dw && !db)) return;
    /* In slices, because a grid has no more than 65,535 blocks across. */
    for (int64_t k = 0; k < chunks; k += 32768) {
        const int64_t row = k * CHUNK;
        const int n = chunks - k < 32768 ? (int)(chunks - k) : 32768;
        k_launch(q, weight_parts_kernel<Centred>, dim3((unsigned)wide, (unsigned)n), COLUMNS, 0,
                 dw ? part + k * cols : nullptr, db ? part_b + k * cols : nullptr, dy + row * cols,
                 x + row * cols, stat + row * (Centred ? 2 : 1), (int)(rows - row), cols);
    }
    if (dw) k_launch(q, add_parts_kernel, k_blocks(cols, 32), 256, 0, dw, part, chunks, cols);
    if (db) k_launch(q, add_parts_kernel, k_blocks(cols, 32), 256, 0, db, part_b, chunks, cols);
}

/* launch(W, V, P) for rows of so many columns, which `fits` says can be read as vectors. */
#define BY_WIDTH(cols, fits, launch)                                                                         \
    if ((fits) && (cols) <= k_span<32, 4, 6>::SPAN)                                                          \
        launch(32, 4, 6);                                                                                    \
    else if ((fits) && (cols) <= k_span<128, 4, 4>::SPAN)                                                    \
        launch(128, 4, 4);                                                                                   \
    else if ((fits) && (cols) <= k_span<256, 4, 8>::SPAN)                                                    \
        launch(256, 4, 8);                                                                                   \
    else if ((cols) <= k_span<32, 1, 8>::SPAN)                                                               \
        launch(32, 1, 8);                                                                                    \
    else                                                                                                     \
        launch(256, 1, 0)
#define GRID(W, rows) k_blocks(rows, team<W>::ROWS), (unsigned)team<W>::THREADS, 0

template <class T>
static void rmsnorm_fwd(b2_queue *q, void *y, float *r, const float *x, const float *w, int rows, int cols,
                        float eps)
{
#define LAUNCH(W, V, P)                                                                                      \
    k_launch(q, (rmsnorm_fwd_kernel<T, W, V, P>), GRID(W, rows), (T *)y, r, x, w, rows, cols, eps)
    BY_WIDTH(cols, cols % 4 == 0 && k_fits<4>((T *)y, x, w), LAUNCH);
#undef LAUNCH
}

template <class T>
static void rmsnorm_bwd(b2_queue *q, float *dx, float *dw, const float *dy, const float *x, const float *r,
                        const float *w, int rows, int cols, float beta, void *ws)
{
    weight_gradients<false>(q, dw, nullptr, dy, x, r, rows, cols, ws);
    if (!dx) return;
#define LAUNCH(W, V, P)                                                                                      \
    k_launch(q, (rmsnorm_dx_kernel<W, V, P>), GRID(W, rows), dx, dy, x, r, w, rows, cols, beta)
    BY_WIDTH(cols, cols % 4 == 0 && k_fits<4>(dx, dy, x, w), LAUNCH);
#undef LAUNCH
}

template <class T>
static void layernorm_fwd(b2_queue *q, void *y, float *y32, float *stat, const float *x, const float *g,
                          const float *b, int rows, int cols, float eps)
{
#define LAUNCH(W, V, P)                                                                                      \
    k_launch(q, (layernorm_fwd_kernel<T, W, V, P>), GRID(W, rows), (T *)y, y32, stat, x, g, b, rows, cols,   \
             eps)
    BY_WIDTH(cols, cols % 4 == 0 && k_fits<4>((T *)y, y32, x, g, b), LAUNCH);
#undef LAUNCH
}

template <class T>
static void layernorm_bwd(b2_queue *q, float *dx, float *dg, float *db, const float *dy, const float *x,
                          const float *stat, const float *g, int rows, int cols, float beta, void *ws)
{
    weight_gradients<true>(q, dg, db, dy, x, stat, rows, cols, ws);
    if (!dx) return;
#define LAUNCH(W, V, P)                                                                                      \
    k_launch(q, (layernorm_dx_kernel<W, V, P>), GRID(W, rows), dx, dy, x, stat, g, rows, cols, beta)
    BY_WIDTH(cols, cols % 4 == 0 && k_fits<4>(dx, dy, x, g), LAUNCH);
#undef LAUNCH
}

K_EXPORT(rmsnorm_fwd,
         (b2_queue * q, void *y, float *r, const float *x, const float *w, int rows, int cols, float eps),
         (q, y, r, x, w, rows, cols, eps))
K_EXPORT(rmsnorm_bwd,
         (b2_queue * q, float *dx, float *dw, const float *dy, const float *x, const float *r, const float *w,
          int rows, int cols, float beta, void *ws),
         (q, dx, dw, dy, x, r, w, rows, cols, beta, ws))
K_EXPORT(layernorm_fwd,
         (b2_queue * q, void *y, float *y32, float *stat, const float *x, const float *g, const float *b,
          int rows, int cols, float eps),
         (q, y, y32, stat, x, g, b, rows, cols, eps))
K_EXPORT(layernorm_bwd,
         (b2_queue * q, float *dx, float *dg, float *db, const float *dy, const float *x, const float *stat,
          const float *g, int rows, int cols, float beta, void *ws),
         (q, dx, dg, db, dy, x, stat, g, rows, cols, beta, ws))
K_EXPORT_WS(norm_bwd_ws, (int rows, int cols, int threads), (rows, cols, threads))
