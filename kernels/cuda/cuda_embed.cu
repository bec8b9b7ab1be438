/* Embeddings, image patches, rows shared by a batch, the KV cache, T5's relative bias: copies and gathers,
 * bound by memory. Sums are taken by one thread each, in order: no atomics, the same bits always. */
#include "kernels/cuda/vectors.cuh"

enum { THREADS = 256, ROW_THREADS = 128 }; /* ROW_THREADS: of kernels with a row a block */

/* A row a block; 8 bytes an element, 6 from bf16. */
template <class W, int V>
__global__ void __launch_bounds__(ROW_THREADS)
    embed_kernel(float *y, const W *table, const float *image, const int32_t *ids, int cols)
{
    const int id = ids[blockIdx.x];
    float *to = y + (int64_t)blockIdx.x * cols;
#pragma unroll 4
    for (int c = threadIdx.x * V; c < cols; c += ROW_THREADS * V) {
        float v[V];
        if (id >= 0)
            k_get<V>(v, table + (int64_t)id * cols + c);
        else
            k_get<V>(v, image + (int64_t)(-1 - id) * cols + c);
        k_put<V>(to + c, v);
    }
}

/* Bit l: has id number first + 32*warp + l the value `id`? For the block's ids from `first` on, in every
 * thread; room: 8 words, free again after a barrier. */
__device__ static inline void same_ids(unsigned *room, const int32_t *ids, int first, int end, int id)
{
    const int j = first + (int)threadIdx.x;
    const unsigned found = __ballot_sync(K_ALL_LANES, j < end && ids[j] == id);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = found;
    __syncthreads();
}

/* to += the rows of dy that `found` names (row 0 is dy's first), in order; eight of them on their way at
 * once. */
template <int V>
__device__ static inline void add_rows(float *sum, unsigned found, const float *dy, int64_t cols)
{
    for (int l = 0; l < 32; l += 8) {
        float v[8][V];
        if ((found >> l & 0xFF) == 0) continue;
#pragma unroll
        for (int u = 0; u < 8; u++) {
            if (found >> (l + u) & 1) k_get<V>(v[u], dy + (l + u) * cols);
        }
#pragma unroll
        for (int u = 0; u < 8; u++) {
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += found >> (l + u) & 1 ? v[u][j] : 0.0f;
        }
    }
}

/* A row and THREADS * V columns a block. The first row of each id adds up all rows of that id. At least 8
 * bytes an element of dy; every block reads the ids, so rows^2 * 4 bytes from the cache. */
template <int V>
__global__ void __launch_bounds__(THREADS)
    embed_bwd_kernel(float *dtable, float *dimage, const float *dy, const int32_t *ids, int rows, int cols)
{
    SHARED_ARR(unsigned, found, THREADS / 32);
    const int row = blockIdx.x, id = ids[row], c = (blockIdx.y * THREADS + threadIdx.x) * V;
    const bool here = c < cols;
    float sum[V];
    bool earlier = false;
    for (int j = threadIdx.x; id >= 0 && j < row; j += THREADS) earlier |= ids[j] == id;
    const unsigned any = __ballot_sync(K_ALL_LANES, earlier);
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = any;
    __syncthreads();
    bool first = id >= 0 && dtable;
    for (int w = 0; w < THREADS / 32; w++) first = first && found[w] == 0;
    __syncthreads();
    if (first && here) k_get<V>(sum, dtable + (int64_t)id * cols + c);
    for (int at = row; at < (first ? rows : 0); at += THREADS) {
        same_ids(found, ids, at, rows, id);
        for (int w = 0; here && w < THREADS / 32; w++)
            add_rows<V>(sum, found[w], dy + (int64_t)(at + 32 * w) * cols + c, cols);
        __syncthreads();
    }
    if (first && here) k_put<V>(dtable + (int64_t)id * cols + c, sum);
    if (id < 0 && dimage && here) {
        k_get<V>(sum, dy + (int64_t)row * cols + c);
        k_put<V>(dimage + (int64_t)(-1 - id) * cols + c, sum);
    }
}

