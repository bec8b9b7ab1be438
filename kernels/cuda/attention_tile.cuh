/* What attention's kernels share: who sees which key, and 64 x 64 tiles of f32 products. 256 threads;
 * thread (ty, tx) of a 16 x 16 grid holds rows 4 ty to 4 ty + 3 and columns 4 tx to 4 tx + 3 of a tile of
 * scores, and of a tile of results columns 2 tx + 32 c and the next one. */
#ifndef B2_KERNELS_CUDA_ATTENTION_TILE_CUH
#define B2_KERNELS_CUDA_ATTENTION_TILE_CUH
#include "kernels/cuda/common.cuh"

enum { ATTN_SIDE = 64, ATTN_CHUNK = 32, ATTN_LD = ATTN_SIDE + 4, ATTN_THREADS = 256 };

/* Shared memory of a block whose results are 32 C columns wide. */
template <int C> struct attn_room {
    static constexpr int WIDTH = 32 * C;
    float x[ATTN_CHUNK * ATTN_LD], y[ATTN_CHUNK * ATTN_LD]; /* [dim][row]: operands of scores */
    float p[ATTN_SIDE * ATTN_LD];                           /* [term][row]: one operand of results */
    float m[(int)ATTN_SIDE * WIDTH];                        /* [term][column]: the other one */
};

/* One item and head: what is visible. */
struct attn_view {
    const float *bias; /* of relative position 0, or NULL */
    int at, keys;      /* position of query row 0; keys that any query may see */
    uint64_t drop_key;
    uint32_t limit, element;
};

__device__ static inline attn_view attn_look(const b2_attn &a, const b2_step *step, int b, int h)
{
    attn_view s;
    s.bias = a.bias ? a.bias + (int64_t)h * a.ldbias + a.bias0 : NULL;
    s.at = a.qpos ? a.qpos[b] : 0;
    s.keys = a.klen ? max(0, min(a.tk, a.klen[b])) : a.tk;
    s.limit = b2_drop_limit(a.drop);
    s.element = (uint32_t)h << 24;
    s.drop_key = a.drop > 0 ? b2_drop_key(step->seed, step->step, step->sample[b], a.site) : 0;
    return s;
}

/* Its rows. */
template <class T> struct attn_operands {
    const T *q, *k, *v;
};

template <class T> __device__ static inline attn_operands<T> attn_find(const b2_attn &a, int b, int h)
{
    const int64_t first = (int64_t)(a.kvrow ? a.kvrow[b] : b) * a.krows;
    attn_operands<T> s;
    s.q = (const T *)a.q + (int64_t)b * a.tq * a.ldq + h * a.dim;
    s.k = (const T *)a.k + first * a.ldk + h * a.dim;
    s.v = (const T *)a.v + first * a.ldv + h * a.dim;
    return s;
}

/* Keys that query row i sees: 0 to this less 1. */
__device__ static inline int attn_keys(const b2_attn &a, const attn_view &s, int i)
{
    return a.causal ? max(0, min(s.keys, s.at + i + 1)) : s.keys;
}
__device__ static inline float attn_score(const b2_attn &a, const attn_view &s, int i, int j, float dot)
{
    return a.scale * dot + (s.bias ? s.bias[j - s.at - i] : 0.0f);
}
/* What dropout makes of a probability of 1. */
__device__ static inline float attn_keep(const b2_attn &a, const attn_view &s, int i, int j)
{
    if (!(a.drop > 0)) return 1.0f;
    const uint32_t e = s.element | (uint32_t)i << 12 | (uint32_t)j;
    return b2_drop_keep(s.drop_key, e, s.limit) ? 1.0f / (1.0f - a.drop) : 0.0f;
}

/* Over the 16 threads that share rows, in each of them. */
__device__ static inline float attn_row_sum(float x)
{
    for (int d = 8; d > 0; d >>= 1) x += __shfl_xor_sync(K_ALL_LANES, x, d);
    return x;
}
__device__ static inline float attn_row_max(float x)
{
    for (int d = 8; d > 0; d >>= 1) x = fmaxf(x, __shfl_xor_sync(K_ALL_LANES, x, d));
    return x;
}

