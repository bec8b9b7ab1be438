/* Dropout with the CPU's very masks: a block works within one sample, whose key each thread makes once for eight elements.
 * Memory bounds it: one read, one write. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, EACH = 8 };

/* Calls each(e, kept) for the elements of this thread; e counts within sample blockIdx.y. */
template <class F> __device__ static inline void for_mask(const b2_step *step, uint32_t site, uint32_t limit, int64_t per_sample, F each)
{
    const uint64_t key = b2_drop_key(step->seed, step->step, step->sample[blockIdx.y], site);
    const int64_t first = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const int64_t e = first + k * THREADS;
        if (e < per_sample) each(e, b2_drop_keep(key, (uint32_t)e, limit) != 0);
    }
}

/* y may be x: no __restrict__. */
template <class T> __global__ void __launch_bounds__(THREADS)
    dropout_kernel(T *y, const T *x, int64_t per_sample, float scale, uint32_t limit, uint32_t site, const b2_step *step)
{
    const int64_t base = (int64_t)blockIdx.y * per_sample;
    for_mask(step, site, limit, per_sample, [=](int64_t e, bool kept) { y[base + e] = k_store<T>(kept ? k_load(x[base + e]) * scale : 0.0f); });
}

__global__ void __launch_bounds__(THREADS)
    dropout_add_kernel(float *y, const float *x, int64_t per_sample, float scale, uint32_t limit, uint32_t site, float beta, const b2_step *step)
{
    const int64_t base = (int64_t)blockIdx.y * per_sample;
    for_mask(step, site, limit, per_sample, [=](int64_t e, bool kept) {
        const float old = beta == 0.0f ? 0.0f : beta * y[base + e];
        y[base + e] = old + (kept ? x[base + e] * scale : 0.0f);
    });
}

static dim3 grid_of(int64_t per_sample, int samples) { return dim3((unsigned)k_blocks(per_sample, THREADS * EACH), (unsigned)samples); }

template <class T> static void dropout(b2_queue *q, void *y, const void *x, int64_t per_sample, int samples, float p, uint32_t site)
{
    k_launch(q, dropout_kernel<T>, grid_of(per_sample, samples), THREADS, 0, (T *)y, (const T *)x, per_sample, 1.0f / (1.0f - p), b2_drop_limit(p), site,
             b2_cuda_step(q));
}

template <class T>
static void dropout_add(b2_queue *q, float *y, const float *x, int64_t per_sample, int samples, float p, uint32_t site, float beta)
{
    k_launch(q, dropout_add_kernel, grid_of(per_sample, samples), THREADS, 0, y, x, per_sample, 1.0f / (1.0f - p), b2_drop_limit(p), site, beta,
             b2_cuda_step(q));
}

K_EXPORT(dropout, (b2_queue *q, void *y, const void *x, int64_t per_sample, int samples, float p, uint32_t site), (q, y, x, per_sample, samples, p, site))
K_EXPORT(dropout_add, (b2_queue *q, float *y, const float *x, int64_t per_sample, int samples, float p, uint32_t site, float beta),
         (q, y, x, per_sample, samples, p, site, beta))
