/* Rows made narrow: see round_rows.h. Memory bounds it, 6 bytes an element. */
#include "kernels/cuda/round_rows.h"
#include "kernels/cuda/vectors.cuh"

enum { THREADS = 256 };

/* cols is a multiple of V. */
template <int V>
__global__ void __launch_bounds__(THREADS)
    round_rows_kernel(bf16 *to, const float *from, int ld, unsigned vectors, unsigned cols)
{
    const unsigned at = blockIdx.x * THREADS + threadIdx.x, a_row = cols / V;
    float x[V];
    if (at >= vectors) return;
    k_get<V>(x, from + (int64_t)(at / a_row) * ld + at % a_row * V);
    k_put<V>(to + (int64_t)at * V, x);
}

void b2_cuda_round_rows(b2_queue *q, void *to, const float *from, int ld, int rows, int cols)
{
    bf16 *y = (bf16 *)to;
    const int64_t cells = (int64_t)rows * cols; /* of 4 bytes, on one GPU: less than 2^32 of 8 */
    const unsigned n = (unsigned)cols;
    if (k_fits<8>(y) && k_fits<4>(from) && ld % 4 == 0 && cols % 8 == 0)
        k_launch(q, round_rows_kernel<8>, k_blocks(cells / 8, THREADS), THREADS, 0, y, from, ld,
                 (unsigned)(cells / 8), n);
    else
        k_launch(q, round_rows_kernel<1>, k_blocks(cells, THREADS), THREADS, 0, y, from, ld, (unsigned)cells,
                 n);
}
