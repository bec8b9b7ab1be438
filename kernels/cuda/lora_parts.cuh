/* What the LoRA kernels share: one weight block's part of the arguments, dropout's masks for a few rows, and
 * sums over a block of threads. */
#ifndef B2_KERNELS_CUDA_LORA_PARTS_CUH
#define B2_KERNELS_CUDA_LORA_PARTS_CUH
#include "kernels/cuda/vectors.cuh"

enum {
    LORA_ROWS = 8, /* rows of a block of threads: A and B come from L2 once for so many */
    LORA_THREADS = 256,
    LORA_WARPS = LORA_THREADS / 32,
    LORA_PIECE = 4,       /* ranks at a time, in registers */
    LORA_ROOM = 64 << 10, /* bytes of shared memory for u or du; where more is wanted: a row a block */
    /* of the gradients of A and B */
    SUM_WARPS = 16,
    SUM_COLS = 32,
    SUM_AHEAD = 8 /* rows asked for at once */
};

/* Ranks rounded up to whole pieces: the length of a row of u or du in shared memory, zeros at its end. */
B2_ANYWHERE static inline int lora_pitch(int r) { return (r + LORA_PIECE - 1) / LORA_PIECE * LORA_PIECE; }

/* ---- arguments ----------------------------------------------------------------------------------------- */

struct lora_dropout {
    uint32_t site, limit; /* limit 0: none */
    float scale;          /* of what is kept */
};
B2_ANYWHERE static inline lora_dropout lora_dropout_of(const b2_lora_block &b)
{
    return {b.site, b.drop > 0.0f ? b2_drop_limit(b.drop) : 0, 1.0f / (1.0f - b.drop)};
}

/* A weight block with one of its adapters; ab.r 0: none. */
struct lora_one {
    b2_lora_ab ab;
    int c0, n;
    float *u;
    bool wide; /* b may be read 4 at a time */
    lora_dropout drop;
};

/* No index but constant ones: the arguments stay where they are, and are not copied to memory. */
__device__ static inline lora_one lora_pick(const b2_lora &l, int block, int adapter)
{
    lora_one one = {};
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const b2_lora_block &b = l.block[i];
        if (i != block) continue;
        one.c0 = b.c0;
        one.n = b.n;
        one.u = b.u;
        one.drop = lora_dropout_of(b);
#pragma unroll
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) {
            if (a == adapter) one.ab = b.ab[a];
        }
    }
    one.wide = one.ab.r % 4 == 0 && (uintptr_t)one.ab.b % 16 == 0;
    return one;
}

/* to = the first 4 of the `left` ranks from `from` on; zeros where there are fewer. */
__device__ static inline void lora_ranks(float *to, const float *from, int left, bool wide)
{
    if (wide) {
        k_get<LORA_PIECE>(to, from);
        return;
    }
#pragma unroll
    for (int j = 0; j < LORA_PIECE; j++) to[j] = j < left ? from[j] : 0.0f;
}

/* ---- dropout ------------------------------------------------------------------------------------------- */

struct lora_row {
    uint64_t key;
    uint32_t element; /* number of the row's first */
};

/* Of rows first.., in shared memory; all threads must call it. */
__device__ static inline void lora_keys(lora_row *row, const b2_step *step, uint32_t site, int64_t first,
                                        int rows, int per_item, int k)
{
    const int i = threadIdx.x;
    if (i < rows) {
        const int64_t sample = (first + i) / per_item, inside = (first + i) % per_item;
        row[i] = {b2_drop_key(step->seed, step->step, step->sample[sample], site), (uint32_t)(inside * k)};
    }
    __syncthreads();
}

/* Which of columns c.. of the rows are kept: bit i*V + t is row i, column c + t. */
template <int R, int V>
__device__ static inline uint32_t lora_kept(const lora_row *row, int rows, int c, uint32_t limit)
{
    static_assert(R * V <= 32, "a bit an element");
    uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (i >= rows) continue;
        const lora_row of = row[i];
#pragma unroll
        for (int t = 0; t < V; t++)
            bits |= (uint32_t)b2_drop_keep(of.key, of.element + (uint32_t)(c + t), limit) << (i * V + t);
    }
    return bits;
}

/* What a kept element becomes, rounded to T as `dropout` rounds it. */
template <class T> __device__ static inline float lora_scaled(float x, float scale)
{
    return k_load(k_store<T>(x * scale));
}
template <int R, int V, class T>
__device__ static inline void lora_drop(float (*v)[V], uint32_t kept, float scale)
{
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int t = 0; t < V; t++) v[i][t] = kept >> (i * V + t) & 1 ? lora_scaled<T>(v[i][t], scale) : 0.0f;
    }
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

/* Sums of N numbers (a power of two) over a warp, all at once: at each step a lane gives half of what it
 * still holds to its partner and adds the partner's share to the other half. At the end lane l holds number
 * l*N/32 in v[0], and those up to the next lane's behind it. The order of each sum is that of k_warp_sum. */
template <int N, int D = 16> __device__ static inline void lora_warp_sums(float *v)
{
    const bool high = (threadIdx.x & D) != 0;
    if constexpr (N == 1) v[0] += __shfl_xor_sync(K_ALL_LANES, v[0], D);
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        const float mine = high ? v[i + N / 2] : v[i], other = high ? v[i] : v[i + N / 2];
        v[i] = mine + __shfl_xor_sync(K_ALL_LANES, other, D);
    }
    if constexpr (D > 1) lora_warp_sums<N == 1 ? 1 : N / 2, D / 2>(v);
}

/* to[i*pitch + j] = scale * the sum of all threads' sum[i][j], for R rows of 4 ranks; to: shared memory,
 * there for all threads when this returns. */
template <int R> __device__ static void lora_join(float *to, int pitch, float scale, float *sum)
{
    constexpr int N = R * LORA_PIECE, EACH = N < 32 ? 1 : N / 32, LANES = N < 32 ? 32 / N : 1;
    SHARED_ARR(float, part, LORA_WARPS *N);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    lora_warp_sums<N>(sum);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (lane % LANES == 0) part[warp * N + lane * N / 32 + i] = sum[i];
    }
    __syncthreads();
    if (threadIdx.x < N) {
        float total = 0.0f;
        for (int w = 0; w < LORA_WARPS; w++) total += part[w * N + threadIdx.x];
        to[threadIdx.x / LORA_PIECE * pitch + threadIdx.x % LORA_PIECE] = scale * total;
    }
    __syncthreads();
}
#endif
