/* The optimizer on flat buffers: sums in double in a fixed order, and AdamW in one launch that does nothing when the step is not
 * finite. Memory bounds them: 28 bytes an element for AdamW. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, CHUNK = 4096 };

__device__ static double block_sum(double x, double *room)
{
    room[threadIdx.x] = x;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    return room[0];
}

/* part[chunk] = sum of squares of its elements */
__global__ void __launch_bounds__(THREADS) squares_kernel(double *part, const float *x, int64_t n)
{
    SHARED_ARR(double, room, THREADS);
    const int64_t first = (int64_t)blockIdx.x * CHUNK;
    double sum = 0;
    for (int k = threadIdx.x; k < CHUNK; k += THREADS) {
        if (first + k < n) sum += (double)x[first + k] * x[first + k];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

/* out = (add ? out : 0) + sum of x; one block. */
template <class X> __global__ void __launch_bounds__(THREADS) total_kernel(double *out, const X *x, int64_t n, bool add)
{
    SHARED_ARR(double, room, THREADS);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += (double)x[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *out = (add ? *out : 0.0) + sum;
}

__global__ void __launch_bounds__(THREADS) adamw_kernel(float *w, const float *g, float *m, float *v, int64_t n, float decay, const b2_step *s)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (!s->finite || i >= n) return;
    const float d = g[i] * s->gscale, mi = s->beta1 * m[i] + (1.0f - s->beta1) * d, vi = s->beta2 * v[i] + (1.0f - s->beta2) * d * d;
    m[i] = mi;
    v[i] = vi;
    w[i] = w[i] * (1.0f - s->lr * decay * s->weight_decay) - s->lr * (mi * s->c1) / (sqrtf(vi * s->c2) + s->eps);
}

static size_t sumsq_ws(int64_t n, int threads)
{
    (void)threads;
    return (size_t)k_blocks(n, CHUNK) * sizeof(double);
}

template <class T> static void sumsq(b2_queue *q, double *out, const float *x, int64_t n, void *ws)
{
    k_launch(q, squares_kernel, k_blocks(n, CHUNK), THREADS, 0, (double *)ws, x, n);
    k_launch(q, total_kernel<double>, 1, THREADS, 0, out, (const double *)ws, (int64_t)k_blocks(n, CHUNK), false);
}

template <class T> static void sum(b2_queue *q, double *out, const float *x, int64_t n)
{
    k_launch(q, total_kernel<float>, 1, THREADS, 0, out, x, n, true);
}

template <class T> static void adamw(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay)
{
    k_launch(q, adamw_kernel, k_blocks(n, THREADS), THREADS, 0, w, g, m, v, n, decay, b2_cuda_step(q));
}

K_EXPORT(sumsq, (b2_queue *q, double *out, const float *x, int64_t n, void *ws), (q, out, x, n, ws))
K_EXPORT_WS(sumsq_ws, (int64_t n, int threads), (n, threads))
K_EXPORT(sum, (b2_queue *q, double *out, const float *x, int64_t n), (q, out, x, n))
K_EXPORT(adamw, (b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay), (q, w, g, m, v, n, decay))
