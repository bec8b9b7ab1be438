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

/* The three products of a linear layer, each as kernels.def defines it, of operands of one type (bf16: x,
 * w and dy are; f32: all are). False: not here (no library, a shape or alignment it does not take, no
 * algorithm), and nothing was done. dy is dense: [m, outputs of all blocks], or [m, n]. ws: b2_blas_ws(m)
 * bytes. */
bool b2_blas_forward(struct b2_queue *q, b2_dtype type, float *y, int ldy, const void *x, const b2_rows *w,
                     int nw, int m, int k, float alpha, float beta, void *ws);
bool b2_blas_dx(struct b2_queue *q, b2_dtype type, float *dx, const void *dy, int ldy, const b2_rows *w,
                int nw, int m, int k, float alpha, float beta, void *ws);
bool b2_blas_dw(struct b2_queue *q, b2_dtype type, float *dw, const void *dy, int ldy, const void *x, int m,
                int n, int k, float alpha, void *ws);
/* Bytes for products of m rows: part of their slots' workspace, 0 without the library. */
size_t b2_blas_ws(int m);
/* Would they take it? Before dy is made narrow for them. */
bool b2_blas_takes(const struct b2_queue *q, int m, int n, int k);
#ifdef __cplusplus
}
#endif
#endif
