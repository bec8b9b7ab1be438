/* f32 made bf16: see round_rows.h. Memory bounds it, 6 bytes an element. */
#include "kernels/cuda/round_rows.h"
#include "kernels/cuda/vectors.cuh"

enum { THREADS = 256 };

/* cols is a multiple of V; fewer than 2^32 vectors. */
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

template <int V> static void round_some(b2_queue *q, bf16 *to, const float *from, int ld, int rows, int cols)
{
    const unsigned vectors = (unsigned)rows * (unsigned)(cols / V);
    k_launch(q, round_rows_kernel<V>, k_blocks(vectors, THREADS), THREADS, 0, to, from, ld, vectors,
             (unsigned)cols);
}

void b2_cuda_round_rows(b2_queue *q, void *to, const float *from, int ld, int rows, int cols)
{
    bf16 *y = (bf16 *)to;
    const bool wide = k_fits<8>(y) && k_fits<4>(from) && ld % 4 == 0 && cols % 8 == 0;
    const int most = cols > 0 ? (1 << 30) / cols + 1 : rows; /* rows a launch: its counts are of 32 bits */
    for (int r = 0; r < rows; r += most) {
        const int n = rows - r < most ? rows - r : most;
        (wide ? round_some<8> : round_some<1>)(q, y + (int64_t)r * cols, from + (int64_t)r * ld, ld, n, cols);
    }
}

/* Biases of blocks side by side. */
struct bias_blocks {
    const float *from[3];
    int end[3];
};
__global__ void __launch_bounds__(THREADS) round_biases_kernel(bf16 *to, bias_blocks b)
{
    const int at = (int)blockIdx.x * THREADS + (int)threadIdx.x;
    const float *from = at < b.end[0] ? b.from[0] : at < b.end[1] ? b.from[1] : b.from[2];
    const int first = at < b.end[0] ? 0 : at < b.end[1] ? b.end[0] : b.end[1];
    if (at < b.end[2] && from) to[at] = k_store<bf16>(from[at - first]);
}

void b2_cuda_round_biases(b2_queue *q, void *to, const b2_rows *w, int nw)
{
    bias_blocks b = {};
    for (int i = 0, n = 0; i < 3; i++) {
        if (i < nw) {
            b.from[i] = w[i].bias;
            n += w[i].n;
        }
        b.end[i] = n;
    }
    k_launch(q, round_biases_kernel, k_blocks(b.end[2], THREADS), THREADS, 0, (bf16 *)to, b);
}
