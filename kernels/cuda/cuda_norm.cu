/* Norms. A row belongs to a warp (up to 512 columns) or to a block; sums over a row go through registers, the row is read once
 * for the sums and, from the cache, once for the result. Memory bounds them. Gradients of the weights: 64 rows a chunk into the
 * workspace, chunks added in order. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, CHUNK = 64 };

/* Who works on a row: Width threads (32 or 256) of a block of 256. */
template <int Width> struct team {
    int lane, row;
    float *room;
    __device__ team(float *r) : lane(threadIdx.x % Width), row(blockIdx.x * (THREADS / Width) + threadIdx.x / Width), room(r) {}
    __device__ float sum(float x) const { return Width == 32 ? k_warp_sum(x) : k_block_sum(x, room); }
};

template <class T, int Width> __global__ void __launch_bounds__(THREADS)
    rmsnorm_fwd_kernel(T *y, float *r, const float *x, const float *w, int rows, int cols, float eps)
{
    SHARED_ARR(float, room, 32);
    const team<Width> t(room);
    const bool mine = t.row < rows;
    const float *in = x + (int64_t)(mine ? t.row : 0) * cols;
    float square = 0.0f;
    for (int c = t.lane; mine && c < cols; c += Width) square += in[c] * in[c];
    const float inv = 1.0f / sqrtf(t.sum(square) / (float)cols + eps);
    T *out = y + (int64_t)t.row * cols;
    for (int c = t.lane; mine && c < cols; c += Width) out[c] = k_store<T>(in[c] * inv * w[c]);
    if (mine && r && t.lane == 0) r[t.row] = inv;
}

template <int Width> __global__ void __launch_bounds__(THREADS)
    rmsnorm_dx_kernel(float *dx, const float *dy, const float *x, const float *r, const float *w, int rows, int cols, float beta)
{
    SHARED_ARR(float, room, 32);
    const team<Width> t(room);
    const bool mine = t.row < rows;
    const int64_t at = (int64_t)(mine ? t.row : 0) * cols;
    float dot = 0.0f;
    for (int c = t.lane; mine && c < cols; c += Width) dot += dy[at + c] * w[c] * x[at + c];
    dot = t.sum(dot);
    const float inv = mine ? r[t.row] : 0.0f, back = inv * inv * inv / (float)cols * dot;
    for (int c = t.lane; mine && c < cols; c += Width) {
        const float d = inv * (dy[at + c] * w[c]) - x[at + c] * back;
        dx[at + c] = beta == 0.0f ? d : beta * dx[at + c] + d;
    }
}

template <class T, int Width> __global__ void __launch_bounds__(THREADS)
    layernorm_fwd_kernel(T *y, float *y32, float *stat, const float *x, const float *g, const float *b, int rows, int cols, float eps)
{
    SHARED_ARR(float, room, 32);
    const team<Width> t(room);
    const bool mine = t.row < rows;
    const int64_t at = (int64_t)(mine ? t.row : 0) * cols;
    float sum = 0.0f, square = 0.0f;
    for (int c = t.lane; mine && c < cols; c += Width) sum += x[at + c];
    const float mean = t.sum(sum) / (float)cols;
    for (int c = t.lane; mine && c < cols; c += Width) square += (x[at + c] - mean) * (x[at + c] - mean);
    const float rstd = 1.0f / sqrtf(t.sum(square) / (float)cols + eps);
    for (int c = t.lane; mine && c < cols; c += Width) {
        const float v = (x[at + c] - mean) * rstd * g[c] + b[c];
        if (y) y[at + c] = k_store<T>(v);
        if (y32) y32[at + c] = v;
    }
    if (mine && stat && t.lane == 0) {
        stat[2 * t.row] = mean;
        stat[2 * t.row + 1] = rstd;
    }
}

template <int Width> __global__ void __launch_bounds__(THREADS)
    layernorm_dx_kernel(float *dx, const float *dy, const float *x, const float *stat, const float *g, int rows, int cols, float beta)
{
    SHARED_ARR(float, room, 32);
    const team<Width> t(room);
    const bool mine = t.row < rows;
    const int64_t at = (int64_t)(mine ? t.row : 0) * cols;
    const float mean = mine ? stat[2 * t.row] : 0.0f, rstd = mine ? stat[2 * t.row + 1] : 0.0f;
    float sum = 0.0f, dot = 0.0f;
    for (int c = t.lane; mine && c < cols; c += Width) {
        const float d = dy[at + c] * g[c];
        sum += d;
        dot += d * ((x[at + c] - mean) * rstd);
    }
    sum = t.sum(sum) / (float)cols;
    dot = t.sum(dot) / (float)cols;
    for (int c = t.lane; mine && c < cols; c += Width) {
        const float d = rstd * (dy[at + c] * g[c] - sum - (x[at + c] - mean) * rstd * dot);
        dx[at + c] = beta == 0.0f ? d : beta * dx[at + c] + d;
    }
}

/* part[chunk, c] = the sum over the chunk's rows of dy*h (and, behind all those, of dy); h = (x - mean)*scale. Stats of a row:
 * r alone (Centred false), or mean and rstd. */
