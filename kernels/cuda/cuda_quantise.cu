/* Quantising rows and reading them back, to the bits of the CPU's kernels: a product whose rounding shows is
 * not fused with the sum behind it. */
#include "kernels/cuda/vectors.cuh"
#include "kernels/quantise_rule.h"

enum {
    THREADS = 128, /* of kernels with a row a block */
    GROUPS = 64,   /* of int4 a block, a thread each */
    STRIDE = 65,   /* floats from one to the next in shared memory: no two threads meet in a bank */
    TILE = GROUPS * STRIDE,
    INFINITE = 0x7F800000, /* bits of the first size that is not finite */
};
#define A_NAN __uint_as_float(0x7FC00000u)

/* The bits of a number's size: they order as the sizes do, with NaN at the end. */
__device__ static inline int size_bits(float x) { return (int)(__float_as_uint(x) & 0x7FFFFFFFu); }

/* The largest of a block, in every thread; room: a number for each warp. */
__device__ static inline int block_max(int x, int *room)
{
    const int lane = threadIdx.x % 32;
    for (int d = 16; d > 0; d >>= 1) x = max(x, __shfl_xor_sync(K_ALL_LANES, x, d));
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = lane < THREADS / 32 ? room[lane] : 0;
    for (int d = 16; d > 0; d >>= 1) x = max(x, __shfl_xor_sync(K_ALL_LANES, x, d));
    return x;
}

/* A row a block; 3 bytes an element (bf16) or 5, the second reading from the cache. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS) quantise_i8_kernel(int8_t *w, float *scale, const T *x, int cols)
{
    SHARED_ARR(int, room, THREADS / 32);
    const T *row = x + (int64_t)blockIdx.x * cols;
    int8_t *to = w + (int64_t)blockIdx.x * cols;
    int bits = 0;
    for (int c = threadIdx.x * V; c < cols; c += THREADS * V) {
        float v[V];
        k_get<V>(v, row + c);
#pragma unroll
        for (int j = 0; j < V; j++) bits = max(bits, size_bits(v[j]));
    }
    bits = block_max(bits, room);
    const float top = __uint_as_float((unsigned)bits);
    const bool finite = bits < INFINITE, some = finite && top >= B2_I8_LEAST;
    const float inverse = some ? 127.0f / top : 0.0f;
    if (threadIdx.x == 0) scale[blockIdx.x] = some ? top / 127.0f : finite ? 0.0f : A_NAN;
    for (int c = threadIdx.x * V; c < cols; c += THREADS * V) {
        float v[V];
        k_vec<int8_t, V> n;
        k_get<V>(v, row + c);
#pragma unroll
        for (int j = 0; j < V; j++) n.v[j] = some ? (int8_t)rintf(v[j] * inverse) : (int8_t)0;
        *(k_vec<int8_t, V> *)(to + c) = n;
    }
}

/* ---- int4 ---------------------------------------------------------------------------------------------- */

__device__ static inline float nearest(float x, float inverse)
{
    return fmaxf(-8.0f, fminf(7.0f, rintf(x * inverse)));
}

/* Of the 64 columns x, in order. */
__device__ static inline double group_error(const float *x, float scale)
{
    const float inverse = 1.0f / scale;
    double sum = 0.0;
#pragma unroll 8
    for (int c = 0; c < B2_I4_GROUP; c++) {
        const float d = __fmul_rn(scale, nearest(x[c], inverse)) - x[c];
        sum += (double)d * d;
    }
    return sum;
}

__device__ static inline float best_scale(const float *x, float top)
{
    const float steps[B2_I4_TRIES] = {B2_I4_STEPS};
    float best = 0.0f;
    double least = INFINITY;
#pragma unroll
    for (int i = 0; i < B2_I4_TRIES; i++) {
        const float scale = b2_five_bits(top / steps[i]);
        const double error = group_error(x, scale);
        if (error >= least) continue;
        least = error;
        best = scale;
    }
    return best;
}

/* Word l of a group: columns l, 16+l, 32+l, 48+l. */
__device__ static inline unsigned word_of(const float *x, int l, float inverse)
{
    unsigned word = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) word |= ((unsigned)(int)nearest(x[16 * k + l], inverse) & 15u) << 4 * k;
    return word;
}

/* Wide: w is aligned to 16 bytes. A thread has a group, whose six sums in double are what takes time: some 60
 * operations an element, of 2.5 bytes (bf16) or 4.5. */
