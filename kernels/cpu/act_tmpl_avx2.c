/* Activations and casts, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/act_body.h"