/* A patch a block: element e of it is (channel, ky, kx). 6 bytes an element (bf16) or 8. */
template <class T>
__global__ void __launch_bounds__(THREADS) patchify_kernel(T *y, const float *pixels, int size, int patch)
{
    const int g = size / patch, p = blockIdx.x, area = patch * patch, n = 3 * area;
    const float *corner = pixels + (int64_t)blockIdx.y * 3 * size * size + (int64_t)(p / g) * patch * size +
                          (int64_t)(p % g) * patch;
    T *to = y + ((int64_t)blockIdx.y * g * g + p) * n;
#pragma unroll 4
    for (int e = threadIdx.x; e < n; e += THREADS) {
        const int c = e / area, in = e - c * area, ky = in / patch, kx = in - ky * patch;
        to[e] = k_store<T>(corner[((int64_t)c * size + ky) * size + kx]);
    }
}

/* A token a block; 12 bytes an element, pos from the cache. */
template <int V>
__global__ void __launch_bounds__(ROW_THREADS)
    vit_embed_kernel(float *__restrict__ x, const float *__restrict__ patches, const float *__restrict__ cls,
                     const float *__restrict__ pos, int n, int cols)
{
    const int t = blockIdx.x;
    const float *from = t == 0 ? cls : patches + ((int64_t)blockIdx.y * n + t - 1) * cols;
    float *to = x + ((int64_t)blockIdx.y * (n + 1) + t) * cols;
#pragma unroll 4
    for (int c = threadIdx.x * V; c < cols; c += ROW_THREADS * V) {
        float v[V], place[V];
        k_get<V>(v, from + c);
        k_get<V>(place, pos + (int64_t)t * cols + c);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] += place[j];
        k_put<V>(to + c, v);
    }
}

/* A token, ROW_THREADS * V columns and all samples a block, samples in order; 8 bytes an element. */
template <int V>
__global__ void __launch_bounds__(ROW_THREADS)
    vit_embed_bwd_kernel(float *__restrict__ dpatches, float *__restrict__ dcls, float *__restrict__ dpos,
                         const float *__restrict__ dx, int batch, int n, int cols)
{
    const int t = blockIdx.x, c = (blockIdx.y * ROW_THREADS + threadIdx.x) * V;
    if (c >= cols) return;
    float cls[V] = {0}, pos[V] = {0};
    if (t == 0 && dcls) k_get<V>(cls, dcls + c);
    if (dpos) k_get<V>(pos, dpos + (int64_t)t * cols + c);
#pragma unroll 4
    for (int b = 0; b < batch; b++) {
        float d[V];
        k_get<V>(d, dx + ((int64_t)b * (n + 1) + t) * cols + c);
        if (t > 0 && dpatches) k_put<V>(dpatches + ((int64_t)b * n + t - 1) * cols + c, d);
#pragma unroll
        for (int j = 0; j < V; j++) {
            cls[j] += d[j];
            pos[j] += d[j];
        }
    }
    if (t == 0 && dcls) k_put<V>(dcls + c, cls);
    if (dpos) k_put<V>(dpos + (int64_t)t * cols + c, pos);
}

/* One copy a block row; x from the cache: 4 bytes an element of y. */
template <int V> __global__ void __launch_bounds__(THREADS) tile_kernel(float *y, const float *x, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    float v[V];
    if (i >= n) return;
    k_get<V>(v, x + i);
    k_put<V>(y + (int64_t)blockIdx.y * n + i, v);
}

/* 4 bytes an element of dy: one element a thread, because n is small (query tokens) and copies are many. */
__global__ void __launch_bounds__(ROW_THREADS)
    tile_bwd_kernel(float *dx, const float *dy, int copies, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * ROW_THREADS + threadIdx.x;
    if (i >= n) return;
    float sum = dx[i];
#pragma unroll 8
    for (int c = 0; c < copies; c++) sum += dy[c * n + i];
    dx[i] = sum;
}

/* T5Attention._relative_position_bucket: half the buckets exact, the rest logarithmic; `octave` is
 * log(max_distance/exact). */
__device__ static int bucket(int relative, int buckets, float octave, int bidirectional)
{
    int base = 0, n = -relative;
    if (bidirectional) {
        buckets /= 2;
        base = relative > 0 ? buckets : 0;
        n = relative > 0 ? relative : -relative;
    }
    if (n < 0) n = 0;
    const int exact = buckets / 2;
    if (n < exact) return base + n;
    const int far = exact + (int)(logf((float)n / (float)exact) / octave * (float)(buckets - exact));
    return base + (far < buckets ? far : buckets - 1);
}