/* 64 rows by 32 dims from `from` on, turned; what is not there is 0. */
template <class T>
__device__ static inline void attn_turn(float *to, const T *from, int64_t ld, int rows, int dims)
{
    for (int at = threadIdx.x; at < ATTN_SIDE * ATTN_CHUNK; at += ATTN_THREADS) {
        const int d = at % ATTN_CHUNK, r = at / ATTN_CHUNK;
        to[d * ATTN_LD + r] = r < rows && d < dims ? k_load(from[r * ld + d]) : 0.0f;
    }
}

/* dot = x y^T of a tile: nx rows of x, ny of y. All threads come here; shared memory of the call before is
 * free again. */
template <class X, class Y>
__device__ static inline void attn_dots(float (*dot)[4], float *sx, float *sy, const X *x, int64_t ldx,
                                        int nx, const Y *y, int64_t ldy, int ny, int dim)
{
    const int r0 = (int)threadIdx.x / 16 * 4, c0 = (int)threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 16; i++) dot[i / 4][i % 4] = 0.0f;
    for (int d0 = 0; d0 < dim; d0 += ATTN_CHUNK) {
        __syncthreads();
        attn_turn(sx, x + d0, ldx, nx, dim - d0);
        attn_turn(sy, y + d0, ldy, ny, dim - d0);
        __syncthreads();
#pragma unroll 8
        for (int d = 0; d < ATTN_CHUNK; d++) {
            const float4 fx = *(const float4 *)(const void *)(sx + d * ATTN_LD + r0);
            const float4 fy = *(const float4 *)(const void *)(sy + d * ATTN_LD + c0);
            const float ax[4] = {fx.x, fx.y, fx.z, fx.w}, ay[4] = {fy.x, fy.y, fy.z, fy.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) dot[i][j] = fmaf(ax[i], ay[j], dot[i][j]);
            }
        }
    }
}

/* Rows of m for attn_gather: `rows` of them and columns first to first + WIDTH of dim. */
template <int C, class T>
__device__ static inline void attn_fill(float *to, const T *from, int64_t ld, int rows, int first, int dim)
{
    const int width = attn_room<C>::WIDTH, all = (int)ATTN_SIDE * width;
    for (int at = threadIdx.x; at < all; at += ATTN_THREADS) {
        const int c = at % width, r = at / width;
        to[at] = r < rows && first + c < dim ? k_load(from[r * ld + first + c]) : 0.0f;
    }
}

/* out += p m over the 64 terms in shared memory. */
template <int C>
__device__ static inline void attn_gather(float (*out)[2 * C], const float *p, const float *m)
{
    const int width = attn_room<C>::WIDTH;
    const int r0 = (int)threadIdx.x / 16 * 4, c0 = (int)threadIdx.x % 16 * 2;
#pragma unroll 4
    for (int t = 0; t < ATTN_SIDE; t++) {
        const float4 fp = *(const float4 *)(const void *)(p + t * ATTN_LD + r0);
        const float ap[4] = {fp.x, fp.y, fp.z, fp.w};
#pragma unroll
        for (int c = 0; c < C; c++) {
            const float2 fm = *(const float2 *)(const void *)(m + t * width + c0 + 32 * c);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[i][2 * c] = fmaf(ap[i], fm.x, out[i][2 * c]);
                out[i][2 * c + 1] = fmaf(ap[i], fm.y, out[i][2 * c + 1]);
            }
        }
    }
}

/* Calls f(r, column, at) for this thread's results: row of the tile, column of the head, index in its
 * registers. */
template <int C, class F> __device__ static inline void attn_each(int first, int dim, F f)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int c = 0; c < 2 * C; c++) {
            const int column = first + (int)threadIdx.x % 16 * 2 + c / 2 * 32 + c % 2;
            if (column < dim) f((int)threadIdx.x / 16 * 4 + i, column, i, c);
        }
    }
}

/* Does the table of T take this to tensor cores? */
template <class T> static inline bool attn_rounds(const b2_attn *a)
{
    return sizeof(T) == 2 && a->tq > 1 && a->dim <= 128;
}

/* Results wider than 128 columns are made in slices, each by blocks of its own. */
static inline int attn_slices(int dim) { return k_blocks(dim, 128); }
static inline int attn_width(int dim) { return dim >= 128 ? 4 : k_blocks(dim, 32); }
#endif
