/* Cross-entropy with its gradient in place, and the best id of a row: a block a row. Up to 32,768 logits
 * stay in the block's registers, so that a row is read once; longer ones and odd ones are read anew in
 * each pass. Memory bounds both. */
#include "kernels/cuda/vectors.cuh"

struct best {
    float x;
    int at;
};

/* NaN counts as the largest, so that it reaches the result. */
__device__ static inline bool beats(float x, float y) { return x > y || (x != x && y == y); }
/* The better of two; the lower index where they are equal (two NaN are). */
__device__ static inline best better(best a, best b)
{
    if (beats(b.x, a.x)) return b;
    if (beats(a.x, b.x)) return a;
    return a.at <= b.at ? a : b;
}

__device__ static best warp_best(best b)
{
    for (int d = 16; d > 0; d >>= 1) {
        const best other = {__shfl_xor_sync(K_ALL_LANES, b.x, d), __shfl_xor_sync(K_ALL_LANES, b.at, d)};
        b = better(b, other);
    }
    return b;
}

/* The best of a block, in every thread; room: 32, free again after the call. */
__device__ static best block_best(best b, best *room)
{
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    const best none = {-INFINITY, INT32_MAX};
    b = warp_best(b);
    if (lane == 0) room[threadIdx.x / 32] = b;
    __syncthreads();
    b = warp_best(lane < warps ? room[lane] : none);
    __syncthreads();
    return b;
}

__device__ static float block_max(float x, float *room)
{
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = k_warp_max(x);
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = k_warp_max(lane < warps ? room[lane] : -INFINITY);
    __syncthreads();
    return x;
}

/* 8 bytes a logit with the gradient, else 4; a row without a label is not read. The largest is taken
 * without NaN, which comes back in the sum; so does a row of nothing but -inf. */
template <int W, int V, int P>
__global__ void __launch_bounds__(W)
    xent_kernel(float *row_loss, float *logits, const int32_t *labels, int vocab, int want_grad)
{
    SHARED_ARR(float, room, 32);
    using span = k_span<W, V, P>;
    const int lane = threadIdx.x, label = labels[blockIdx.x], length = label < 0 ? 0 : vocab;
    float *x = logits + (int64_t)blockIdx.x * vocab;
    const float chosen = label < 0 ? 0.0f : x[label]; /* before it is overwritten: a barrier follows */
    float v[span::HELD], top = -INFINITY, sum = 0.0f;
    span::each(lane, length, [&](int c, int at) {
        k_get<V>(v + at, x + c);
#pragma unroll
        for (int j = 0; j < V; j++) top = fmaxf(top, v[at + j]);
    });
    top = block_max(top, room);
    span::each(lane, length, [&](int c, int at) {
        if (P == 0) k_get<V>(v + at, x + c);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[at + j] = expf(v[at + j] - top);
            sum += v[at + j];
        }
    });
    sum = k_block_sum(sum, room);
    if (row_loss && lane == 0) row_loss[blockIdx.x] = label < 0 ? 0.0f : logf(sum) - (chosen - top);
    const float inv = 1.0f / sum;
    span::each(lane, want_grad ? vocab : 0, [&](int c, int at) {
        float out[V];
        if (P == 0 && label >= 0) k_get<V>(v + at, x + c);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float e = P == 0 ? expf(v[at + j] - top) : v[at + j];
            out[j] = label < 0 ? 0.0f : e * inv - (c + j == label ? 1.0f : 0.0f);
        }
        k_put<V>(x + c, out);
    });
}

/* 4 bytes a logit. */
template <int W, int V, int P>
__global__ void __launch_bounds__(W)
    argmax_kernel(int32_t *ids, float *logp, const float *logits, const int32_t *forbid, int vocab)
{
    SHARED_ARR(best, best_room, 32);
    SHARED_ARR(float, room, 32);
    using span = k_span<W, V, P>;
    const int lane = threadIdx.x, skip = forbid ? forbid[blockIdx.x] : -1;
    const float *x = logits + (int64_t)blockIdx.x * vocab;
    float v[span::HELD], sum = 0.0f;
    best b = {-INFINITY, INT32_MAX};
    span::each(lane, vocab, [&](int c, int at) {
        k_get<V>(v + at, x + c);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const best one = {v[at + j], c + j};
            if (c + j != skip) b = better(b, one);
        }
    });
    b = block_best(b, best_room);
    span::each(lane, logp ? vocab : 0, [&](int c, int at) {
        if (P == 0) k_get<V>(v + at, x + c);
#pragma unroll
        for (int j = 0; j < V; j++) sum += c + j == skip ? 0.0f : expf(v[at + j] - b.x);
    });
    sum = k_block_sum(sum, room);
    if (lane == 0) {
        ids[blockIdx.x] = b.at;
        if (logp) logp[blockIdx.x] = -logf(sum);
    }
}

/* launch(W, V, P) for rows of so many logits, which `fits` says can be read as vectors. */
#define BY_VOCAB(vocab, fits, launch)                                                                        \
    if ((fits) && (vocab) <= k_span<128, 4, 4>::SPAN)                                                        \
        launch(128, 4, 4);                                                                                   \
    else if ((fits) && (vocab) <= k_span<1024, 4, 8>::SPAN)                                                  \
        launch(1024, 4, 8);                                                                                  \
    else                                                                                                     \
        launch(512, 1, 0)

template <class T>
static void xent(b2_queue *q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab,
                 int want_grad)
{
#define LAUNCH(W, V, P)                                                                                      \
    k_launch(q, (xent_kernel<W, V, P>), rows, W, 0, row_loss, logits, labels, vocab, want_grad)
    BY_VOCAB(vocab, vocab % 4 == 0 && k_fits<4>(logits), LAUNCH);
#undef LAUNCH
}

template <class T>
static void argmax(b2_queue *q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid,
                   int rows, int vocab)
{
#define LAUNCH(W, V, P) k_launch(q, (argmax_kernel<W, V, P>), rows, W, 0, ids, logp, logits, forbid, vocab)
    BY_VOCAB(vocab, vocab % 4 == 0 && k_fits<4>(logits), LAUNCH);
#undef LAUNCH
}

K_EXPORT(xent,
         (b2_queue * q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab,
          int want_grad),
         (q, row_loss, logits, labels, rows, vocab, want_grad))
K_EXPORT(argmax,
         (b2_queue * q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid, int rows,
          int vocab),
         (q, ids, logp, logits, forbid, rows, vocab))
