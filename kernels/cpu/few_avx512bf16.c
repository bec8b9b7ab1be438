/* Products of bf16 with bf16 for few rows, AVX512_BF16. */
#include "kernels/cpu/simd_avx512.h"
#undef B2_ISA_TOKEN
#define B2_ISA_TOKEN         avx512bf16
#define FEW_PAIRS(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(b))
#include "kernels/cpu/few_body.h"
