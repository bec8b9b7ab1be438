/* Dropout's mask on a GPU: a block works within one sample, number blockIdx.y, whose key one thread makes. */
#ifndef B2_KERNELS_CUDA_DROP_MASK_CUH
#define B2_KERNELS_CUDA_DROP_MASK_CUH
#include "kernels/cuda/vectors.cuh"

/* What a block needs to know: one sample's mask. */
struct drop_mask {
    const b2_step *step;
    int64_t per_sample;
    uint32_t site, limit;
    float scale; /* of what is kept */
};

__device__ static inline uint64_t drop_key(const drop_mask &m)
{
    SHARED(uint64_t, key);
    if (threadIdx.x == 0) key = b2_drop_key(m.step->seed, m.step->step, m.step->sample[blockIdx.y], m.site);
    __syncthreads();
    return key;
}

template <int V>
__device__ static inline void drop_some(float *v, uint64_t key, int64_t e, const drop_mask &m)
{
#pragma unroll
    for (int j = 0; j < V; j++) v[j] = b2_drop_keep(key, (uint32_t)(e + j), m.limit) ? v[j] * m.scale : 0.0f;
}

static inline drop_mask drop_mask_of(b2_queue *q, int64_t per_sample, float p, uint32_t site)
{
    return {b2_cuda_step(q), per_sample, site, b2_drop_limit(p), 1.0f / (1.0f - p)};
}
#endif
