/* The AVX512_BF16 matrix tile: 8 rows, 3 vectors, pairs of bf16 multiplied and added in f32. */
#include "kernels/cpu/simd_avx512.h"
#include <string.h>
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN   avx512bf16
#define TILE_SPREAD(p) spread_pair(p)
#define TILE_MAC(a, b, c)                                                                                    \
    _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(b), (__m512bh)_mm512_castps_si512(a))

/* Rows of bf16 are aligned to 2 bytes only. */
static inline vf spread_pair(const void *p)
{
    int pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
}

#include "kernels/cpu/tile_body.h"
