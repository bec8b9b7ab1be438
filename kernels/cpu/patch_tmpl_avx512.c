/* Patches, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/patch_body.h"
