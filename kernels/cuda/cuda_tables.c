/* The tables of the CUDA kernels; a line of kernels.def without a kernel fails at link. */
#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/cuda_slots.h"

void b2_cuda_tables(b2_kernels t[2])
{
#define KERNEL(name, args)                                                                                   \
    t[B2_F32].name = b2_cuda_f32_##name;                                                                     \
    t[B2_BF16].name = b2_cuda_bf16_##name;
#define WORKSPACE KERNEL
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
}
