/* Moving and adding rows, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/rows_body.h"
