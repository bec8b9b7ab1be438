/* Products by cuBLASLt, for the launchers of cuda_gemm.cu. */
#ifndef B2_KERNELS_CUDA_CUBLASLT_H
#define B2_KERNELS_CUDA_CUBLASLT_H
#include "kernels/args.h"

#ifdef __cplusplus
extern "C" {
#endif
struct b2_queue;
/* One stream's: a handle, the algorithms chosen so far. */
typedef struct b2_blas b2_blas;
b2_blas *b2_blas_open(void); /* NULL: cuBLASLt is not there, or does not start */
void b2_blas_close(b2_blas *b);
size_t b2_blas_version(const b2_blas *b); /* 130100: 13.1 */

/* The three products of a linear layer, each as kernels.def defines it. type: of x and w, of dy where it
 * is not f32; an f32 dy is rounded to it in the workspace. False: not here (no library, a shape or
 * alignment it does not take, no algorithm), and nothing was done. y and dx may be bf16 where operands
 * are; biases are rounded to it then, and a bf16 dx is only here where the weight blocks join to one. ws:
 * b2_blas_forward_ws or _backward_ws bytes. */
bool b2_blas_forward(struct b2_queue *q, b2_dtype type, b2_out y, const void *x, const b2_rows *w, int nw,
                     int m, int k, float alpha, float beta, void *ws);
bool b2_blas_dx(struct b2_queue *q, b2_dtype type, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m,
                int k, float alpha, float beta, void *ws);
bool b2_blas_dw(struct b2_queue *q, b2_dtype type, float *dw, b2_in dy, const void *x, int m, int n, int k,
                float alpha, void *ws);
/* Bytes for products of m rows and n outputs of all blocks: part of their slots' workspace, 0 without the
 * library. With room for biases, or for an f32 dy made narrow: types are not known. */
size_t b2_blas_forward_ws(int m, int n);
size_t b2_blas_backward_ws(int m, int n);
#ifdef __cplusplus
}
#endif
#endif
