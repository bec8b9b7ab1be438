/* Products for few rows, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/few_body.h"
