/* Embeddings, image patches, rows shared by a batch, the KV cache, T5's relative bias: copies and gathers, bound by memory. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

__device__ static inline float wide(float x) { return x; }
__device__ static inline float wide(uint16_t x) { return __uint_as_float((unsigned)x << 16); }

/* A row a block. */
template <class W> __global__ void __launch_bounds__(THREADS) embed_kernel(float *y, const W *table, const float *image, const int32_t *ids, int cols)
{
    const int id = ids[blockIdx.x];
    float *to = y + (int64_t)blockIdx.x * cols;
    for (int c = threadIdx.x; c < cols; c += THREADS) to[c] = id >= 0 ? wide(table[(int64_t)id * cols + c]) : image[(int64_t)(-1 - id) * cols + c];
}

/* A row a block. The first row of each id adds up all rows of that id, in their order: no atomics, the same bits always. */
__global__ void __launch_bounds__(THREADS) embed_bwd_kernel(float *dtable, float *dimage, const float *dy, const int32_t *ids, int rows, int cols)
{
    SHARED(int, earlier);
    const int row = blockIdx.x, id = ids[row];
    if (threadIdx.x == 0) earlier = 0;
    __syncthreads();
    for (int j = threadIdx.x; j < row; j += THREADS) {
        if (ids[j] == id) atomicExch(&earlier, 1);
    }
    __syncthreads();
    if (id < 0) {
        float *to = dimage ? dimage + (int64_t)(-1 - id) * cols : nullptr;
        for (int c = threadIdx.x; to && c < cols; c += THREADS) to[c] = dy[(int64_t)row * cols + c];
        return;
    }
    if (earlier || !dtable) return;
    for (int c = threadIdx.x; c < cols; c += THREADS) {
        float sum = dtable[(int64_t)id * cols + c];
        for (int j = row; j < rows; j++) {
            if (ids[j] == id) sum += dy[(int64_t)j * cols + c];
        }
        dtable[(int64_t)id * cols + c] = sum;
    }
}

/* A patch a block: element e of it is (channel, ky, kx). */
template <class T> __global__ void __launch_bounds__(THREADS) patchify_kernel(T *y, const float *pixels, int size, int patch)
{
    const int g = size / patch, p = blockIdx.x, n = 3 * patch * patch;
    const float *corner = pixels + (int64_t)blockIdx.y * 3 * size * size + (int64_t)(p / g) * patch * size + (int64_t)(p % g) * patch;
    T *to = y + ((int64_t)blockIdx.y * g * g + p) * n;
    for (int e = threadIdx.x; e < n; e += THREADS) {
        const int c = e / (patch * patch), ky = e / patch % patch, kx = e % patch;
        to[e] = k_store<T>(corner[((int64_t)c * size + ky) * size + kx]);
    }
}

/* A token a block. */
__global__ void __launch_bounds__(THREADS) vit_embed_kernel(float *x, const float *patches, const float *cls, const float *pos, int n, int cols)
{
    const int t = blockIdx.x;
    const float *from = t == 0 ? cls : patches + ((int64_t)blockIdx.y * n + t - 1) * cols;
    float *to = x + ((int64_t)blockIdx.y * (n + 1) + t) * cols;
    for (int c = threadIdx.x; c < cols; c += THREADS) to[c] = from[c] + pos[(int64_t)t * cols + c];
}

/* A token and all its samples a block, samples in order. */
__global__ void __launch_bounds__(THREADS) vit_embed_bwd_kernel(float *dpatches, float *dcls, float *dpos, const float *dx, int batch, int n, int cols)
{
    const int t = blockIdx.x;
    for (int c = threadIdx.x; c < cols; c += THREADS) {
        float cls = t == 0 && dcls ? dcls[c] : 0.0f, pos = dpos ? dpos[(int64_t)t * cols + c] : 0.0f;
        for (int b = 0; b < batch; b++) {
            const float d = dx[((int64_t)b * (n + 1) + t) * cols + c];
            if (t > 0 && dpatches) dpatches[((int64_t)b * n + t - 1) * cols + c] = d;
            cls += d;
            pos += d;
        }
        if (t == 0 && dcls) dcls[c] = cls;
        if (dpos) dpos[(int64_t)t * cols + c] = pos;
    }
}

