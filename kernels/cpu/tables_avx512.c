/* The slots that AVX-512 does better than AVX2. */
#include "kernels/cpu/cpu_tiers.h"
#define TAKE(name)     t[B2_F32].name = b2_avx512_f32_##name, t[B2_BF16].name = b2_avx512_bf16_##name;
#define TAKE_F32(name) t[B2_F32].name = t[B2_BF16].name = b2_avx512_f32_##name;

void b2_avx512_tables(b2_kernels t[2])
{
#include "kernels/cpu/slots.h"
}
