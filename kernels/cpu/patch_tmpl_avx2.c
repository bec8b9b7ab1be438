/* Patches, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/patch_body.h"
