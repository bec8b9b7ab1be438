/* Prototypes of every slot of every CPU tier (a tier defines those it fills), and the names inside a
 * tier's files. */
#ifndef B2_KERNELS_CPU_CPU_TIERS_H
#define B2_KERNELS_CPU_CPU_TIERS_H
#include "kernels/kernels.h"

#define B2_SLOT(tier, name, result, args)                                                                    \
    result b2_##tier##_f32_##name args;                                                                      \
    result b2_##tier##_bf16_##name args;
#define KERNEL(name, args)                                                                                   \
    B2_SLOT(avx2, name, void, args)                                                                          \
    B2_SLOT(avx512, name, void, args)                                                                        \
    B2_SLOT(avx512bf16, name, void, args)
#define WORKSPACE(name, args)                                                                                \
    B2_SLOT(avx2, name, size_t, args)                                                                        \
    B2_SLOT(avx512, name, size_t, args)                                                                      \
    B2_SLOT(avx512bf16, name, size_t, args)
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
#undef B2_SLOT

/* In a file that includes a simd header: TIER_FN(add) is this tier's and this activation type's kernel,
 * ISA_FN(tile) a helper of this tier. */
#define B2_PASTE(a, b, c)  a##b##c
#define B2_PASTE3(a, b, c) B2_PASTE(a, b, c)
#define TIER_FN(name)      B2_PASTE3(b2_, B2_ISA_TOKEN, B2_ACT_TOKEN(name))
#define ISA_FN(name)       B2_PASTE3(b2_, B2_ISA_TOKEN, _##name)
#define F32_FN(name)                                                                                         \
    B2_PASTE3(b2_, B2_ISA_TOKEN, _f32_##name) /* the f32 table's kernel, whatever B2_ACT is */
#if defined(B2_ACT) && B2_ACT == 1
#define B2_ACT_TOKEN(name) _bf16_##name
#else
#define B2_ACT_TOKEN(name) _f32_##name
#endif

/* Cuts of a range into pieces of `step`: how many, and how long piece i is. */
static inline int b2_cuts(int n, int step) { return (n + step - 1) / step; }
static inline int b2_cut(int n, int step, int i) { return n - i * step < step ? n - i * step : step; }
/* Floats rounded up to whole cache lines, so that pieces of a workspace stay aligned. */
static inline size_t b2_line(size_t floats) { return (floats + 15) & ~(size_t)15; }
/* Element (i, o) of y. */
static inline void *b2_out_at(const b2_out *y, int i, int o)
{
    return (char *)y->p + ((size_t)i * (size_t)y->ld + (size_t)o) * b2_dtype_size(y->type);
}
#endif
