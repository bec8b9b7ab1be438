/* Inside the CUDA module: what its C files share. */
#ifndef B2_KERNELS_CUDA_CUDA_QUEUE_H
#define B2_KERNELS_CUDA_CUDA_QUEUE_H
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/module.h"

void b2_cuda_tables(b2_kernels t[2]);

/* What launchers ask of a queue; see common.cuh. */
void *b2_cuda_stream(const b2_queue *q);
const b2_step *b2_cuda_step(const b2_queue *q);
int b2_cuda_sms(const b2_queue *q);
b2_blas *b2_cuda_blas(const b2_queue *q); /* the stream's; NULL: its products are our own kernels' */
b2_dnn *b2_cuda_dnn(const b2_queue *q);   /* the stream's; NULL: its attention is */
bool b2_cuda_recording(const b2_queue *q);
void b2_cuda_launched(b2_queue *q, const char *kernel, int code);

/* Vendors' libraries, as bits: which ones a stream's launchers may ask (all, unless told otherwise), and
 * which ones have done something since that was asked last. For whoever times them beside our kernels. */
enum { B2_BY_CUBLASLT = 1, B2_BY_CUDNN = 2, B2_BY_ALL = 3 };
void b2_cuda_allow(b2_stream *s, unsigned libraries);
unsigned b2_cuda_used(b2_stream *s);
void b2_cuda_by(const b2_queue *q, unsigned library); /* a launcher's note */
#endif
