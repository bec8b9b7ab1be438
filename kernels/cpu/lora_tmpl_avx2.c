/* LoRA, AVX2. */
#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/lora_body.h"