/* Small: heads * n, bound by the launch. */
__global__ void __launch_bounds__(THREADS)
    relbias_kernel(float *bias, const float *table, int heads, int buckets, float octave, int bidirectional,
                   int zero, int n)
{
    const int c = blockIdx.x * THREADS + threadIdx.x, h = blockIdx.y;
    if (c < n) bias[(int64_t)h * n + c] = table[bucket(c - zero, buckets, octave, bidirectional) * heads + h];
}

/* A head a block: THREADS distances at a time are put into their buckets, then a thread for each bucket
 * adds up what is its own, in order. Small, bound by the latency of shared memory. */
__global__ void __launch_bounds__(THREADS)
    relbias_bwd_kernel(float *dtable, const float *dbias, int heads, int buckets, float octave,
                       int bidirectional, int zero, int n)
{
    SHARED_ARR(int, where, THREADS);
    SHARED_ARR(float, value, THREADS);
    const int h = blockIdx.x, t = threadIdx.x;
    for (int first = 0; first < n; first += THREADS) {
        const int c = first + t, count = n - first < THREADS ? n - first : THREADS;
        where[t] = c < n ? bucket(c - zero, buckets, octave, bidirectional) : -1;
        value[t] = c < n ? dbias[(int64_t)h * n + c] : 0.0f;
        __syncthreads();
        for (int b = t; b < buckets; b += THREADS) {
            float sum = dtable[(int64_t)b * heads + h];
#pragma unroll 8
            for (int i = 0; i < count; i++) sum += where[i] == b ? value[i] : 0.0f;
            dtable[(int64_t)b * heads + h] = sum;
        }
        __syncthreads();
    }
}

static float octave_of(int buckets, int max_distance, int bidirectional)
{
    const int exact = (bidirectional ? buckets / 2 : buckets) / 2;
    return (float)log((double)max_distance / exact);
}

template <class W>
static void embed(b2_queue *q, float *y, const W *table, const float *image, const int32_t *ids, int rows,
                  int cols)
{
    if (cols % 4 == 0 && k_fits<4>(y, image) && k_fits<4>(table))
        k_launch(q, (embed_kernel<W, 4>), rows, ROW_THREADS, 0, y, table, image, ids, cols);
    else
        k_launch(q, (embed_kernel<W, 1>), rows, ROW_THREADS, 0, y, table, image, ids, cols);
}

template <class T>
static void embed_wf32(b2_queue *q, float *y, const float *table, const float *image, const int32_t *ids,
                       int rows, int cols)
{
    embed(q, y, table, image, ids, rows, cols);
}

template <class T>
static void embed_wbf16(b2_queue *q, float *y, const uint16_t *table, const float *image, const int32_t *ids,
                        int rows, int cols)
{
    embed(q, y, (const bf16 *)table, image, ids, rows, cols);
}

template <class T>
static void embed_bwd(b2_queue *q, float *dtable, float *dimage, const float *dy, const int32_t *ids,
                      int rows, int cols)
{
    if (cols % 4 == 0 && k_fits<4>(dtable, dimage, dy))
        k_launch(q, embed_bwd_kernel<4>, dim3((unsigned)rows, (unsigned)k_blocks(cols, THREADS * 4)), THREADS,
                 0, dtable, dimage, dy, ids, rows, cols);
    else
        k_launch(q, embed_bwd_kernel<1>, dim3((unsigned)rows, (unsigned)k_blocks(cols, THREADS)), THREADS, 0,
                 dtable, dimage, dy, ids, rows, cols);
}

template <class T>
static void patchify(b2_queue *q, void *y, const float *pixels, int batch, int size, int patch)
{
    const int g = size / patch;
    k_launch(q, patchify_kernel<T>, dim3((unsigned)(g * g), (unsigned)batch), THREADS, 0, (T *)y, pixels,
             size, patch);
}

template <class T>
static void vit_embed_fwd(b2_queue *q, float *x, const float *patches, const float *cls, const float *pos,
                          int batch, int n, int cols)
{
    const dim3 grid((unsigned)(n + 1), (unsigned)batch);
    if (cols % 4 == 0 && k_fits<4>(x, patches, cls, pos))
        k_launch(q, vit_embed_kernel<4>, grid, ROW_THREADS, 0, x, patches, cls, pos, n, cols);
    else
        k_launch(q, vit_embed_kernel<1>, grid, ROW_THREADS, 0, x, patches, cls, pos, n, cols);
}

