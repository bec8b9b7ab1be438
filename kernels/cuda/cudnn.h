/* Attention by cuDNN, for the launcher of cuda_attention.cu. */
#ifndef B2_KERNELS_CUDA_CUDNN_H
#define B2_KERNELS_CUDA_CUDNN_H
#include "kernels/args.h"

#ifdef __cplusplus
extern "C" {
#endif
struct b2_queue;
/* One stream's: a handle, the plans made so far. */
typedef struct b2_dnn b2_dnn;
b2_dnn *b2_dnn_open(void *stream); /* NULL: cuDNN is not wanted, not there, or does not start */
void b2_dnn_close(b2_dnn *d);

enum { B2_DNN_LEAST_CAPABILITY = 90 };
bool b2_dnn_wanted(void);    /* does BLIP2_CUDNN ask for it? */
size_t b2_dnn_version(void); /* 91900: 9.19.0; 0: none that has the operation */

/* attn_fwd of the bf16 table: plain attention (no bias, nothing masked, no dropout) of more than one query,
 * heads of whole eights up to 128, rows of q, k, v and ctx aligned to 16 bytes. False: not here (no library,
 * a shape or alignment it does not take, no engine, a shape first met while a graph is recorded), and
 * nothing was done. */
bool b2_dnn_attention(struct b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws);
size_t b2_dnn_attention_ws(const b2_attn *a); /* bytes of ws; 0 where cuDNN is not wanted */
#ifdef __cplusplus
}
#endif
#endif
