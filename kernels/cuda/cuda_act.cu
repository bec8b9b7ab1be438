/* Activations, gated products, casts and sums: one pass over memory, which bounds them. A thread reads all
 * it needs before it writes, because outputs may be inputs. */
#include "kernels/cuda/vectors.cuh"

enum { THREADS = 256, EACH = 2 }; /* vectors of a thread */

__device__ static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
/* erfc instead of 1 + erf, and a sigmoid instead of 1 + tanh, keep the digits of the left tail. */
__device__ static inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678118654752440f); }
__device__ static inline float gelu_new_cdf(float x)
{
    return sigmoid(1.59576912160573071176f * (x + 0.044715f * x * x * x));
}

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

/* Calls f(k, i) for each vector of this thread, its k-th, which starts at element i; the block's lie side
 * by side. */
template <int V, class F> __device__ static inline void for_each(int64_t n, F f)
{
    const int64_t first = ((int64_t)blockIdx.x * THREADS * EACH + threadIdx.x) * V;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const int64_t i = first + (int64_t)k * THREADS * V;
        if (i < n) f(k, i);
    }
}

/* 6 bytes an element (bf16) or 8. erf GELU: some 45 instructions an element, near balance on A100 and
 * H100. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(THREADS) act_fwd_kernel(T *y, const float *x, int64_t n)
{
    float v[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) { k_get_some<V>(v[k], x + i, n - i); });
    for_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) v[k][j] = apply<Fn>(v[k][j]);
        k_put_some<V>(y + i, v[k], n - i);
    });
}

/* 12 bytes an element. dx may be dy. */
template <int Fn, int V>
__global__ void __launch_bounds__(THREADS)
    act_bwd_kernel(float *dx, const float *dy, const float *x, int64_t n)
{
    float v[EACH][V], d[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) {
        k_get_some<V>(v[k], x + i, n - i);
        k_get_some<V>(d[k], dy + i, n - i);
    });
    for_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) d[k][j] *= slope<Fn>(v[k][j]);
        k_put_some<V>(dx + i, d[k], n - i);
    });
}

/* Where element i of [rows, f] has its gate in [rows, 2f]; i < 2^31, so that the division is a short one. */
__device__ static inline int64_t gate_at(int64_t i, int f)
{
    const unsigned row = (unsigned)i / (unsigned)f;
    return i + (int64_t)row * f;
}

/* 10 bytes an element (bf16) or 12. V > 1: f is a multiple of it, and so is n. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(THREADS) glu_fwd_kernel(T *y, const float *gu, int64_t n, int f)
{
    float g[EACH][V], u[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) {
        const float *from = gu + gate_at(i, f);
        k_get<V>(g[k], from);
        k_get<V>(u[k], from + f);
    });
    for_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) g[k][j] = apply<Fn>(g[k][j]) * u[k][j];
        k_put<V>(y + i, g[k]);
    });
}

/* 20 bytes an element. */
template <int Fn, int V>
__global__ void __launch_bounds__(THREADS)
    glu_bwd_kernel(float *dgu, const float *dy, const float *gu, int64_t n, int f)
{
    float g[EACH][V], u[EACH][V], d[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) {
        const float *from = gu + gate_at(i, f);
        k_get<V>(g[k], from);
        k_get<V>(u[k], from + f);
        k_get<V>(d[k], dy + i);
    });
    for_each<V>(n, [&](int k, int64_t i) {
        float *to = dgu + gate_at(i, f);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float gate = g[k][j];
            g[k][j] = d[k][j] * u[k][j] * slope<Fn>(gate);
            u[k][j] = d[k][j] * apply<Fn>(gate);
        }
        k_put<V>(to, g[k]);
        k_put<V>(to + f, u[k]);
    });
}

/* 6 bytes an element (bf16) or 8. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS) cast_kernel(T *y, const float *x, int64_t n)
{
    float v[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) { k_get_some<V>(v[k], x + i, n - i); });
    for_each<V>(n, [&](int k, int64_t i) { k_put_some<V>(y + i, v[k], n - i); });
}

/* 12 bytes an element. */
template <int V> __global__ void __launch_bounds__(THREADS) add_kernel(float *y, const float *x, int64_t n)
{
    float v[EACH][V], old[EACH][V];
    for_each<V>(n, [&](int k, int64_t i) {
        k_get_some<V>(v[k], x + i, n - i);
        k_get_some<V>(old[k], y + i, n - i);
    });
    for_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) v[k][j] += old[k][j];
        k_put_some<V>(y + i, v[k], n - i);
    });
}

/* Cols columns a block, over whose rows its threads take turns; their sums are added as a tree. 4 bytes an
 * element of dy: narrow matrices take 8 columns a block, one 32-byte sector a row, to have blocks enough. */
enum { BIAS_THREADS = 512 };
template <int Cols>
__global__ void __launch_bounds__(BIAS_THREADS)
    bias_grad_kernel(float *db, const float *dy, int ldy, int m, int n)
{
    SHARED_ARR(float, part, BIAS_THREADS);
    constexpr int turns = BIAS_THREADS / Cols;
    const int col = threadIdx.x % Cols, turn = threadIdx.x / Cols, c = blockIdx.x * Cols + col;
    float sum = 0.0f;
#pragma unroll 8
    for (int i = turn; i < (c < n ? m : 0); i += turns) sum += dy[(int64_t)i * ldy + c];
    part[threadIdx.x] = sum;
    for (int half = turns / 2; half > 0; half /= 2) {
        __syncthreads();
        if (turn < half) part[threadIdx.x] += part[threadIdx.x + half * Cols];
    }
    if (turn == 0 && c < n) db[c] += part[threadIdx.x];
}

