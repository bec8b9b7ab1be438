/* Moving and adding rows, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/rows_body.h"
