/* LoRA, AVX2. */
#define B2_ISA_TOKEN avx2
#include "kernels/cpu/lora_body.h"
