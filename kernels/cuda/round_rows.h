/* f32 made bf16, as vendors' libraries take it: dense rows of gradients, biases. */
#ifndef B2_KERNELS_CUDA_ROUND_ROWS_H
#define B2_KERNELS_CUDA_ROUND_ROWS_H

#ifdef __cplusplus
extern "C" {
#endif
struct b2_queue;
struct b2_rows;
/* to [rows, cols] = from [rows, cols], ld apart, rounded to the nearest. */
void b2_cuda_round_rows(struct b2_queue *q, void *to, const float *from, int ld, int rows, int cols);
/* to [outputs of all blocks] = their biases, rounded to the nearest; where a block has none nothing is
 * written. */
void b2_cuda_round_biases(struct b2_queue *q, void *to, const struct b2_rows *w, int nw);
#ifdef __cplusplus
}
#endif
#endif