template <bool Centred> __global__ void __launch_bounds__(THREADS)
    weight_parts_kernel(float *part, float *part_b, const float *dy, const float *x, const float *stat, int rows, int cols)
{
    const int c = blockIdx.x * THREADS + threadIdx.x, first = blockIdx.y * CHUNK;
    const int end = first + CHUNK < rows ? first + CHUNK : rows;
    float sum = 0.0f, sum_b = 0.0f;
    if (c >= cols) return;
    for (int i = first; i < end; i++) {
        const float d = dy[(int64_t)i * cols + c], v = x[(int64_t)i * cols + c];
        sum += d * (Centred ? (v - stat[2 * i]) * stat[2 * i + 1] : v * stat[i]);
        sum_b += d;
    }
    if (part) part[(int64_t)blockIdx.y * cols + c] = sum;
    if (part_b) part_b[(int64_t)blockIdx.y * cols + c] = sum_b;
}

__global__ void __launch_bounds__(THREADS) add_parts_kernel(float *to, const float *part, int chunks, int cols)
{
    const int c = blockIdx.x * THREADS + threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; c < cols && k < chunks; k++) sum += part[(int64_t)k * cols + c];
    if (c < cols) to[c] += sum;
}

static size_t norm_bwd_ws(int rows, int cols, int threads)
{
    (void)threads;
    return 2 * (size_t)k_blocks(rows, CHUNK) * (size_t)cols * sizeof(float);
}

template <bool Centred>
static void weight_gradients(b2_queue *q, float *dw, float *db, const float *dy, const float *x, const float *stat, int rows, int cols, void *ws)
{
    const int chunks = k_blocks(rows, CHUNK), wide = k_blocks(cols, THREADS);
    float *part = (float *)ws, *part_b = part + (int64_t)chunks * cols;
    if (rows == 0 || (!dw && !db)) return;
    k_launch(q, weight_parts_kernel<Centred>, dim3((unsigned)wide, (unsigned)chunks), THREADS, 0, dw ? part : nullptr, db ? part_b : nullptr, dy, x, stat, rows,
             cols);
    if (dw) k_launch(q, add_parts_kernel, wide, THREADS, 0, dw, part, chunks, cols);
    if (db) k_launch(q, add_parts_kernel, wide, THREADS, 0, db, part_b, chunks, cols);
}

static bool narrow(int cols) { return cols <= 512; }

template <class T> static void rmsnorm_fwd(b2_queue *q, void *y, float *r, const float *x, const float *w, int rows, int cols, float eps)
{
    if (narrow(cols))
        k_launch(q, (rmsnorm_fwd_kernel<T, 32>), k_blocks(rows, 8), THREADS, 0, (T *)y, r, x, w, rows, cols, eps);
    else
        k_launch(q, (rmsnorm_fwd_kernel<T, 256>), rows, THREADS, 0, (T *)y, r, x, w, rows, cols, eps);
}

template <class T>
static void rmsnorm_bwd(b2_queue *q, float *dx, float *dw, const float *dy, const float *x, const float *r, const float *w, int rows, int cols, float beta,
                        void *ws)
{
    weight_gradients<false>(q, dw, nullptr, dy, x, r, rows, cols, ws);
    if (dx && narrow(cols))
        k_launch(q, rmsnorm_dx_kernel<32>, k_blocks(rows, 8), THREADS, 0, dx, dy, x, r, w, rows, cols, beta);
    else if (dx)
        k_launch(q, rmsnorm_dx_kernel<256>, rows, THREADS, 0, dx, dy, x, r, w, rows, cols, beta);
}

template <class T>
static void layernorm_fwd(b2_queue *q, void *y, float *y32, float *stat, const float *x, const float *g, const float *b, int rows, int cols, float eps)
{
    if (narrow(cols))
        k_launch(q, (layernorm_fwd_kernel<T, 32>), k_blocks(rows, 8), THREADS, 0, (T *)y, y32, stat, x, g, b, rows, cols, eps);
    else
        k_launch(q, (layernorm_fwd_kernel<T, 256>), rows, THREADS, 0, (T *)y, y32, stat, x, g, b, rows, cols, eps);
}

template <class T>
static void layernorm_bwd(b2_queue *q, float *dx, float *dg, float *db, const float *dy, const float *x, const float *stat, const float *g, int rows, int cols,
                          float beta, void *ws)
{
    weight_gradients<true>(q, dg, db, dy, x, stat, rows, cols, ws);
    if (dx && narrow(cols))
        k_launch(q, layernorm_dx_kernel<32>, k_blocks(rows, 8), THREADS, 0, dx, dy, x, stat, g, rows, cols, beta);
    else if (dx)
        k_launch(q, layernorm_dx_kernel<256>, rows, THREADS, 0, dx, dy, x, stat, g, rows, cols, beta);
}

K_EXPORT(rmsnorm_fwd, (b2_queue *q, void *y, float *r, const float *x, const float *w, int rows, int cols, float eps), (q, y, r, x, w, rows, cols, eps))
K_EXPORT(rmsnorm_bwd,
         (b2_queue *q, float *dx, float *dw, const float *dy, const float *x, const float *r, const float *w, int rows, int cols, float beta, void *ws),
         (q, dx, dw, dy, x, r, w, rows, cols, beta, ws))
K_EXPORT(layernorm_fwd,
         (b2_queue *q, void *y, float *y32, float *stat, const float *x, const float *g, const float *b, int rows, int cols, float eps),
         (q, y, y32, stat, x, g, b, rows, cols, eps))
K_EXPORT(layernorm_bwd,
         (b2_queue *q, float *dx, float *dg, float *db, const float *dy, const float *x, const float *stat, const float *g, int rows, int cols, float beta,
          void *ws),
         (q, dx, dg, db, dy, x, stat, g, rows, cols, beta, ws))
K_EXPORT_WS(norm_bwd_ws, (int rows, int cols, int threads), (rows, cols, threads))
