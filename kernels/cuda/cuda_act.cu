/* Activations, gated products, casts and sums: one pass over memory, which bounds them. A thread reads all
 * it needs before it writes, because outputs may be inputs. */
#include "kernels/cuda/one_pass.cuh"

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

/* 4 bytes an element (bf16) or 8. erf GELU: some 45 instructions an element, near balance on A100 and
 * H100. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(PASS_THREADS) act_fwd_kernel(T *y, const T *x, int64_t n)
{
    float v[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) { k_get_some<V>(v[k], x + i, n - i); });
    pass_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) v[k][j] = apply<Fn>(v[k][j]);
        k_put_some<V>(y + i, v[k], n - i);
    });
}

/* 6 bytes an element (bf16) or 12. dx may be dy. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(PASS_THREADS) act_bwd_kernel(T *dx, const T *dy, const T *x, int64_t n)
{
    float v[PASS_EACH][V], d[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) {
        k_get_some<V>(v[k], x + i, n - i);
        k_get_some<V>(d[k], dy + i, n - i);
    });
    pass_each<V>(n, [&](int k, int64_t i) {
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

/* 6 bytes an element (bf16) or 12. n: elements of y of a sample, or of all where nothing
 * drops. V > 1: f is a multiple of it, and so is n. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(PASS_THREADS)
    glu_fwd_kernel(T *y, const T *gu, int64_t n, int f, const drop_mask m)
{
    const int64_t base = (int64_t)blockIdx.y * n;
    float g[PASS_EACH][V], u[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) {
        const T *from = gu + 2 * base + gate_at(i, f);
        k_get<V>(g[k], from);
        k_get<V>(u[k], from + f);
    });
    const uint64_t key = drop_key(m);
    pass_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) g[k][j] = apply<Fn>(g[k][j]) * u[k][j];
        drop_some<V>(g[k], key, i, m);
        k_put<V>(y + base + i, g[k]);
    });
}

/* 10 bytes an element (bf16) or 20. */
template <class T, int Fn, int V>
__global__ void __launch_bounds__(PASS_THREADS)
    glu_bwd_kernel(T *dgu, const T *dy, const T *gu, int64_t n, int f, const drop_mask m)
{
    const int64_t base = (int64_t)blockIdx.y * n;
    float g[PASS_EACH][V], u[PASS_EACH][V], d[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) {
        const T *from = gu + 2 * base + gate_at(i, f);
        k_get<V>(g[k], from);
        k_get<V>(u[k], from + f);
        k_get<V>(d[k], dy + base + i);
    });
    const uint64_t key = drop_key(m);
    pass_each<V>(n, [&](int k, int64_t i) {
        T *to = dgu + 2 * base + gate_at(i, f);
        drop_some<V>(d[k], key, i, m);
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

/* 6 bytes an element (bf16) or 8. n: elements of a sample, or of all where nothing drops; then it may be no
 * multiple of V. */
template <class T, int V>
__global__ void __launch_bounds__(PASS_THREADS)
    cast_kernel(T *y, const float *x, int64_t n, const drop_mask m)
{
    const int64_t base = (int64_t)blockIdx.y * n;
    float v[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) { k_get_some<V>(v[k], x + base + i, n - i); });
    const uint64_t key = drop_key(m);
    pass_each<V>(n, [&](int k, int64_t i) {
        drop_some<V>(v[k], key, i, m);
        k_put_some<V>(y + base + i, v[k], n - i);
    });
}

/* 12 bytes an element. */
template <int V>
__global__ void __launch_bounds__(PASS_THREADS) add_kernel(float *y, const float *x, int64_t n)
{
    float v[PASS_EACH][V], old[PASS_EACH][V];
    pass_each<V>(n, [&](int k, int64_t i) {
        k_get_some<V>(v[k], x + i, n - i);
        k_get_some<V>(old[k], y + i, n - i);
    });
    pass_each<V>(n, [&](int k, int64_t i) {
#pragma unroll
        for (int j = 0; j < V; j++) v[k][j] += old[k][j];
        k_put_some<V>(y + i, v[k], n - i);
    });
}

/* Cols columns a block, over whose rows its threads take turns; their sums are added as a tree. 4 bytes
 * an element of dy, or 2: narrow matrices take 8 columns (bf16: 16) a block, one 32-byte sector a row, to
 * have blocks enough. */
enum { BIAS_THREADS = 512 };
template <int Cols, class T>
__global__ void __launch_bounds__(BIAS_THREADS)
    bias_grad_kernel(float *db, const T *dy, int ldy, int m, int n)
{
    SHARED_ARR(float, part, BIAS_THREADS);
    constexpr int turns = BIAS_THREADS / Cols;
    const int col = threadIdx.x % Cols, turn = threadIdx.x / Cols, c = blockIdx.x * Cols + col;
    float sum = 0.0f;
#pragma unroll 8
    for (int i = turn; i < (c < n ? m : 0); i += turns) sum += k_load(dy[(int64_t)i * ldy + c]);
    part[threadIdx.x] = sum;
    for (int half = turns / 2; half > 0; half /= 2) {
        __syncthreads();
        if (turn < half) part[threadIdx.x] += part[threadIdx.x + half * Cols];
    }
    if (turn == 0 && c < n) db[c] += part[threadIdx.x];
}

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

template <class T> static void act_fwd(b2_queue *q, void *y, const void *x, int64_t n, int fn)
{
    const T *in = (const T *)x;
#define LAUNCH(F, V) k_launch(q, (act_fwd_kernel<T, F, V>), pass_blocks(n, V), PASS_THREADS, 0, (T *)y, in, n)
    BY_FUNCTION(fn, k_fits<4>((T *)y, in), LAUNCH)
#undef LAUNCH
}

template <class T>
static void act_bwd(b2_queue *q, void *dx, const void *dy, const void *x, int64_t n, int fn)
{
    const T *in = (const T *)x, *d = (const T *)dy;
    T *out = (T *)dx;
#define LAUNCH(F, V) k_launch(q, (act_bwd_kernel<T, F, V>), pass_blocks(n, V), PASS_THREADS, 0, out, d, in, n)
    BY_FUNCTION(fn, k_fits<4>(out, d, in), LAUNCH)
#undef LAUNCH
}

/* What one launch of a gated product does: n elements of y for each of `samples`. */
struct glu_part {
    int64_t n;
    int samples;
    drop_mask mask;
};

/* From row `first` on; samples are whole where something drops, else as many rows as gate_at can number. */
static glu_part glu_part_at(b2_queue *q, int64_t first, int rows, int f, const b2_drop &d)
{
    const int64_t most = f > 0 ? INT32_MAX / f : rows, left = rows - first < most ? rows - first : most;
    const bool drops = d.p > 0.0f;
    const int64_t n = (drops ? d.rows : left) * f;
    return {n, drops ? rows / d.rows : 1, drop_mask_of(q, n, d.p, d.site)};
}

template <class T>
static void glu_fwd(b2_queue *q, void *y, const void *gu, int rows, int f, int fn, b2_drop drop)
{
    const T *in = (const T *)gu;
    const bool fits = f % 4 == 0 && k_fits<4>((T *)y, in);
    for (int64_t r = 0; r < rows && f > 0;) {
        const glu_part p = glu_part_at(q, r, rows, f, drop);
#define LAUNCH(F, V)                                                                                         \
    k_launch(q, (glu_fwd_kernel<T, F, V>), dim3(pass_blocks(p.n, V), p.samples), PASS_THREADS, 0,            \
             (T *)y + r * f, in + 2 * r * f, p.n, f, p.mask)
        BY_FUNCTION(fn, fits, LAUNCH)
#undef LAUNCH
        r += p.n / f * p.samples;
    }
}

template <class T>
static void glu_bwd(b2_queue *q, void *dgu, const void *dy, const void *gu, int rows, int f, int fn,
                    b2_drop drop)
{
    const T *in = (const T *)gu, *d = (const T *)dy;
    T *out = (T *)dgu;
    const bool fits = f % 4 == 0 && k_fits<4>(out, d, in);
    for (int64_t r = 0; r < rows && f > 0;) {
        const glu_part p = glu_part_at(q, r, rows, f, drop);
#define LAUNCH(F, V)                                                                                         \
    k_launch(q, (glu_bwd_kernel<T, F, V>), dim3(pass_blocks(p.n, V), p.samples), PASS_THREADS, 0,            \
             out + 2 * r * f, d + r * f, in + 2 * r * f, p.n, f, p.mask)
        BY_FUNCTION(fn, fits, LAUNCH)
#undef LAUNCH
        r += p.n / f * p.samples;
    }
}

template <class T> static void cast(b2_queue *q, void *y, const float *x, int rows, int cols, b2_drop drop)
{
    T *to = (T *)y;
    const bool drops = drop.p > 0.0f;
    const int samples = drops ? rows / drop.rows : 1;
    const int64_t n = (int64_t)(drops ? drop.rows : rows) * cols;
    const drop_mask m = drop_mask_of(q, n, drop.p, drop.site);
    if (k_fits<4>(to) && k_fits<4>(x) && (samples == 1 || n % 4 == 0))
        k_launch(q, (cast_kernel<T, 4>), dim3(pass_blocks(n, 4), samples), PASS_THREADS, 0, to, x, n, m);
    else
        k_launch(q, (cast_kernel<T, 1>), dim3(pass_blocks(n, 1), samples), PASS_THREADS, 0, to, x, n, m);
}

template <class T> static void add(b2_queue *q, float *y, const float *x, int64_t n)
{
    if (k_fits<4>(y, x))
        k_launch(q, add_kernel<4>, pass_blocks(n, 4), PASS_THREADS, 0, y, x, n);
    else
        k_launch(q, add_kernel<1>, pass_blocks(n, 1), PASS_THREADS, 0, y, x, n);
}

template <class T> static void bias_grad_of(b2_queue *q, float *db, b2_in dy, int m, int n)
{
    const T *from = (const T *)dy.p;
    constexpr int few = 32 / (int)sizeof(T);
    if (n >= 4096)
        k_launch(q, (bias_grad_kernel<32, T>), k_blocks(n, 32), BIAS_THREADS, 0, db, from, dy.ld, m, n);
    else
        k_launch(q, (bias_grad_kernel<few, T>), k_blocks(n, few), BIAS_THREADS, 0, db, from, dy.ld, m, n);
}
template <class T> static void bias_grad(b2_queue *q, float *db, b2_in dy, int m, int n)
{
    if (m == 0) return;
    if (sizeof(T) == 4 || dy.type == B2_F32)
        bias_grad_of<float>(q, db, dy, m, n);
    else
        bias_grad_of<T>(q, db, dy, m, n);
}

K_EXPORT(act_fwd, (b2_queue * q, void *y, const void *x, int64_t n, int fn), (q, y, x, n, fn))
K_EXPORT(act_bwd, (b2_queue * q, void *dx, const void *dy, const void *x, int64_t n, int fn),
         (q, dx, dy, x, n, fn))
K_EXPORT(glu_fwd, (b2_queue * q, void *y, const void *gu, int rows, int f, int fn, b2_drop drop),
         (q, y, gu, rows, f, fn, drop))
K_EXPORT(glu_bwd,
         (b2_queue * q, void *dgu, const void *dy, const void *gu, int rows, int f, int fn, b2_drop drop),
         (q, dgu, dy, gu, rows, f, fn, drop))
K_EXPORT(cast, (b2_queue * q, void *y, const float *x, int rows, int cols, b2_drop drop),
         (q, y, x, rows, cols, drop))
K_EXPORT(add, (b2_queue * q, float *y, const float *x, int64_t n), (q, y, x, n))
K_EXPORT(bias_grad, (b2_queue * q, float *db, b2_in dy, int m, int n), (q, db, dy, m, n))
