/* Loops over contiguous elements: whole vectors, then a part of one; and the pool's share of them.
 * Included after a simd header and kernels/act.h. */
#ifndef B2_KERNELS_CPU_SWEEP_H
#define B2_KERNELS_CPU_SWEEP_H
#include "kernels/cpu/cpu_tiers.h"

/* Runs the statements for i = 0, VL, ..., with len elements at i: a constant but for the last. */
#define SWEEP(n, ...)                                                                                        \
    do {                                                                                                     \
        int64_t i = 0;                                                                                       \
        for (; i + VL <= (n); i += VL) {                                                                     \
            enum { len = VL };                                                                               \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
        if (i < (n)) {                                                                                       \
            const int len = (int)((n)-i);                                                                    \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

static inline vf vget(const float *p, int len) { return len == VL ? vload(p) : vloadm(p, vtail(len)); }
static inline void vput(float *p, vf v, int len)
{
    if (len == VL)
        vstore(p, v);
    else
        vstorem(p, vtail(len), v);
}

/* beta*old + v without reading old when beta is 0 */
static inline vf vkeep(const float *old, float beta, vf v, int len)
{
    return beta != 0 ? vfma(vset1(beta), vget(old, len), v) : v;
}

#ifdef B2_KERNELS_ACT_H
static inline vf aget(const act_t *p, int len)
{
#if B2_ACT == 0
    return vget(p, len);
#else
    return len == VL ? vbf_load(p) : vbf_loadm(p, len);
#endif
}
static inline void aput(act_t *p, vf v, int len)
{
#if B2_ACT == 0
    vput(p, v, len);
#else
    if (len == VL)
        vbf_store(p, v);
    else
        vbf_storem(p, v, len);
#endif
}
#endif

/* Long arrays are cut in spans; rows in groups of about a span. */
enum { SPAN = 8192 };
static inline int64_t spans(int64_t n) { return (n + SPAN - 1) / SPAN; }
static inline int64_t span_len(int64_t n, int64_t i) { return n - i * SPAN < SPAN ? n - i * SPAN : SPAN; }
static inline int rows_per_task(int cols) { return cols < SPAN && cols > 0 ? SPAN / cols : 1; }
#endif
