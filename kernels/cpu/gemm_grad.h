/* What LoRA takes of a tier's gradients besides their slots; included after a simd header and
 * kernels/act.h. */
#ifndef B2_KERNELS_CPU_GEMM_GRAD_H
#define B2_KERNELS_CPU_GEMM_GRAD_H
#include "kernels/cpu/cpu_tiers.h"

/* gemm_dw for an x of type xf, f32 or T; gemm_dw_ws is its workspace too. */
void TIER_FN(dw_of)(b2_queue *q, float *dw, b2_in dy, const void *x, b2_dtype xf, int m, int n, int k,
                    float alpha, void *ws);
#endif
