/* Products of few rows with quantised weights, VNNI. */
#include <string.h>
#include "kernels/cpu/simd_avx2.h" /* 8 floats are enough for memory */
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN         avx512bf16
#define QUANT_DOT(acc, a, b) _mm256_dpwssd_epi32(acc, a, b)
#include "kernels/cpu/few_quant_body.h"
