/* Gradients of products, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/gemm_grad_body.h"
