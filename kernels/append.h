/* The first half of attn_append on a CPU. */
#ifndef B2_KERNELS_APPEND_H
#define B2_KERNELS_APPEND_H
#include <string.h>
#include "kernels/args.h"

/* Row qpos[b] of item b in both caches becomes columns k0.. and v0.. of row b of kv. */
static inline void b2_append_rows(float *kcache, float *vcache, const float *kv, int ld, int k0, int v0,
                                  const b2_attn *a)
{
    const size_t cols = (size_t)a->heads * (size_t)a->dim;
    for (int b = 0; b < a->batch; b++, kv += ld) {
        const size_t row = ((size_t)b * (size_t)a->krows + (size_t)a->qpos[b]) * cols;
        memcpy(kcache + row, kv + k0, cols * sizeof *kv);
        memcpy(vcache + row, kv + v0, cols * sizeof *kv);
    }
}
#endif
