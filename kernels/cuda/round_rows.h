/* Rows of f32 as dense rows of bf16: what vendors' libraries take of gradients, queries, keys and values. */
#ifndef B2_KERNELS_CUDA_ROUND_ROWS_H
#define B2_KERNELS_CUDA_ROUND_ROWS_H

#ifdef __cplusplus
extern "C" {
#endif
struct b2_queue;
/* to [rows, cols] = from [rows, cols], ld apart, rounded to the nearest. */
void b2_cuda_round_rows(struct b2_queue *q, void *to, const float *from, int ld, int rows, int cols);
#ifdef __cplusplus
}
#endif
#endif
