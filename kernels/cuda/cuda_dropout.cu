/* Dropout with the CPU's very masks: a block works within one sample, whose key one thread makes. Memory
 * bounds it (some 25 instructions an element): one read, one write; 4 bytes an element for bf16, 8 for
 * f32. */
#include "kernels/cuda/one_pass.cuh"

/* y may be x: all is read before anything is written. V > 1: per_sample is a multiple of it. */
template <class T, int V>
__global__ void __launch_bounds__(PASS_THREADS) dropout_kernel(T *y, const T *x, const drop_mask m)
{
    const int64_t base = (int64_t)blockIdx.y * m.per_sample;
    float v[PASS_EACH][V];
    pass_each<V>(m.per_sample, [&](int k, int64_t e) { k_get<V>(v[k], x + base + e); });
    const uint64_t key = drop_key(m);
    pass_each<V>(m.per_sample, [&](int k, int64_t e) {
        drop_some<V>(v[k], key, e, m);
        k_put<V>(y + base + e, v[k]);
    });
}

template <int V>
__global__ void __launch_bounds__(PASS_THREADS)
    dropout_add_kernel(float *y, const float *x, float beta, const drop_mask m)
{
    const int64_t base = (int64_t)blockIdx.y * m.per_sample;
    float v[PASS_EACH][V], old[PASS_EACH][V];
    pass_each<V>(m.per_sample, [&](int k, int64_t e) {
        k_get<V>(v[k], x + base + e);
        if (beta != 0.0f) k_get<V>(old[k], y + base + e);
    });
    const uint64_t key = drop_key(m);
    pass_each<V>(m.per_sample, [&](int k, int64_t e) {
        drop_some<V>(v[k], key, e, m);
#pragma unroll
        for (int j = 0; j < V; j++) v[k][j] += beta != 0.0f ? beta * old[k][j] : 0.0f;
        k_put<V>(y + base + e, v[k]);
    });
}

static dim3 grid_of(int64_t per_sample, int samples, int v)
{
    return dim3((unsigned)pass_blocks(per_sample, v), (unsigned)samples);
}

template <class T>
static void dropout(b2_queue *q, void *y, const void *x, int64_t per_sample, int samples, float p,
                    uint32_t site)
{
    constexpr int V = 16 / sizeof(T);
    const drop_mask m = drop_mask_of(q, per_sample, p, site);
    if (per_sample % V == 0 && k_fits<V>((T *)y, (const T *)x))
        k_launch(q, (dropout_kernel<T, V>), grid_of(per_sample, samples, V), PASS_THREADS, 0, (T *)y,
                 (const T *)x, m);
    else
        k_launch(q, (dropout_kernel<T, 1>), grid_of(per_sample, samples, 1), PASS_THREADS, 0, (T *)y,
                 (const T *)x, m);
}

template <class T>
static void dropout_add(b2_queue *q, float *y, const float *x, int64_t per_sample, int samples, float p,
                        uint32_t site, float beta)
{
    const drop_mask m = drop_mask_of(q, per_sample, p, site);
    if (per_sample % 4 == 0 && k_fits<4>(y, x))
        k_launch(q, dropout_add_kernel<4>, grid_of(per_sample, samples, 4), PASS_THREADS, 0, y, x, beta, m);
    else
        k_launch(q, dropout_add_kernel<1>, grid_of(per_sample, samples, 1), PASS_THREADS, 0, y, x, beta, m);
}

K_EXPORT(dropout,
         (b2_queue * q, void *y, const void *x, int64_t per_sample, int samples, float p, uint32_t site),
         (q, y, x, per_sample, samples, p, site))
K_EXPORT(dropout_add,
         (b2_queue * q, float *y, const float *x, int64_t per_sample, int samples, float p, uint32_t site,
          float beta),
         (q, y, x, per_sample, samples, p, site, beta))
