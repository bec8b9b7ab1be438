/* bf16 and IEEE half. bf16 is rounded to nearest even; NaN stays NaN. */
#ifndef B2_BASE_HALF_H
#define B2_BASE_HALF_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t b2_bf16;
static inline float b2_bf16_to_f32(b2_bf16 h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline b2_bf16 b2_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (b2_bf16)((u >> 16) | 0x40u);
    return (b2_bf16)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}
float b2_f16_to_f32(uint16_t h);
uint16_t b2_f32_to_f16(float f);
#endif
