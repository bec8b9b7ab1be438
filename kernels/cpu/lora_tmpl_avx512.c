/* LoRA, AVX-512. */
#define B2_ISA_TOKEN avx512
#include "kernels/cpu/lora_body.h"
