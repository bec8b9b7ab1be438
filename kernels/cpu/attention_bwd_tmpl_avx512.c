/* Attention backward, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/attention_bwd_body.h"
