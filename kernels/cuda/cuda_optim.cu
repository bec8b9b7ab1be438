/* The optimizer on flat buffers: sums in double in a fixed order, and AdamW in one launch that does
 * nothing when the step is not finite. Memory bounds them. */
#include "kernels/cuda/vectors.cuh"

enum { THREADS = 256, EACH = 4, CHUNK = THREADS * EACH * 4 }; /* elements of a block of sums */

__device__ static inline double warp_sum(double x)
{
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(K_ALL_LANES, x, d);
    return x;
}

/* In thread 0; room: a number for each warp. */
__device__ static double block_sum(double x, double *room)
{
    const int lane = threadIdx.x % 32;
    x = warp_sum(x);
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(lane < THREADS / 32 ? room[lane] : 0.0);
}

/* part[chunk] = sum of squares of its elements; which of them a thread takes does not depend on V. 4 bytes
 * an element (and one double multiply-add, which is as much as consumer cards can do). */
template <int V>
__global__ void __launch_bounds__(THREADS) squares_kernel(double *part, const float *x, int64_t n)
{
    SHARED_ARR(double, room, THREADS / 32);
    float v[EACH][4];
    double sum = 0;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const int64_t i = (int64_t)blockIdx.x * CHUNK + (k * THREADS + threadIdx.x) * 4;
#pragma unroll
        for (int j = 0; j < 4; j += V) {
            if (i + j < n)
                k_get_some<V>(v[k] + j, x + i + j, n - i - j);
            else
                for (int u = 0; u < V; u++) v[k][j + u] = 0.0f;
        }
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sum += (double)v[k][j] * v[k][j];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

/* out = (add ? out : 0) + sum of x; one block, for the few numbers of a batch. */
template <class X>
__global__ void __launch_bounds__(THREADS) total_kernel(double *out, const X *x, int64_t n, bool add)
{
    SHARED_ARR(double, room, THREADS / 32);
    double sum = 0;
#pragma unroll 8
    for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += (double)x[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *out = (add ? *out : 0.0) + sum;
}

/* 28 bytes an element. A thread with nothing to do or a step that is not finite touches nothing. */
template <int V>
__global__ void __launch_bounds__(THREADS)
    adamw_kernel(float *__restrict__ w, const float *__restrict__ g, float *__restrict__ m,
                 float *__restrict__ v, int64_t n, float decay, const b2_step *__restrict__ step)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V, left = n - i;
    if (left <= 0 || !step->finite) return;
    const float b1 = step->beta1, b2 = step->beta2, shrink = 1.0f - step->lr * decay * step->weight_decay;
    float wi[V], gi[V], mi[V], vi[V];
    k_get_some<V>(gi, g + i, left);
    k_get_some<V>(mi, m + i, left);
    k_get_some<V>(vi, v + i, left);
    k_get_some<V>(wi, w + i, left);
#pragma unroll
    for (int j = 0; j < V; j++) {
        const float d = gi[j] * step->gscale;
        mi[j] = b1 * mi[j] + (1.0f - b1) * d;
        vi[j] = b2 * vi[j] + (1.0f - b2) * d * d;
        wi[j] = wi[j] * shrink - step->lr * (mi[j] * step->c1) / (sqrtf(vi[j] * step->c2) + step->eps);
    }
    k_put_some<V>(m + i, mi, left);
    k_put_some<V>(v + i, vi, left);
    k_put_some<V>(w + i, wi, left);
}

__global__ void step_scale_kernel(b2_step *step, const double *sums, const float *count, double clip)
{
    const double tokens = *count, norm = sqrt(sums[1]) / tokens, most = clip / (norm + 1e-6);
    step->finite = isfinite(sums[0]) && isfinite(sums[1]);
    step->gscale = (float)((clip > 0.0 && most < 1.0 ? most : 1.0) / tokens);
}

static size_t sumsq_ws(int64_t n, int threads)
{
    (void)threads;
    return (size_t)k_blocks(n, CHUNK) * sizeof(double);
}

template <class T> static void sumsq(b2_queue *q, double *out, const float *x, int64_t n, void *ws)
{
    const int chunks = k_blocks(n, CHUNK);
    if (k_fits<4>(x))
        k_launch(q, squares_kernel<4>, chunks, THREADS, 0, (double *)ws, x, n);
    else
        k_launch(q, squares_kernel<1>, chunks, THREADS, 0, (double *)ws, x, n);
    k_launch(q, total_kernel<double>, 1, THREADS, 0, out, (const double *)ws, (int64_t)chunks, false);
}

template <class T> static void sum(b2_queue *q, double *out, const float *x, int64_t n)
{
    if (n > 0) k_launch(q, total_kernel<float>, 1, THREADS, 0, out, x, n, true);
}

template <class T>
static void step_scale(b2_queue *q, b2_step *step, const double *sums, const float *count, double clip)
{
    k_launch(q, step_scale_kernel, 1, 1, 0, step, sums, count, clip);
}

template <class T>
static void adamw(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay)
{
    if (k_fits<4>(w, g, m, v))
        k_launch(q, adamw_kernel<4>, k_blocks(n, THREADS * 4), THREADS, 0, w, g, m, v, n, decay,
                 b2_cuda_step(q));
    else
        k_launch(q, adamw_kernel<1>, k_blocks(n, THREADS), THREADS, 0, w, g, m, v, n, decay, b2_cuda_step(q));
}

K_EXPORT(sumsq, (b2_queue * q, double *out, const float *x, int64_t n, void *ws), (q, out, x, n, ws))
K_EXPORT_WS(sumsq_ws, (int64_t n, int threads), (n, threads))
K_EXPORT(sum, (b2_queue * q, double *out, const float *x, int64_t n), (q, out, x, n))
K_EXPORT(step_scale, (b2_queue * q, b2_step *step, const double *sums, const float *count, double clip),
         (q, step, sums, count, clip))
K_EXPORT(adamw, (b2_queue * q, float *w, const float *g, float *m, float *v, int64_t n, float decay),
         (q, w, g, m, v, n, decay))
