/* Cross-entropy with its gradient in place, and the best id of a row: a block a row, logits read from memory once and then from
 * the cache (a row of 32,128 is 128 KB). NaN counts as the largest value, so that it reaches the result. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

struct best {
    float x;
    int at;
};

__device__ static inline bool beats(float x, float y) { return x > y || (x != x && y == y); }
/* The better of two; the lower index where they are equal (two NaN are). */
__device__ static inline best better(best a, best b)
{
    if (beats(b.x, a.x)) return b;
    if (beats(a.x, b.x)) return a;
    return a.at <= b.at ? a : b;
}

/* The best of a block, in every thread. */
__device__ static best block_best(best b, best *room)
{
    for (int d = 16; d > 0; d >>= 1) {
        const best other = {__shfl_xor_sync(K_ALL_LANES, b.x, d), __shfl_xor_sync(K_ALL_LANES, b.at, d)};
        b = better(b, other);
    }
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = b;
    __syncthreads();
    b = room[0];
    for (int w = 1; w < WARPS; w++) b = better(b, room[w]);
    __syncthreads();
    return b;
}

/* Largest of a row without `skip`; at is INT32_MAX when there is none. */
__device__ static best row_best(const float *x, int n, int skip, best *room)
{
    best b = {-INFINITY, INT32_MAX};
    for (int c = threadIdx.x; c < n; c += THREADS) {
        const best one = {x[c], c};
        if (c != skip) b = better(b, one);
    }
    return block_best(b, room);
}

/* sum exp(x - top) over a row without `skip`. */
__device__ static float row_sum(const float *x, int n, int skip, float top, float *room)
{
    float sum = 0.0f;
    for (int c = threadIdx.x; c < n; c += THREADS) sum += c == skip ? 0.0f : expf(x[c] - top);
    return k_block_sum(sum, room);
}

__global__ void __launch_bounds__(THREADS) xent_kernel(float *row_loss, float *logits, const int32_t *labels, int vocab, int want_grad)
{
    SHARED_ARR(best, best_room, WARPS);
    SHARED_ARR(float, room, 32);
    const int label = labels[blockIdx.x];
    float *x = logits + (int64_t)blockIdx.x * vocab;
    const float top = row_best(x, label < 0 ? 0 : vocab, -1, best_room).x;
    const float sum = row_sum(x, label < 0 ? 0 : vocab, -1, top, room);
    if (row_loss && threadIdx.x == 0) row_loss[blockIdx.x] = label < 0 ? 0.0f : logf(sum) - (x[label] - top);
    __syncthreads(); /* the label's logit is read before it is overwritten */
    for (int c = threadIdx.x; want_grad && c < vocab; c += THREADS)
        x[c] = label < 0 ? 0.0f : expf(x[c] - top) / sum - (c == label ? 1.0f : 0.0f);
}

__global__ void __launch_bounds__(THREADS) argmax_kernel(int32_t *ids, float *logp, const float *logits, const int32_t *forbid, int vocab)
{
    SHARED_ARR(best, best_room, WARPS);
    SHARED_ARR(float, room, 32);
    const int skip = forbid ? forbid[blockIdx.x] : -1;
    const float *x = logits + (int64_t)blockIdx.x * vocab;
    best b = row_best(x, vocab, skip, best_room);
    const float sum = logp ? row_sum(x, vocab, skip, b.x, room) : 0.0f;
    if (threadIdx.x) return;
    ids[blockIdx.x] = b.at;
    if (logp) logp[blockIdx.x] = -logf(sum);
}

template <class T> static void xent(b2_queue *q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab, int want_grad)
{
    k_launch(q, xent_kernel, rows, THREADS, 0, row_loss, logits, labels, vocab, want_grad);
}

template <class T> static void argmax(b2_queue *q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid, int rows, int vocab)
{
    k_launch(q, argmax_kernel, rows, THREADS, 0, ids, logp, logits, forbid, vocab);
}

K_EXPORT(xent, (b2_queue *q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab, int want_grad),
         (q, row_loss, logits, labels, rows, vocab, want_grad))
K_EXPORT(argmax, (b2_queue *q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid, int rows, int vocab),
         (q, ids, logp, logits, forbid, rows, vocab))
