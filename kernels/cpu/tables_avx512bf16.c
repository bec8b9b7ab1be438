/* The slots that AVX512_BF16 and VNNI do better than AVX-512: bf16 activations and gradients times bf16
 * weights, and activations times quantised ones. */
#include "kernels/cpu/cpu_tiers.h"

void b2_avx512bf16_tables(b2_kernels t[2])
{
    t[B2_BF16].gemm_wbf16 = b2_avx512bf16_bf16_gemm_wbf16;
    t[B2_BF16].gemm_wi8 = b2_avx512bf16_bf16_gemm_wi8;
    t[B2_BF16].gemm_wi4 = b2_avx512bf16_bf16_gemm_wi4;
    t[B2_BF16].gemm_ws = b2_avx512bf16_bf16_gemm_ws;
    t[B2_BF16].gemm_dx_wbf16 = b2_avx512bf16_bf16_gemm_dx_wbf16;
    t[B2_BF16].gemm_dx_ws = b2_avx512bf16_bf16_gemm_dx_ws;
}
