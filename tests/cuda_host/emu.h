/* CUDA on the host: what kernels/cuda/common.cuh gives a kernel when a host compiler reads it. A CUDA
 * thread is a fiber, blocks run one after the other, and every wrapper checks how it is used. The
 * scheduler is emu_core.cc; docs/kernels.md says how to use this, and what it cannot see. No CUDA header
 * is needed. */
#ifndef B2_TESTS_CUDA_HOST_EMU_H
#define B2_TESTS_CUDA_HOST_EMU_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

/* ---- vectors and indices ------------------------------------------------------------------------------- */
struct b2_queue;

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
extern uint3 threadIdx, blockIdx; /* rewritten at every switch */
extern dim3 blockDim, gridDim;

/* ---- bf16 ---------------------------------------------------------------------------------------------- */
struct __nv_bfloat16 {
    uint16_t bits;
};
static inline float __bfloat162float(__nv_bfloat16 x)
{
    const uint32_t u = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* Nearest even; NaN stays NaN. */
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return {(uint16_t)0x7FFF};
    return {(uint16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}

/* ---- the core ------------------------------------------------------------------------------------------ */
enum emu_exit {
    EMU_ERROR = 81,
    EMU_DEADLOCK = 82,
    EMU_SANITIZER = 83,
    EMU_WRONG = 84,
    EMU_SPINNING = 85,
    EMU_RACE = 86
};
enum emu_kind {
    EMU_SHFL,
    EMU_SHFL_UP,
    EMU_SHFL_DOWN,
    EMU_SHFL_XOR,
    EMU_BALLOT,
    EMU_SYNCWARP,
    EMU_LDMATRIX,
    EMU_LDMATRIX_TRANS,
    EMU_MMA
};
/* What one lane brings to an operation of its warp, on its own stack, and what it takes away. */
struct emu_op {
    emu_kind kind;
    unsigned mask;
    int arg, width;
    uint64_t value[2], result[2];
    uint32_t a[4], b[2];
    float d[4];
};
struct emu_copy {
    void *to;
    const void *from;
    int bytes, group;
};
/* Asynchronous copies of one thread: `late` ones land when they are waited for, else at once. */
struct emu_copies {
    emu_copy list[64];
    int n, group, late;
};
struct emu_site { /* of one shared object in the source */
    uint64_t block;
    void *at;
};
extern int emu_watchdog; /* seconds that a launch may take */
extern "C" {
void emu_run(const char *kernel, dim3 grid, dim3 block, size_t shared, void (*thread)(void *),
             void *arguments);
void emu_sync(const char *file, int line);
void emu_warp(emu_op *op, const char *file, int line);
void *emu_shared(emu_site *site, size_t bytes, size_t align);
void *emu_dynamic_shared(void);
emu_copies *emu_thread_copies(void);
/* Says what is wrong, in which kernel, block and thread, and ends the process with `code`. */
[[noreturn]] void emu_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *emu_malloc(size_t bytes); /* "device" memory: exactly so large, 256-aligned, holding 0xFF; free() */
/* forward, reverse or random order of threads and blocks; greedy: a thread runs as far as it can. */
/* Around each launch; weak: a program without emu_runtime.cc has no memory to guard. */
__attribute__((weak)) void emu_memory_open(void);
__attribute__((weak)) void emu_memory_close(void);
void emu_schedule(int order, unsigned seed, int greedy, int late_copies);
}
enum emu_order { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };

/* ---- shared memory ------------------------------------------------------------------------------------- */
#define SHARED(T, name)                                                                                      \
    static emu_site name##_site;                                                                             \
    T &name = *(T *)emu_shared(&name##_site, sizeof(T), alignof(T) > 16 ? alignof(T) : 16)
#define SHARED_ARR(T, name, n)                                                                               \
    static emu_site name##_site;                                                                             \
    T(&name)[n] = *(T(*)[n])emu_shared(&name##_site, sizeof(T[n]), alignof(T) > 16 ? alignof(T) : 16)
#define DYN_SHARED(T, name) T *name = (T *)emu_dynamic_shared()

/* ---- threads and warps --------------------------------------------------------------------------------- */
#define __syncthreads() emu_sync(__FILE__, __LINE__)
static inline void emu_syncwarp(unsigned mask, const char *file, int line)
{
    emu_op op = {EMU_SYNCWARP, mask, 0, 32, {0, 0}, {0, 0}, {0}, {0}, {0}};
    emu_warp(&op, file, line);
}
#define __syncwarp(...) emu_syncwarp(0xFFFFFFFFu __VA_OPT__(&(__VA_ARGS__)), __FILE__, __LINE__)

template <class T>
static inline T emu_shuffle(emu_kind kind, unsigned mask, T x, int arg, const char *file, int line,
                            int width = 32)
{
    static_assert(sizeof(T) <= 16, "a shuffle moves 16 bytes at most");
    emu_op op = {kind, mask, arg, width, {0, 0}, {0, 0}, {0}, {0}, {0}};
    memcpy(op.value, &x, sizeof x);
    emu_warp(&op, file, line);
    memcpy(&x, op.result, sizeof x);
    return x;
}
#define __shfl_sync(mask, x, ...)      emu_shuffle(EMU_SHFL, mask, x, EMU_SHUFFLE_ARGS(__VA_ARGS__))
#define __shfl_up_sync(mask, x, ...)   emu_shuffle(EMU_SHFL_UP, mask, x, EMU_SHUFFLE_ARGS(__VA_ARGS__))
#define __shfl_down_sync(mask, x, ...) emu_shuffle(EMU_SHFL_DOWN, mask, x, EMU_SHUFFLE_ARGS(__VA_ARGS__))
#define __shfl_xor_sync(mask, x, ...)  emu_shuffle(EMU_SHFL_XOR, mask, x, EMU_SHUFFLE_ARGS(__VA_ARGS__))
#define EMU_SHUFFLE_ARGS(arg, ...)     arg, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__
static inline unsigned emu_ballot(unsigned mask, bool x, const char *file, int line)
{
    emu_op op = {EMU_BALLOT, mask, 0, 32, {x, 0}, {0, 0}, {0}, {0}, {0}};
    emu_warp(&op, file, line);
    return (unsigned)op.result[0];
}
#define __ballot_sync(mask, x) emu_ballot(mask, (x) != 0, __FILE__, __LINE__)
#define __any_sync(mask, x)    (__ballot_sync(mask, x) != 0)
#define __all_sync(mask, x)    (__ballot_sync(mask, !(x)) == 0)

/* ---- atomics: whole numbers only; a sum of floats would depend on the order ---------------------------- */
static inline int atomicAdd(int *p, int x) { return __atomic_fetch_add(p, x, __ATOMIC_ACQ_REL); }
static inline unsigned atomicAdd(unsigned *p, unsigned x)
{
    return __atomic_fetch_add(p, x, __ATOMIC_ACQ_REL);
}
static inline int atomicExch(int *p, int x) { return __atomic_exchange_n(p, x, __ATOMIC_ACQ_REL); }
static inline int atomicCAS(int *p, int expected, int x)
{
    __atomic_compare_exchange_n(p, &expected, x, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
static inline int atomicMin(int *p, int x)
{
    int old = *p;
    while (x < old && !__atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    }
    return old;
}

/* ---- numbers ------------------------------------------------------------------------------------------- */
static inline float __fmul_rn(float a, float b) { return a * b; } /* never fused with a sum */
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float k_exp(float x) { return expf(x); }
static inline float k_log(float x) { return logf(x); }
static inline float k_rsqrt(float x) { return rsqrtf(x); }
static inline float k_exp2(float x) { return exp2f(x); }
static inline uint32_t k_pack_bf16(float lo, float hi)
{
    return __float2bfloat16_rn(lo).bits | (uint32_t)__float2bfloat16_rn(hi).bits << 16;
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* ---- asynchronous copies ------------------------------------------------------------------------------- */
static inline void emu_land(const emu_copy *c)
{
    uint64_t w[2] = {0, 0};
    memcpy(w, c->from, (size_t)c->bytes);
    memcpy(c->to, w, 16);
}
static inline void k_copy_async16(void *to, const void *from, int bytes)
{
    emu_copies *q = emu_thread_copies();
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16)
        emu_fail(EMU_ERROR, "k_copy_async16: an address is no multiple of 16");
    if (bytes < 0 || bytes > 16) emu_fail(EMU_ERROR, "k_copy_async16: %d bytes", bytes);
    if (q->n == 64) emu_fail(EMU_ERROR, "k_copy_async16: more than 64 copies on their way");
    const emu_copy c = {to, from, bytes, q->group};
    if (!q->late) emu_land(&c);
    q->list[q->n++] = c;
}
static inline void k_copy_commit() { emu_thread_copies()->group++; }
template <int N> static inline void k_copy_wait()
{
    emu_copies *q = emu_thread_copies();
    int kept = 0;
    for (int i = 0; i < q->n; i++) {
        if (q->list[i].group >= q->group - N)
            q->list[kept++] = q->list[i];
        else if (q->late)
            emu_land(&q->list[i]);
    }
    q->n = kept;
}

/* ---- tensor cores -------------------------------------------------------------------------------------- */
static inline void emu_ldmatrix(emu_kind kind, uint32_t r[4], const void *row, const char *file, int line)
{
    emu_op op = {kind, 0xFFFFFFFFu, 0, 32, {0, 0}, {0, 0}, {0}, {0}, {0}};
    if ((uintptr_t)row % 16) emu_fail(EMU_ERROR, "ldmatrix: a row at no multiple of 16");
    memcpy(op.value, row, 16);
    emu_warp(&op, file, line);
    memcpy(r, op.a, 16);
}
#define k_ldmatrix_x4(r, row)       emu_ldmatrix(EMU_LDMATRIX, r, row, __FILE__, __LINE__)
#define k_ldmatrix_x4_trans(r, row) emu_ldmatrix(EMU_LDMATRIX_TRANS, r, row, __FILE__, __LINE__)
static inline void emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2], const char *file, int line)
{
    emu_op op = {EMU_MMA, 0xFFFFFFFFu, 0, 32, {0, 0}, {0, 0}, {0}, {0}, {0}};
    memcpy(op.a, a, 16);
    memcpy(op.b, b, 8);
    memcpy(op.d, d, 16);
    emu_warp(&op, file, line);
    memcpy(d, op.d, 16);
}
#define k_mma_bf16(d, a, b) emu_mma(d, a, b, __FILE__, __LINE__)
/* The f32 sum in between is exact for the products and sums that kernels make of it. */
static inline uint32_t k_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    union pair {
        uint32_t u;
        __nv_bfloat16 h[2];
    } x = {a}, y = {b}, z = {c};
    for (int i = 0; i < 2; i++)
        z.h[i] = __float2bfloat16_rn(
            fmaf(__bfloat162float(x.h[i]), __bfloat162float(y.h[i]), __bfloat162float(z.h[i])));
    return z.u;
}

/* ---- launching ----------------------------------------------------------------------------------------- */
template <class F> static void emu_thread(void *f) { (*(F *)f)(); }
/* Something that a recorded stream does; weak: a program without emu_runtime.cc records nothing. */
struct emu_recorded {
    virtual void run() = 0;
    virtual ~emu_recorded() {}
};
template <class F> struct emu_recorded_launch : emu_recorded {
    const char *name;
    dim3 grid, block;
    size_t shared;
    F call;
    emu_recorded_launch(const char *n, dim3 g, dim3 b, size_t s, F f)
        : name(n), grid(g), block(b), shared(s), call(f)
    {
    }
    void run() override { emu_run(name, grid, block, shared, emu_thread<F>, &call); }
};
extern "C" __attribute__((weak)) void *b2_cuda_stream(const b2_queue *q); /* as in common.cuh */
/* A library's workspace: it is written to (the ends of a large one), so that whatever else is kept there
 * shows. */
struct emu_scratch {
    char *at;
    size_t bytes;
    void spoil() const
    {
        const size_t part = bytes < 65536 ? bytes : 65536;
        if (!bytes) return;
        memset(at, 0xA5, part);
        memset(at + bytes - part, 0xA5, part);
    }
};
/* False: nobody records, and it was deleted. */
__attribute__((weak)) bool emu_note(emu_recorded *what, const void *stream);
template <class... P, class... A>
static inline void k_launch_named(const char *name, b2_queue *q, void (*kernel)(P...), dim3 grid, dim3 block,
                                  size_t shared, A... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    auto call = [=]() { kernel(static_cast<P>(args)...); };
    if (emu_note &&
        emu_note(new emu_recorded_launch<decltype(call)>(name, grid, block, shared, call), b2_cuda_stream(q)))
        return;
    emu_run(name, grid, block, shared, emu_thread<decltype(call)>, &call);
}
#define k_launch(q, kernel, ...) k_launch_named(#kernel, q, kernel, __VA_ARGS__)
#endif