template <class T>
static void vit_embed_bwd(b2_queue *q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch,
                          int n, int cols)
{
    if (batch == 0) return;
    if (cols % 4 == 0 && k_fits<4>(dpatches, dcls, dpos, dx))
        k_launch(q, vit_embed_bwd_kernel<4>,
                 dim3((unsigned)(n + 1), (unsigned)k_blocks(cols, ROW_THREADS * 4)), ROW_THREADS, 0, dpatches,
                 dcls, dpos, dx, batch, n, cols);
    else
        k_launch(q, vit_embed_bwd_kernel<1>, dim3((unsigned)(n + 1), (unsigned)k_blocks(cols, ROW_THREADS)),
                 ROW_THREADS, 0, dpatches, dcls, dpos, dx, batch, n, cols);
}

template <class T> static void tile_fwd(b2_queue *q, float *y, const float *x, int copies, int64_t n)
{
    if (n % 4 == 0 && k_fits<4>(y, x))
        k_launch(q, tile_kernel<4>, dim3((unsigned)k_blocks(n, THREADS * 4), (unsigned)copies), THREADS, 0, y,
                 x, n);
    else
        k_launch(q, tile_kernel<1>, dim3((unsigned)k_blocks(n, THREADS), (unsigned)copies), THREADS, 0, y, x,
                 n);
}

template <class T> static void tile_bwd(b2_queue *q, float *dx, const float *dy, int copies, int64_t n)
{
    if (copies > 0) k_launch(q, tile_bwd_kernel, k_blocks(n, ROW_THREADS), ROW_THREADS, 0, dx, dy, copies, n);
}

template <class T>
static void relbias_fwd(b2_queue *q, float *bias, const float *table, int heads, int buckets,
                        int max_distance, int bidirectional, int zero, int n)
{
    k_launch(q, relbias_kernel, dim3((unsigned)k_blocks(n, THREADS), (unsigned)heads), THREADS, 0, bias,
             table, heads, buckets, octave_of(buckets, max_distance, bidirectional), bidirectional, zero, n);
}

template <class T>
static void relbias_bwd(b2_queue *q, float *dtable, const float *dbias, int heads, int buckets,
                        int max_distance, int bidirectional, int zero, int n)
{
    if (n > 0)
        k_launch(q, relbias_bwd_kernel, heads, THREADS, 0, dtable, dbias, heads, buckets,
                 octave_of(buckets, max_distance, bidirectional), bidirectional, zero, n);
}

K_EXPORT(embed_wf32,
         (b2_queue * q, float *y, const float *table, const float *image, const int32_t *ids, int rows,
          int cols),
         (q, y, table, image, ids, rows, cols))
K_EXPORT(embed_wbf16,
         (b2_queue * q, float *y, const uint16_t *table, const float *image, const int32_t *ids, int rows,
          int cols),
         (q, y, table, image, ids, rows, cols))
K_EXPORT(embed_bwd,
         (b2_queue * q, float *dtable, float *dimage, const float *dy, const int32_t *ids, int rows,
          int cols),
         (q, dtable, dimage, dy, ids, rows, cols))
K_EXPORT(patchify, (b2_queue * q, void *y, const float *pixels, int batch, int size, int patch),
         (q, y, pixels, batch, size, patch))
K_EXPORT(vit_embed_fwd,
         (b2_queue * q, float *x, const float *patches, const float *cls, const float *pos, int batch, int n,
          int cols),
         (q, x, patches, cls, pos, batch, n, cols))
K_EXPORT(vit_embed_bwd,
         (b2_queue * q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch, int n,
          int cols),
         (q, dpatches, dcls, dpos, dx, batch, n, cols))
K_EXPORT(tile_fwd, (b2_queue * q, float *y, const float *x, int copies, int64_t n), (q, y, x, copies, n))
K_EXPORT(tile_bwd, (b2_queue * q, float *dx, const float *dy, int copies, int64_t n), (q, dx, dy, copies, n))
K_EXPORT(relbias_fwd,
         (b2_queue * q, float *bias, const float *table, int heads, int buckets, int max_distance,
          int bidirectional, int zero, int n),
         (q, bias, table, heads, buckets, max_distance, bidirectional, zero, n))
K_EXPORT(relbias_bwd,
         (b2_queue * q, float *dtable, const float *dbias, int heads, int buckets, int max_distance,
          int bidirectional, int zero, int n),
         (q, dtable, dbias, heads, buckets, max_distance, bidirectional, zero, n))
