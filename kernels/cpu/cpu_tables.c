/* Fills the kernel tables of a CPU: the reference, then every tier up to the wanted one overwrites what it
 * does better. */
#include "kernels/kernels.h"

void b2_cpu_tables(b2_kernels t[2], b2_isa isa)
{
    b2_ref_tables(t);
#if defined(__x86_64__)
    if (isa >= B2_ISA_AVX2) b2_avx2_tables(t);
    if (isa >= B2_ISA_AVX512) b2_avx512_tables(t);
    if (isa >= B2_ISA_AVX512BF16) b2_avx512bf16_tables(t);
#else
    (void)isa;
#endif
}
