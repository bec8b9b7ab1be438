/* The first half of attn_append on a CPU. */
#ifndef B2_KERNELS_APPEND_H
#define B2_KERNELS_APPEND_H
#include <string.h>
#include "kernels/args.h"

/* Row qpos[b] of item b in both caches becomes columns k0.. and v0.. of row b of kv; elements of `size`
 * bytes. */
static inline void b2_append_rows(void *kcache, void *vcache, const void *kv, int ld, int k0, int v0,
                                  const b2_attn *a, size_t size)
{
    const size_t bytes = (size_t)a->heads * (size_t)a->dim * size;
    const char *row = kv;
    for (int b = 0; b < a->batch; b++, row += (size_t)ld * size) {
        const size_t to = ((size_t)b * (size_t)a->krows + (size_t)a->qpos[b]) * bytes;
        memcpy((char *)kcache + to, row + (size_t)k0 * size, bytes);
        memcpy((char *)vcache + to, row + (size_t)v0 * size, bytes);
    }
}
#endif
