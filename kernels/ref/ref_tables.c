/* Both tables filled with the reference: where every CPU tier starts from. */
#include "kernels/kernels.h"

void b2_ref_tables(b2_kernels t[2])
{
#define KERNEL(name, args)    t[B2_F32].name = b2_ref_f32_##name, t[B2_BF16].name = b2_ref_bf16_##name;
#define WORKSPACE(name, args) KERNEL(name, args)
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
}
