/* Products for few rows, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/few_body.h"
