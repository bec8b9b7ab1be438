/* Quantising rows and reading them back, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/quantise_body.h"
