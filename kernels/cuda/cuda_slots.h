/* Prototypes of the CUDA kernels, once per activation type. A definition with other arguments than the
 * list's does not compile, one that is missing does not link. */
#ifndef B2_KERNELS_CUDA_CUDA_SLOTS_H
#define B2_KERNELS_CUDA_CUDA_SLOTS_H
#include "kernels/args.h"
#ifdef __cplusplus
extern "C" {
#else
#include "kernels/kernels.h" /* b2_queue */
#endif
#define KERNEL(name, args)                                                                                   \
    void b2_cuda_f32_##name args;                                                                            \
    void b2_cuda_bf16_##name args;
#define WORKSPACE(name, args)                                                                                \
    size_t b2_cuda_f32_##name args;                                                                          \
    size_t b2_cuda_bf16_##name args;
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
#ifdef __cplusplus
}
#endif
#endif
