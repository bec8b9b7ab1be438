/* Gradients of products, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/gemm_grad_body.h"
