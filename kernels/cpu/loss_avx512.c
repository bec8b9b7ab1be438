/* Loss and choosing, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/loss_body.h"