template <class T, bool Wide>
__global__ void __launch_bounds__(GROUPS)
    quantise_i4_kernel(unsigned char *w, uint16_t *scale, const T *x, int64_t groups)
{
    SHARED_ARR(float, tile, TILE);
    const int64_t first = (int64_t)blockIdx.x * GROUPS, left = groups - first;
    const int here = left < GROUPS ? (int)left : GROUPS, t = threadIdx.x;
    for (int i = t; i < here * B2_I4_GROUP; i += GROUPS)
        tile[i / B2_I4_GROUP * STRIDE + i % B2_I4_GROUP] = b2_normal(k_load(x[first * B2_I4_GROUP + i]));
    __syncthreads();
    if (t >= here) return;
    float *v = tile + t * STRIDE, top = 0.0f;
    int bits = 0;
    for (int c = 0; c < B2_I4_GROUP; c++) {
        bits = max(bits, size_bits(v[c]));
        top = fabsf(v[c]) > fabsf(top) ? v[c] : top;
    }
    const bool finite = bits < INFINITE, some = finite && fabsf(top) >= B2_I4_LEAST;
    const float best = some ? best_scale(v, top) : 0.0f, inverse = best == 0.0f ? 0.0f : 1.0f / best;
    unsigned pair[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        pair[i] = finite ? word_of(v, 2 * i, inverse) | word_of(v, 2 * i + 1, inverse) << 16 : 0u;
    scale[first + t] = (uint16_t)(__float_as_uint(finite ? best : A_NAN) >> 16);
    unsigned char *to = w + (first + t) * 32;
    if constexpr (Wide) {
        ((uint4 *)(void *)to)[0] = make_uint4(pair[0], pair[1], pair[2], pair[3]);
        ((uint4 *)(void *)to)[1] = make_uint4(pair[4], pair[5], pair[6], pair[7]);
    } else {
#pragma unroll
        for (int i = 0; i < 32; i++) to[i] = (unsigned char)(pair[i / 4] >> i % 4 * 8);
    }
}

/* ---- back ---------------------------------------------------------------------------------------------- */

/* A row a block; 3 bytes an element (bf16) or 5. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    dequantise_i8_kernel(T *y, const int8_t *w, const float *scale, int cols)
{
    const float s = b2_normal(scale[blockIdx.x]);
    const int8_t *row = w + (int64_t)blockIdx.x * cols;
    T *to = y + (int64_t)blockIdx.x * cols;
    for (int c = threadIdx.x * V; c < cols; c += THREADS * V) {
        const k_vec<int8_t, V> n = *(const k_vec<int8_t, V> *)(row + c);
        float v[V];
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = (float)n.v[j] * s;
        k_put<V>(to + c, v);
    }
}

/* A row a block; 2.5 bytes an element (bf16) or 4.5, those of w from the cache three times of four. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    dequantise_i4_kernel(T *y, const unsigned char *w, const bf16 *scale, int cols)
{
    const unsigned char *row = w + (int64_t)blockIdx.x * (cols / 2);
    const bf16 *scales = scale + (int64_t)blockIdx.x * (cols / B2_I4_GROUP);
    T *to = y + (int64_t)blockIdx.x * cols;
    for (int c = threadIdx.x; c < cols; c += THREADS)
        to[c] = k_store<T>((float)b2_i4_get(row, c) * b2_normal(k_load(scales[c / B2_I4_GROUP])));
}

/* ---- launchers ----------------------------------------------------------------------------------------- */

template <class T>
static void quantise_i8(b2_queue *q, int8_t *w, float *scale, const void *x, int rows, int cols)
{
    if (cols % 4 == 0 && k_fits<4>((const T *)x) && k_fits<4>(w))
        k_launch(q, (quantise_i8_kernel<T, 4>), rows, THREADS, 0, w, scale, (const T *)x, cols);
    else
        k_launch(q, (quantise_i8_kernel<T, 1>), rows, THREADS, 0, w, scale, (const T *)x, cols);
}

template <class T>
static void quantise_i4(b2_queue *q, void *w, uint16_t *scale, const void *x, int rows, int cols)
{
    const int64_t groups = (int64_t)rows * (cols / B2_I4_GROUP);
    const int blocks = k_blocks(groups, GROUPS);
    if (k_fits<16>((unsigned char *)w))
        k_launch(q, (quantise_i4_kernel<T, true>), blocks, GROUPS, 0, (unsigned char *)w, scale, (const T *)x,
                 groups);
    else
        k_launch(q, (quantise_i4_kernel<T, false>), blocks, GROUPS, 0, (unsigned char *)w, scale,
                 (const T *)x, groups);
}

template <class T>
static void dequantise_i8(b2_queue *q, void *y, const int8_t *w, const float *scale, int rows, int cols)
{
    if (cols % 4 == 0 && k_fits<4>((T *)y) && k_fits<4>(w))
        k_launch(q, (dequantise_i8_kernel<T, 4>), rows, THREADS, 0, (T *)y, w, scale, cols);
    else
        k_launch(q, (dequantise_i8_kernel<T, 1>), rows, THREADS, 0, (T *)y, w, scale, cols);
}

template <class T>
static void dequantise_i4(b2_queue *q, void *y, const void *w, const uint16_t *scale, int rows, int cols)
{
    k_launch(q, dequantise_i4_kernel<T>, rows, THREADS, 0, (T *)y, (const unsigned char *)w,
             (const bf16 *)scale, cols);
}

K_EXPORT(quantise_i8, (b2_queue * q, int8_t *w, float *scale, const void *x, int rows, int cols),
         (q, w, scale, x, rows, cols))
K_EXPORT(quantise_i4, (b2_queue * q, void *w, uint16_t *scale, const void *x, int rows, int cols),
         (q, w, scale, x, rows, cols))
K_EXPORT(dequantise_i8, (b2_queue * q, void *y, const int8_t *w, const float *scale, int rows, int cols),
         (q, y, w, scale, rows, cols))
K_EXPORT(dequantise_i4, (b2_queue * q, void *y, const void *w, const uint16_t *scale, int rows, int cols),
         (q, y, w, scale, rows, cols))
