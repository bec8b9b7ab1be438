/* Quantising rows and reading them back, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/quantise_body.h"