__global__ void __launch_bounds__(THREADS) tile_kernel(float *y, const float *x, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[(int64_t)blockIdx.y * n + i] = x[i];
}

__global__ void __launch_bounds__(THREADS) tile_bwd_kernel(float *dx, const float *dy, int copies, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float sum = dx[i];
    for (int c = 0; c < copies; c++) sum += dy[c * n + i];
    dx[i] = sum;
}

/* An item a block. */
__global__ void __launch_bounds__(THREADS)
    kv_append_kernel(float *kcache, float *vcache, const float *kv, int ld, int k0, int v0, const int32_t *pos, int cap, int cols)
{
    const int64_t to = ((int64_t)blockIdx.x * cap + pos[blockIdx.x]) * cols;
    const float *from = kv + (int64_t)blockIdx.x * ld;
    for (int c = threadIdx.x; c < cols; c += THREADS) {
        kcache[to + c] = from[k0 + c];
        vcache[to + c] = from[v0 + c];
    }
}

/* T5Attention._relative_position_bucket: half the buckets exact, the rest logarithmic; `octave` is log(max_distance/exact). */
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

__global__ void __launch_bounds__(THREADS) relbias_kernel(float *bias, const float *table, int heads, int buckets, float octave, int bidirectional, int zero, int n)
{
    const int c = blockIdx.x * THREADS + threadIdx.x, h = blockIdx.y;
    if (c < n) bias[(int64_t)h * n + c] = table[bucket(c - zero, buckets, octave, bidirectional) * heads + h];
}

/* A thread for each entry of the table: it walks over all distances in order. */
__global__ void __launch_bounds__(THREADS)
    relbias_bwd_kernel(float *dtable, const float *dbias, int heads, int buckets, float octave, int bidirectional, int zero, int n)
{
    const int i = blockIdx.x * THREADS + threadIdx.x, h = i % heads;
    if (i >= buckets * heads) return;
    float sum = dtable[i];
    for (int c = 0; c < n; c++) {
        if (bucket(c - zero, buckets, octave, bidirectional) == i / heads) sum += dbias[(int64_t)h * n + c];
    }
    dtable[i] = sum;
}

static float octave_of(int buckets, int max_distance, int bidirectional)
{
    const int exact = (bidirectional ? buckets / 2 : buckets) / 2;
    return (float)log((double)max_distance / exact);
}

template <class T> static void embed_wf32(b2_queue *q, float *y, const float *table, const float *image, const int32_t *ids, int rows, int cols)
{
    k_launch(q, embed_kernel<float>, rows, THREADS, 0, y, table, image, ids, cols);
}

template <class T> static void embed_wbf16(b2_queue *q, float *y, const uint16_t *table, const float *image, const int32_t *ids, int rows, int cols)
{
    k_launch(q, embed_kernel<uint16_t>, rows, THREADS, 0, y, table, image, ids, cols);
}

template <class T> static void embed_bwd(b2_queue *q, float *dtable, float *dimage, const float *dy, const int32_t *ids, int rows, int cols)
{
    k_launch(q, embed_bwd_kernel, rows, THREADS, 0, dtable, dimage, dy, ids, rows, cols);
}

template <class T> static void patchify(b2_queue *q, void *y, const float *pixels, int batch, int size, int patch)
{
    const int g = size / patch;
    k_launch(q, patchify_kernel<T>, dim3((unsigned)(g * g), (unsigned)batch), THREADS, 0, (T *)y, pixels, size, patch);
}

template <class T>
static void vit_embed_fwd(b2_queue *q, float *x, const float *patches, const float *cls, const float *pos, int batch, int n, int cols)
{
    k_launch(q, vit_embed_kernel, dim3((unsigned)(n + 1), (unsigned)batch), THREADS, 0, x, patches, cls, pos, n, cols);
}

template <class T> static void vit_embed_bwd(b2_queue *q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch, int n, int cols)
{
    if (batch > 0) k_launch(q, vit_embed_bwd_kernel, n + 1, THREADS, 0, dpatches, dcls, dpos, dx, batch, n, cols);
}

