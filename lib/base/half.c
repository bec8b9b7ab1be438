/* IEEE 754 binary16 in plain C. */
#include "base/half.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float b2_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3FFu;
    if (exp == 31) return float_of(sign | 0x7F800000u | man << 13);
    if (exp) return float_of(sign | (exp + 112) << 23 | man << 13);
    float magnitude = (float)man * 0x1p-24f; /* zero or subnormal: exact */
    return float_of(sign | bits_of(magnitude));
}

/* Round to nearest, ties to even: v >> shift. */
static uint32_t round_shift(uint32_t v, unsigned shift)
{
    uint32_t half = 1u << (shift - 1);
    return (v + half - 1 + ((v >> shift) & 1u)) >> shift;
}

uint16_t b2_f32_to_f16(float f)
{
    uint32_t u = bits_of(f), sign = (u >> 16) & 0x8000u, mag = u & 0x7FFFFFFFu;
    if (mag > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | ((mag >> 13) & 0x3FFu)); /* NaN, made quiet */
    if (mag >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* from 65520 on: infinity */
    if (mag >= 0x38800000u) return (uint16_t)(sign | round_shift(mag - 0x38000000u, 13)); /* normal */
    if (mag < 0x33000000u) return (uint16_t)sign; /* below 2^-25: zero */
    uint32_t man = (mag & 0x7FFFFFu) | 0x800000u;
    return (uint16_t)(sign | round_shift(man, 126 - (mag >> 23))); /* subnormal, in units of 2^-24 */
}
