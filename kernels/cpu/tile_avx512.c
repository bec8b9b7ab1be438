/* The AVX-512 matrix tile: 8 rows, 3 vectors. */
#include "kernels/cpu/simd_avx512.h"
#define TILE_SPREAD(p)    vset1(*(p))
#define TILE_MAC(a, b, c) vfma(a, b, c)
#include "kernels/cpu/tile_body.h"
