/* Activations, gated products, casts and sums: one pass over memory, which bounds them; four elements a thread. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, EACH = 4 };

__device__ static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
/* erfc instead of 1 + erf, and a sigmoid instead of 1 + tanh, keep the digits of the left tail. */
__device__ static inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678118654752440f); }
__device__ static inline float gelu_new_cdf(float x) { return sigmoid(1.59576912160573071176f * (x + 0.044715f * x * x * x)); }

template <int Fn> __device__ static inline float apply(float x)
{
    if (Fn == B2_RELU) return x < 0.0f ? 0.0f : x;
    if (Fn == B2_GELU) return x * normal_cdf(x);
    if (Fn == B2_GELU_NEW) return x * gelu_new_cdf(x);
    return x * sigmoid(x);
}

template <int Fn> __device__ static inline float slope(float x)
{
    if (Fn == B2_RELU) return x > 0.0f ? 1.0f : 0.0f;
    if (Fn == B2_GELU) return normal_cdf(x) + x * 0.39894228040143267794f * expf(-0.5f * x * x);
    if (Fn == B2_SILU) return sigmoid(x) * (1.0f + x * sigmoid(-x));
    const float p = gelu_new_cdf(x);
    return p + x * p * gelu_new_cdf(-x) * 1.59576912160573071176f * (1.0f + 3.0f * 0.044715f * x * x);
}

/* Calls each(i) for the elements of this thread, the block's side by side. */
template <class F> __device__ static inline void for_each(int64_t n, F each)
{
    const int64_t first = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const int64_t i = first + k * THREADS;
        if (i < n) each(i);
    }
}

template <class T, int Fn> __global__ void __launch_bounds__(THREADS) act_fwd_kernel(T *y, const float *x, int64_t n)
{
    for_each(n, [=](int64_t i) { y[i] = k_store<T>(apply<Fn>(x[i])); });
}

/* dx may be dy: no __restrict__. */
template <int Fn> __global__ void __launch_bounds__(THREADS) act_bwd_kernel(float *dx, const float *dy, const float *x, int64_t n)
{
    for_each(n, [=](int64_t i) { dx[i] = dy[i] * slope<Fn>(x[i]); });
}

template <class T, int Fn> __global__ void __launch_bounds__(THREADS) glu_fwd_kernel(T *y, const float *gu, int64_t n, int f)
{
    for_each(n, [=](int64_t i) {
        const float *g = gu + i / f * 2 * f + i % f;
        y[i] = k_store<T>(apply<Fn>(g[0]) * g[f]);
    });
}

template <int Fn> __global__ void __launch_bounds__(THREADS) glu_bwd_kernel(float *dgu, const float *dy, const float *gu, int64_t n, int f)
{
    for_each(n, [=](int64_t i) {
        const int64_t at = i / f * 2 * f + i % f;
        const float g = gu[at], u = gu[at + f], d = dy[i];
        dgu[at] = d * u * slope<Fn>(g);
        dgu[at + f] = d * apply<Fn>(g);
    });
}

template <class T> __global__ void __launch_bounds__(THREADS) cast_kernel(T *y, const float *x, int64_t n)
{
    for_each(n, [=](int64_t i) { y[i] = k_store<T>(x[i]); });
}

__global__ void __launch_bounds__(THREADS) add_kernel(float *y, const float *x, int64_t n)
{
    for_each(n, [=](int64_t i) { y[i] += x[i]; });
}

/* 32 columns a block; its 8 warps take turns over the rows, and are added in order. */
__global__ void __launch_bounds__(256) bias_grad_kernel(float *db, const float *dy, int ldy, int m, int n)
{
    SHARED_ARR(float, part, 256);
    const int lane = threadIdx.x % 32, turn = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    for (int i = turn; c < n && i < m; i += 8) sum += dy[(int64_t)i * ldy + c];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (turn == 0 && c < n) {
        for (int k = 1; k < 8; k++) sum += part[32 * k + lane];
        db[c] += sum;
    }
}

static int blocks(int64_t n) { return k_blocks(n, THREADS * EACH); }

#define BY_FUNCTION(fn, launch)                                                                              \
    switch (fn) {                                                                                            \
    case B2_RELU: launch(B2_RELU); break;                                                                    \
    case B2_GELU: launch(B2_GELU); break;                                                                    \
    case B2_GELU_NEW: launch(B2_GELU_NEW); break;                                                            \
    default: launch(B2_SILU); break;                                                                         \
    }

template <class T> static void act_fwd(b2_queue *q, void *y, const float *x, int64_t n, int fn)
{
#define LAUNCH(F) k_launch(q, (act_fwd_kernel<T, F>), blocks(n), THREADS, 0, (T *)y, x, n)
    BY_FUNCTION(fn, LAUNCH)
#undef LAUNCH
}

template <class T> static void act_bwd(b2_queue *q, float *dx, const float *dy, const float *x, int64_t n, int fn)
{
#define LAUNCH(F) k_launch(q, act_bwd_kernel<F>, blocks(n), THREADS, 0, dx, dy, x, n)
    BY_FUNCTION(fn, LAUNCH)
#undef LAUNCH
}

template <class T> static void glu_fwd(b2_queue *q, void *y, const float *gu, int rows, int f, int fn)
{
    const int64_t n = (int64_t)rows * f;
#define LAUNCH(F) k_launch(q, (glu_fwd_kernel<T, F>), blocks(n), THREADS, 0, (T *)y, gu, n, f)
    BY_FUNCTION(fn, LAUNCH)
#undef LAUNCH
}

template <class T> static void glu_bwd(b2_queue *q, float *dgu, const float *dy, const float *gu, int rows, int f, int fn)
{
    const int64_t n = (int64_t)rows * f;
#define LAUNCH(F) k_launch(q, glu_bwd_kernel<F>, blocks(n), THREADS, 0, dgu, dy, gu, n, f)
    BY_FUNCTION(fn, LAUNCH)
#undef LAUNCH
}

template <class T> static void cast(b2_queue *q, void *y, const float *x, int64_t n)
{
    k_launch(q, cast_kernel<T>, blocks(n), THREADS, 0, (T *)y, x, n);
}

template <class T> static void add(b2_queue *q, float *y, const float *x, int64_t n)
{
    k_launch(q, add_kernel, blocks(n), THREADS, 0, y, x, n);
}

template <class T> static void bias_grad(b2_queue *q, float *db, const float *dy, int ldy, int m, int n)
{
    if (m > 0) k_launch(q, bias_grad_kernel, k_blocks(n, 32), 256, 0, db, dy, ldy, m, n);
}

K_EXPORT(act_fwd, (b2_queue *q, void *y, const float *x, int64_t n, int fn), (q, y, x, n, fn))
K_EXPORT(act_bwd, (b2_queue *q, float *dx, const float *dy, const float *x, int64_t n, int fn), (q, dx, dy, x, n, fn))
K_EXPORT(glu_fwd, (b2_queue *q, void *y, const float *gu, int rows, int f, int fn), (q, y, gu, rows, f, fn))
K_EXPORT(glu_bwd, (b2_queue *q, float *dgu, const float *dy, const float *gu, int rows, int f, int fn), (q, dgu, dy, gu, rows, f, fn))
K_EXPORT(cast, (b2_queue *q, void *y, const float *x, int64_t n), (q, y, x, n))
K_EXPORT(add, (b2_queue *q, float *y, const float *x, int64_t n), (q, y, x, n))
K_EXPORT(bias_grad, (b2_queue *q, float *db, const float *dy, int ldy, int m, int n), (q, db, dy, ldy, m, n))
