/* The AVX512_BF16 matrix tile: 8 rows, 3 vectors, pairs of bf16 multiplied and added in f32. */
#include "kernels/cpu/simd_avx512.h"
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN   avx512bf16
#define TILE_SPREAD(p) vset1(*(p))
#define TILE_MAC(a, b, c)                                                                                    \
    _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(b), (__m512bh)_mm512_castps_si512(a))
#include "kernels/cpu/tile_body.h"