static int blocks(int64_t n, int v) { return k_blocks(n, (int64_t)THREADS * EACH * v); }

/* launch(Fn, V) for the function and the vectors that apply. */
#define BY_FUNCTION(fn, fits, launch)                                                                        \
    switch ((fn)*2 + (fits)) {                                                                               \
    case B2_RELU * 2: launch(B2_RELU, 1); break;                                                             \
    case B2_RELU * 2 + 1: launch(B2_RELU, 4); break;                                                         \
    case B2_GELU * 2: launch(B2_GELU, 1); break;                                                             \
    case B2_GELU * 2 + 1: launch(B2_GELU, 4); break;                                                         \
    case B2_GELU_NEW * 2: launch(B2_GELU_NEW, 1); break;                                                     \
    case B2_GELU_NEW * 2 + 1: launch(B2_GELU_NEW, 4); break;                                                 \
    case B2_SILU * 2: launch(B2_SILU, 1); break;                                                             \
    default: launch(B2_SILU, 4); break;                                                                      \
    }

template <class T> static void act_fwd(b2_queue *q, void *y, const float *x, int64_t n, int fn)
{
#define LAUNCH(F, V) k_launch(q, (act_fwd_kernel<T, F, V>), blocks(n, V), THREADS, 0, (T *)y, x, n)
    BY_FUNCTION(fn, k_fits<4>((T *)y, x), LAUNCH)
#undef LAUNCH
}

template <class T>
static void act_bwd(b2_queue *q, float *dx, const float *dy, const float *x, int64_t n, int fn)
{
#define LAUNCH(F, V) k_launch(q, (act_bwd_kernel<F, V>), blocks(n, V), THREADS, 0, dx, dy, x, n)
    BY_FUNCTION(fn, k_fits<4>(dx, dy, x), LAUNCH)
#undef LAUNCH
}

/* As many rows at a time as gate_at can number. */
static int slab(int rows, int f) { return (int64_t)rows * f <= INT32_MAX ? rows : INT32_MAX / f; }

template <class T> static void glu_fwd(b2_queue *q, void *y, const float *gu, int rows, int f, int fn)
{
    const bool fits = f % 4 == 0 && k_fits<4>((T *)y, gu);
    const int step = slab(rows, f);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = (r + step < rows ? step : rows - r) * f;
#define LAUNCH(F, V)                                                                                         \
    k_launch(q, (glu_fwd_kernel<T, F, V>), blocks(n, V), THREADS, 0, (T *)y + r * f, gu + 2 * r * f, n, f)
        BY_FUNCTION(fn, fits, LAUNCH)
#undef LAUNCH
    }
}

template <class T>
static void glu_bwd(b2_queue *q, float *dgu, const float *dy, const float *gu, int rows, int f, int fn)
{
    const bool fits = f % 4 == 0 && k_fits<4>(dgu, dy, gu);
    const int step = slab(rows, f);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = (r + step < rows ? step : rows - r) * f;
#define LAUNCH(F, V)                                                                                         \
    k_launch(q, (glu_bwd_kernel<F, V>), blocks(n, V), THREADS, 0, dgu + 2 * r * f, dy + r * f,               \
             gu + 2 * r * f, n, f)
        BY_FUNCTION(fn, fits, LAUNCH)
#undef LAUNCH
    }
}

template <class T> static void cast(b2_queue *q, void *y, const float *x, int64_t n)
{
    if (k_fits<4>((T *)y, x))
        k_launch(q, (cast_kernel<T, 4>), blocks(n, 4), THREADS, 0, (T *)y, x, n);
    else
        k_launch(q, (cast_kernel<T, 1>), blocks(n, 1), THREADS, 0, (T *)y, x, n);
}

template <class T> static void add(b2_queue *q, float *y, const float *x, int64_t n)
{
    if (k_fits<4>(y, x))
        k_launch(q, add_kernel<4>, blocks(n, 4), THREADS, 0, y, x, n);
    else
        k_launch(q, add_kernel<1>, blocks(n, 1), THREADS, 0, y, x, n);
}

template <class T> static void bias_grad(b2_queue *q, float *db, const float *dy, int ldy, int m, int n)
{
    if (m == 0) return;
    if (n >= 4096)
        k_launch(q, bias_grad_kernel<32>, k_blocks(n, 32), BIAS_THREADS, 0, db, dy, ldy, m, n);
    else
        k_launch(q, bias_grad_kernel<8>, k_blocks(n, 8), BIAS_THREADS, 0, db, dy, ldy, m, n);
}

K_EXPORT(act_fwd, (b2_queue * q, void *y, const float *x, int64_t n, int fn), (q, y, x, n, fn))
K_EXPORT(act_bwd, (b2_queue * q, float *dx, const float *dy, const float *x, int64_t n, int fn),
         (q, dx, dy, x, n, fn))
K_EXPORT(glu_fwd, (b2_queue * q, void *y, const float *gu, int rows, int f, int fn), (q, y, gu, rows, f, fn))
K_EXPORT(glu_bwd, (b2_queue * q, float *dgu, const float *dy, const float *gu, int rows, int f, int fn),
         (q, dgu, dy, gu, rows, f, fn))
K_EXPORT(cast, (b2_queue * q, void *y, const float *x, int64_t n), (q, y, x, n))
K_EXPORT(add, (b2_queue * q, float *y, const float *x, int64_t n), (q, y, x, n))
K_EXPORT(bias_grad, (b2_queue * q, float *db, const float *dy, int ldy, int m, int n), (q, db, dy, ldy, m, n))
