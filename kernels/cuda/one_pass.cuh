/* What kernels share that pass over memory once: a thread's vectors, and dropout's mask. */
#ifndef B2_KERNELS_CUDA_ONE_PASS_CUH
#define B2_KERNELS_CUDA_ONE_PASS_CUH
#include "kernels/cuda/vectors.cuh"

enum { PASS_THREADS = 256, PASS_EACH = 2 }; /* vectors of a thread */

/* Calls f(k, i) for each vector of this thread, its k-th, which starts at element i of n; the block's lie
 * side by side. */
template <int V, class F> __device__ static inline void pass_each(int64_t n, F f)
{
    const int64_t first = ((int64_t)blockIdx.x * PASS_THREADS * PASS_EACH + threadIdx.x) * V;
#pragma unroll
    for (int k = 0; k < PASS_EACH; k++) {
        const int64_t i = first + (int64_t)k * PASS_THREADS * V;
        if (i < n) f(k, i);
    }
}
static inline int pass_blocks(int64_t n, int v) { return k_blocks(n, (int64_t)PASS_THREADS * PASS_EACH * v); }

/* ---- dropout: a block works within one sample, number blockIdx.y, whose key one thread makes ---- */

/* One sample's mask. */
struct drop_mask {
    const b2_step *step;
    int64_t per_sample;   /* elements */
    uint32_t site, limit; /* limit 0: nothing is dropped */
    float scale;          /* of what is kept */
};

__device__ static inline uint64_t drop_key(const drop_mask &m)
{
    SHARED(uint64_t, key);
    if (!m.limit) return 0;
    if (threadIdx.x == 0) key = b2_drop_key(m.step->seed, m.step->step, m.step->sample[blockIdx.y], m.site);
    __syncthreads();
    return key;
}

template <int V>
__device__ static inline void drop_some(float *v, uint64_t key, int64_t e, const drop_mask &m)
{
    if (!m.limit) return;
#pragma unroll
    for (int j = 0; j < V; j++) v[j] = b2_drop_keep(key, (uint32_t)(e + j), m.limit) ? v[j] * m.scale : 0.0f;
}

static inline drop_mask drop_mask_of(b2_queue *q, int64_t per_sample, float p, uint32_t site)
{
    return {b2_cuda_step(q), per_sample, site, b2_drop_limit(p), 1.0f / (1.0f - p)};
}
#endif
