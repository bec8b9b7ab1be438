/* The slots that AVX512_BF16 does better than AVX-512. */
#include "kernels/cpu/cpu_tiers.h"

void b2_avx512bf16_tables(b2_kernels t[2])
{
    (void)t;
}
