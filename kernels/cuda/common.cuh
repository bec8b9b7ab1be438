/* The one header of CUDA kernels. Under nvcc: CUDA's headers and inline PTX. Under a host compiler: the
 * emulation in tests/cuda_host, which gives every name below a twin that checks its use (docs/kernels.md,
 * "CUDA on the host"). Rules: no raw asm, no <<<>>>, no bare __shared__, explicit _sync masks, no return
 * before a barrier, one lane writes shared scalars, no atomics on floats. */
#ifndef B2_KERNELS_CUDA_COMMON_CUH
#define B2_KERNELS_CUDA_COMMON_CUH

#include <math.h>
#include "base/rng.h"
#include "kernels/args.h"

struct b2_queue; /* kernels.h is C: a launcher sees the queue through these */
extern "C" {
void *b2_cuda_stream(const b2_queue *q);        /* cudaStream_t */
const b2_step *b2_cuda_step(const b2_queue *q); /* in device memory */
int b2_cuda_sms(const b2_queue *q); /* multiprocessors; what WORKSPACE functions get as `threads` */
/* Records a failed launch in the queue: name of the kernel and the runtime's own words. code: cudaError_t. */
void b2_cuda_launched(b2_queue *q, const char *kernel, int code);
}
#include "kernels/cuda/cuda_slots.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define SHARED(T, name)        __shared__ T name
#define SHARED_ARR(T, name, n) __shared__ __align__(16) T name[n]
#define DYN_SHARED(T, name)                                                                                  \
    extern __shared__ __align__(1024) unsigned char k_dynamic_shared[];                                      \
    T *name = (T *)k_dynamic_shared

/* Without being asked for, a block has 48 KB, static and dynamic shared memory together. */
#define K_SHARED_ASKED (32 * 1024)

/* k_launch(q, kernel, grid, block, bytes of dynamic shared memory, arguments…); a template kernel's name
 * with a comma goes in parentheses. An empty grid launches nothing. */
template <class... P, class... A>
static inline void k_launch_named(const char *name, b2_queue *q, void (*kernel)(P...), dim3 grid, dim3 block,
                                  size_t shared, A... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    cudaError_t e = cudaSuccess;
    if (shared > K_SHARED_ASKED)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e == cudaSuccess) {
        kernel<<<grid, block, shared, (cudaStream_t)b2_cuda_stream(q)>>>(static_cast<P>(args)...);
        e = cudaGetLastError();
    }
    if (e != cudaSuccess) b2_cuda_launched(q, name, (int)e);
}
#define k_launch(q, kernel, ...) k_launch_named(#kernel, q, kernel, __VA_ARGS__)

__device__ static inline float k_exp(float x) { return __expf(x); }
__device__ static inline float k_log(float x) { return __logf(x); }
__device__ static inline float k_rsqrt(float x) { return rsqrtf(x); }
/* 2^x within 2 units of the last place; -inf: 0. */
__device__ static inline float k_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* Two numbers as bf16 in one instruction, lo in the low half; nearest even, NaN stays NaN. */
__device__ static inline uint32_t k_pack_bf16(float lo, float hi)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo));
    return y;
}

/* ---- asynchronous copies of 16 bytes, global to shared (sm_80) ----------------------------------------- */
__device__ static inline unsigned k_shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}
/* Bytes past `bytes` (0 to 16) are written as zero; `from` is not read then. */
__device__ static inline void k_copy_async16(void *to, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(k_shared_address(to)), "l"(from),
                 "r"(bytes)
                 : "memory");
}
__device__ static inline void k_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of the groups committed last are still on their way. */
template <int N> __device__ static inline void k_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- tensor cores: one warp, all 32 lanes; g = lane/4, t = lane%4 -------------------------------------- */
/* Four 8x8 matrices of b16 from shared memory: matrix m takes its 8 row addresses from lanes 8m to 8m+7; a
 * lane gets elements 2t, 2t+1 of row g. */
__device__ static inline void k_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(k_shared_address(row))
                 : "memory");
}
/* The same transposed: a lane gets elements (2t, g) and (2t+1, g). */
__device__ static inline void k_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(k_shared_address(row))
                 : "memory");
}
/* d += a b: 16x8 += 16x16 * 16x8, bf16 in, f32 sums.
 * a: rows g, g+8, g, g+8, columns 2t, 2t+1 (+8 for a[2], a[3]);  b: k = 2t, 2t+1 (+8 for b[1]), column g;
 * d: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1). */
__device__ static inline void k_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* a*b + c of two pairs of bf16, each rounded once. */
__device__ static inline uint32_t k_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
#else
#include "tests/cuda_host/emu.h"
#endif

typedef __nv_bfloat16 bf16;
#define K_ALL_LANES 0xFFFFFFFFu

/* T is float or bf16: the activation type of a table. */
__device__ static inline float k_load(float x) { return x; }
__device__ static inline float k_load(bf16 x) { return __bfloat162float(x); }
template <class T> __device__ static inline T k_store(float x);
template <> __device__ inline float k_store<float>(float x) { return x; }
template <> __device__ inline bf16 k_store<bf16>(float x) { return __float2bfloat16_rn(x); }

/* Sum and largest over a warp, in every lane; the order is fixed. */
__device__ static inline float k_warp_sum(float x)
{
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(K_ALL_LANES, x, d);
    return x;
}
__device__ static inline float k_warp_max(float x)
{
    for (int d = 16; d > 0; d >>= 1) x = fmaxf(x, __shfl_xor_sync(K_ALL_LANES, x, d));
    return x;
}
/* Sum over a block of up to 1024 threads (a multiple of 32), in every thread. `room`: 32 floats of shared
 * memory, free again after the call. */
__device__ static inline float k_block_sum(float x, float *room)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    x = k_warp_sum(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = k_warp_sum(lane < warps ? room[lane] : 0.0f);
    __syncthreads();
    return x;
}
static inline int k_blocks(int64_t n, int64_t each) { return (int)((n + each - 1) / each); }

/* Registers a launcher template for both activation types under the table's names. */
#define K_EXPORT(name, parameters, arguments)                                                                \
    extern "C" void b2_cuda_f32_##name parameters { name<float> arguments; }                                 \
    extern "C" void b2_cuda_bf16_##name parameters { name<bf16> arguments; }
#define K_EXPORT_WS(name, parameters, arguments)                                                             \
    extern "C" size_t b2_cuda_f32_##name parameters { return name arguments; }                               \
    extern "C" size_t b2_cuda_bf16_##name parameters { return name arguments; }
#endif
