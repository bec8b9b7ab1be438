/* LoRA, AVX-512. */
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/lora_body.h"
