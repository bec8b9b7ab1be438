/* What the quantising kernels of all tiers share: constants of their formulas in kernels.def. */
#ifndef B2_KERNELS_QUANTISE_RULE_H
#define B2_KERNELS_QUANTISE_RULE_H
#include <math.h>
#include <string.h>
#include "kernels/args.h"

/* The least largest size that is not taken for 0. From it on what falls below the normal range on the way to
 * a weight is rounded to 0 in any case: it does not matter whether a processor flushes such numbers. */
#define B2_I8_LEAST 0x1p-118f
#define B2_I4_LEAST 1e-30f

/* What the number of largest size becomes: -8 or nearly so, by a scale of the other sign where it is
 * positive. */
#define B2_I4_STEPS -8.0f, -8.5f, -9.0f, -7.5f, -7.0f, 7.0f
enum { B2_I4_TRIES = 6 };

/* Numbers below the normal range are 0 of their sign, whatever the processor's mode. */
B2_ANYWHERE static inline float b2_normal(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }

/* To five significant bits, of the eight that bf16 has: times a number of four bits it is a bf16 number. */
B2_ANYWHERE static inline float b2_five_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x3FFFFu + (u >> 19 & 1)) & 0xFFF80000u;
    memcpy(&x, &u, sizeof x);
    return x;
}
#endif
