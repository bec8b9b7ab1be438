/* The AVX2 matrix tile: 6 rows, 2 vectors. */
#include "kernels/cpu/simd_avx2.h"
#define TILE_SPREAD(p)    vset1(*(p))
#define TILE_MAC(a, b, c) vfma(a, b, c)
#include "kernels/cpu/tile_body.h"
