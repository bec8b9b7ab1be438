/* The slots that AVX2 does better than the reference. */
#include "kernels/cpu/cpu_tiers.h"
#define TAKE(name)     t[B2_F32].name = b2_avx2_f32_##name, t[B2_BF16].name = b2_avx2_bf16_##name;
#define TAKE_F32(name) t[B2_F32].name = t[B2_BF16].name = b2_avx2_f32_##name;

void b2_avx2_tables(b2_kernels t[2])
{
#include "kernels/cpu/slots.h"
}
