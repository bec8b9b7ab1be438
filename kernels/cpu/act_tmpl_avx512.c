/* Activations and casts, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/act_body.h"
