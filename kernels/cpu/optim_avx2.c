/* Optimizer, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/optim_body.h"
