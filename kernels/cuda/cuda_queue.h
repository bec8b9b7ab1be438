/* Inside the CUDA module: what its C files share. */
#ifndef B2_KERNELS_CUDA_CUDA_QUEUE_H
#define B2_KERNELS_CUDA_CUDA_QUEUE_H
#include "kernels/cuda/cublaslt.h"
#include "kernels/module.h"

void b2_cuda_tables(b2_kernels t[2]);

/* What launchers ask of a queue; see common.cuh. */
void *b2_cuda_stream(const b2_queue *q);
const b2_step *b2_cuda_step(const b2_queue *q);
int b2_cuda_sms(const b2_queue *q);
b2_blas *b2_cuda_blas(const b2_queue *q); /* the stream's; NULL: its products are our own kernels' */
void b2_cuda_launched(b2_queue *q, const char *kernel, int code);
#endif
