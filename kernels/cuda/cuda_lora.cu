/* LoRA: y += scale B (A x), each item with its own adapter or none, in one launch. */
#include "kernels/cuda/vectors.cuh"

enum { LORA_ROWS = 4, LORA_THREADS = 256, LORA_WARPS = LORA_THREADS / 32, LORA_PIECE = 8 };

struct lora_set {
    b2_lora_ab ab[B2_MAX_ADAPTERS];
};

/* u = A x of up to 4 rows: a warp a rank at a time. */
template <int V, class T>
__device__ static void lora_down(float *u, const T *x, const b2_lora_ab &l, int rows, int k)
{
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < l.r; r += LORA_WARPS) {
        float sum[LORA_ROWS] = {};
        for (int c = lane * V; c < k; c += 32 * V) {
            float a[V], b[V];
            k_get<V>(a, l.a + (int64_t)r * k + c);
#pragma unroll
            for (int i = 0; i < LORA_ROWS; i++) {
                if (i < rows) {
                    k_get<V>(b, x + (int64_t)i * k + c);
#pragma unroll
                    for (int j = 0; j < V; j++) sum[i] = fmaf(a[j], b[j], sum[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < LORA_ROWS; i++) {
            const float total = k_warp_sum(sum[i]);
            if (lane == 0 && i < rows) u[i * l.r + r] = total;
        }
    }
}

/* y += scale B u: a thread a column; 8 ranks of B at a time in its registers. */
__device__ static void lora_up(float *y, int ldy, const float *u, const b2_lora_ab &l, int rows, int n)
{
    for (int o = threadIdx.x; o < n; o += LORA_THREADS) {
        float sum[LORA_ROWS] = {};
        for (int r0 = 0; r0 < l.r; r0 += LORA_PIECE) {
            float b[LORA_PIECE];
#pragma unroll
            for (int j = 0; j < LORA_PIECE; j++) b[j] = r0 + j < l.r ? l.b[(int64_t)o * l.r + r0 + j] : 0.0f;
#pragma unroll
            for (int i = 0; i < LORA_ROWS; i++) {
#pragma unroll
                for (int j = 0; j < LORA_PIECE; j++) {
                    if (i < rows && r0 + j < l.r) sum[i] = fmaf(b[j], u[i * l.r + r0 + j], sum[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < LORA_ROWS; i++) {
            if (i < rows) y[(int64_t)i * ldy + o] += l.scale * sum[i];
        }
    }
}

/* A block: 4 rows of one item. Reads and writes y once and reads x and the adapter, m (8 n + 2 k) bytes in
 * bf16 and, from L2, 4 r (n + k) a block: memory bounds it. */
template <int V, class T>
__global__ void __launch_bounds__(LORA_THREADS)
    lora_kernel(float *y, int ldy, float *u, const T *x, lora_set set, const int32_t *which, int per_item,
                int n, int k)
{
    DYN_SHARED(float, room);
    const int item = blockIdx.x, first = (int)blockIdx.y * LORA_ROWS,
              rows = min(per_item - first, (int)LORA_ROWS);
    const int adapter = which ? which[item] : 0;
    const int64_t row = (int64_t)item * per_item + first;
    b2_lora_ab l = {NULL, NULL, 0, 0.0f};
#pragma unroll
    for (int i = 0; i < B2_MAX_ADAPTERS; i++) {
        if (i == adapter) l = set.ab[i];
    }
    if (l.r == 0) return; /* the whole block */
    lora_down<V>(room, x + row * k, l, rows, k);
    __syncthreads();
    for (int i = threadIdx.x; u && i < rows * l.r; i += LORA_THREADS) u[row * l.r + i] = room[i];
    lora_up(y + row * ldy, ldy, room, l, rows, n);
}

template <class T>
static void lora_fwd(b2_queue *q, float *y, int ldy, float *u, const void *x, const b2_lora_ab *set, int nset,
                     const int32_t *which, int items, int per_item, int n, int k, void *ws)
{
    lora_set s = {};
    bool wide = k % 4 == 0 && k_fits<4>((const T *)x);
    int rmax = 0;
    (void)ws;
    for (int i = 0; i < nset && i < B2_MAX_ADAPTERS; i++) {
        s.ab[i] = set[i];
        rmax = set[i].r > rmax ? set[i].r : rmax;
        wide = wide && k_fits<4>(set[i].a);
    }
    if (rmax == 0) return;
    const dim3 grid(items, k_blocks(per_item, LORA_ROWS));
    const size_t room = (size_t)LORA_ROWS * (size_t)rmax * sizeof(float);
    if (wide)
        k_launch(q, (lora_kernel<4, T>), grid, LORA_THREADS, room, y, ldy, u, (const T *)x, s, which,
                 per_item, n, k);
    else
        k_launch(q, (lora_kernel<1, T>), grid, LORA_THREADS, room, y, ldy, u, (const T *)x, s, which,
                 per_item, n, k);
}
static size_t lora_ws(int m, int n, int k, int rmax, int threads)
{
    (void)m, (void)n, (void)k, (void)rmax, (void)threads;
    return 0;
}

K_EXPORT(lora_fwd,
         (b2_queue * q, float *y, int ldy, float *u, const void *x, const b2_lora_ab *set, int nset,
          const int32_t *which, int items, int per_item, int n, int k, void *ws),
         (q, y, ldy, u, x, set, nset, which, items, per_item, n, k, ws))
K_EXPORT_WS(lora_ws, (int m, int n, int k, int rmax, int threads), (m, n, k, rmax, threads))