template <class T> static void tile_fwd(b2_queue *q, float *y, const float *x, int copies, int64_t n)
{
    k_launch(q, tile_kernel, dim3((unsigned)k_blocks(n, THREADS), (unsigned)copies), THREADS, 0, y, x, n);
}

template <class T> static void tile_bwd(b2_queue *q, float *dx, const float *dy, int copies, int64_t n)
{
    if (copies > 0) k_launch(q, tile_bwd_kernel, k_blocks(n, THREADS), THREADS, 0, dx, dy, copies, n);
}

template <class T>
static void kv_append(b2_queue *q, float *kcache, float *vcache, const float *kv, int ld, int k0, int v0, const int32_t *pos, int batch, int cap, int cols)
{
    k_launch(q, kv_append_kernel, batch, THREADS, 0, kcache, vcache, kv, ld, k0, v0, pos, cap, cols);
}

template <class T>
static void relbias_fwd(b2_queue *q, float *bias, const float *table, int heads, int buckets, int max_distance, int bidirectional, int zero, int n)
{
    k_launch(q, relbias_kernel, dim3((unsigned)k_blocks(n, THREADS), (unsigned)heads), THREADS, 0, bias, table, heads, buckets,
             octave_of(buckets, max_distance, bidirectional), bidirectional, zero, n);
}

template <class T>
static void relbias_bwd(b2_queue *q, float *dtable, const float *dbias, int heads, int buckets, int max_distance, int bidirectional, int zero, int n)
{
    k_launch(q, relbias_bwd_kernel, k_blocks((int64_t)buckets * heads, THREADS), THREADS, 0, dtable, dbias, heads, buckets,
             octave_of(buckets, max_distance, bidirectional), bidirectional, zero, n);
}

K_EXPORT(embed_wf32, (b2_queue *q, float *y, const float *table, const float *image, const int32_t *ids, int rows, int cols),
         (q, y, table, image, ids, rows, cols))
K_EXPORT(embed_wbf16, (b2_queue *q, float *y, const uint16_t *table, const float *image, const int32_t *ids, int rows, int cols),
         (q, y, table, image, ids, rows, cols))
K_EXPORT(embed_bwd, (b2_queue *q, float *dtable, float *dimage, const float *dy, const int32_t *ids, int rows, int cols),
         (q, dtable, dimage, dy, ids, rows, cols))
K_EXPORT(patchify, (b2_queue *q, void *y, const float *pixels, int batch, int size, int patch), (q, y, pixels, batch, size, patch))
K_EXPORT(vit_embed_fwd, (b2_queue *q, float *x, const float *patches, const float *cls, const float *pos, int batch, int n, int cols),
         (q, x, patches, cls, pos, batch, n, cols))
K_EXPORT(vit_embed_bwd, (b2_queue *q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch, int n, int cols),
         (q, dpatches, dcls, dpos, dx, batch, n, cols))
K_EXPORT(tile_fwd, (b2_queue *q, float *y, const float *x, int copies, int64_t n), (q, y, x, copies, n))
K_EXPORT(tile_bwd, (b2_queue *q, float *dx, const float *dy, int copies, int64_t n), (q, dx, dy, copies, n))
K_EXPORT(kv_append,
         (b2_queue *q, float *kcache, float *vcache, const float *kv, int ld, int k0, int v0, const int32_t *pos, int batch, int cap, int cols),
         (q, kcache, vcache, kv, ld, k0, v0, pos, batch, cap, cols))
K_EXPORT(relbias_fwd, (b2_queue *q, float *bias, const float *table, int heads, int buckets, int max_distance, int bidirectional, int zero, int n),
         (q, bias, table, heads, buckets, max_distance, bidirectional, zero, n))
K_EXPORT(relbias_bwd, (b2_queue *q, float *dtable, const float *dbias, int heads, int buckets, int max_distance, int bidirectional, int zero, int n),
         (q, dtable, dbias, heads, buckets, max_distance, bidirectional, zero, n))
