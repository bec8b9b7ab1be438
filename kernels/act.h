/* For files compiled once per activation type (*_tmpl*.c): -DB2_ACT=0 for f32, 1 for bf16. */
#ifndef B2_KERNELS_ACT_H
#define B2_KERNELS_ACT_H
#include "base/half.h"
#include "kernels/kernels.h"
#ifndef B2_ACT
#error "compile with -DB2_ACT=0 (f32) or 1 (bf16)"
#endif
#if B2_ACT == 0
typedef float act_t;
#define B2_REF(name)        b2_ref_f32_##name
#define B2_TIER(tier, name) b2_##tier##_f32_##name
static inline float act_load(act_t x) { return x; }
static inline act_t act_store(float x) { return x; }
#else
typedef b2_bf16 act_t;
#define B2_REF(name)        b2_ref_bf16_##name
#define B2_TIER(tier, name) b2_##tier##_bf16_##name
static inline float act_load(act_t x) { return b2_bf16_to_f32(x); }
static inline act_t act_store(float x) { return b2_f32_to_bf16(x); }
#endif
#endif
