/* Does the GPU do what the host's stand-ins do? Random bits go through every wrapper of common.cuh, and
 * each case prints a hash of what came out. Built by a host compiler this makes conformance.txt, which
 * `make test` compares; built by nvcc and run on a GPU it must print the same. Where hardware may add in
 * another order, the numbers are small whole ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/common.cuh"

enum { WORDS = 4096 };

__device__ static inline uint32_t word_of(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {x};
    return v.u;
}
__device__ static inline float float_of(uint32_t x)
{
    union {
        uint32_t u;
        float f;
    } v = {x};
    return v.f;
}

/* kind: 0 shfl, 1 up, 2 down, 3 xor, at every distance of one width. */
__global__ void shuffles(uint32_t *out, const uint32_t *in, int kind, int width)
{
    const int lane = threadIdx.x;
    for (int d = 0; d < 32; d++) {
        const uint32_t x = in[d * 32 + lane];
        uint32_t y = 0;
        if (kind == 0) y = __shfl_sync(K_ALL_LANES, x, d, width);
        if (kind == 1) y = __shfl_up_sync(K_ALL_LANES, x, d % width, width);
        if (kind == 2) y = __shfl_down_sync(K_ALL_LANES, x, d % width, width);
        if (kind == 3) y = __shfl_xor_sync(K_ALL_LANES, x, d % width, width);
        out[d * 32 + lane] = y;
    }
}

__global__ void votes(uint32_t *out, const uint32_t *in)
{
    const int lane = threadIdx.x;
    for (int i = 0; i < 32; i++) {
        const bool x = in[i * 32 + lane] % (i + 1) == 0;
        out[i * 32 + lane] = __ballot_sync(K_ALL_LANES, x) + (__any_sync(K_ALL_LANES, x) ? 2u : 0u) +
                             (__all_sync(K_ALL_LANES, x) ? 1u : 0u);
    }
}

__global__ void matrices(uint32_t *out, const uint32_t *in, int turned)
{
    SHARED_ARR(uint32_t, s, 32 * 4); /* 32 rows of 8 b16 */
    uint32_t r[4];
    for (int i = threadIdx.x; i < 32 * 4; i += 32) s[i] = in[i];
    __syncwarp();
    if (turned)
        k_ldmatrix_x4_trans(r, s + (31 - threadIdx.x) * 4);
    else
        k_ldmatrix_x4(r, s + (31 - threadIdx.x) * 4);
    for (int i = 0; i < 4; i++) out[i * 32 + threadIdx.x] = r[i];
}

/* Whole numbers from -8 to 8 as bf16: products and their sums are exact in f32. */
__device__ static inline uint32_t small_pair(uint32_t x)
{
    union {
        bf16 h[2];
        uint32_t u;
    } v;
    v.h[0] = __float2bfloat16_rn((float)((int)(x % 17) - 8));
    v.h[1] = __float2bfloat16_rn((float)((int)(x / 17 % 17) - 8));
    return v.u;
}

__global__ void products(uint32_t *out, const uint32_t *in)
{
    const int lane = threadIdx.x;
    float d[4] = {1.0f, 2.0f, 3.0f, (float)lane};
    for (int i = 0; i < 8; i++) {
        uint32_t a[4], b[2];
        for (int j = 0; j < 4; j++) a[j] = small_pair(in[(i * 6 + j) * 32 + lane]);
        for (int j = 0; j < 2; j++) b[j] = small_pair(in[(i * 6 + 4 + j) * 32 + lane]);
        k_mma_bf16(d, a, b);
    }
    for (int j = 0; j < 4; j++) out[j * 32 + lane] = word_of(d[j]);
}

/* Every number of bytes, 0 to 16, and two groups on their way at once. */
__global__ void copies(uint32_t *out, const uint32_t *in)
{
    SHARED_ARR(uint32_t, s, 32 * 8);
    const int lane = threadIdx.x;
    for (int bytes = 0; bytes <= 16; bytes++) {
        k_copy_async16(s + lane * 8, in + lane * 4, bytes);
        k_copy_commit();
        k_copy_async16(s + lane * 8 + 4, in + 128 + lane * 4, 16 - bytes);
        k_copy_commit();
        k_copy_wait<1>();
        uint32_t sum = s[lane * 8] ^ s[lane * 8 + 3];
        k_copy_wait<0>();
        for (int i = 0; i < 8; i++) sum = sum * 31 + s[lane * 8 + i];
        out[bytes * 32 + lane] = sum;
        __syncwarp();
    }
}

__global__ void conversions(uint32_t *out, const uint32_t *in)
{
    union {
        bf16 h;
        uint16_t u;
    } v;
    for (int i = threadIdx.x; i < WORDS; i += blockDim.x) {
        const uint32_t special[] = {0x7F800001u, 0xFFC00000u, 0x00000001u, 0x807FFFFFu,
                                    0x7F7FFFFFu, 0x3F808000u, 0x3F818000u};
        const uint32_t x = i < 7 ? special[i] : in[i];
        v.h = __float2bfloat16_rn(float_of(x));
        const uint32_t back = word_of(__bfloat162float(v.h));
        out[i] = v.u | (back & 0xFFFF0000u);
    }
}

__global__ void packs(uint32_t *out, const uint32_t *in)
{
    const uint32_t special[] = {0x7F800001u, 0xFFC00000u, 0x00000001u, 0x807FFFFFu,
                                0x7F7FFFFFu, 0x3F808000u, 0x3F818000u};
    for (int i = threadIdx.x; i < WORDS; i += blockDim.x) {
        const uint32_t lo = i < 7 ? special[i] : in[i], hi = i < 7 ? special[6 - i] : in[WORDS - 1 - i];
        out[i] = k_pack_bf16(float_of(lo), float_of(hi));
    }
}

/* Near the right power of two, not a bit of it promised: 1 for each that is. */
__global__ void powers(uint32_t *out, const uint32_t *in)
{
    for (int i = threadIdx.x; i < WORDS; i += blockDim.x) {
        const float x = -(float)(in[i] % 100000) / 1000.0f, right = exp2f(x);
        out[i] = fabsf(k_exp2(x) - right) <= 5e-7f * right ? 1u : 0u;
    }
    if (threadIdx.x == 0) out[0] = word_of(k_exp2(-INFINITY));
    if (threadIdx.x == 1) out[1] = word_of(k_exp2(0.0f));
}

__global__ void atomics(uint32_t *out, const uint32_t *in)
{
    int *to = (int *)out;
    const int x = (int)(in[threadIdx.x] % 1000);
    atomicAdd(to, x);
    atomicAdd(out + 1, (unsigned)x);
    atomicMin(to + 2, -x);
    atomicCAS(to + 3 + threadIdx.x, 0, x + 1);
    atomicExch(to + 300 + threadIdx.x, x);
}

/* Sums in the wrappers' own order, and masks of dropout. */
__global__ void sums(uint32_t *out, const uint32_t *in)
{
    SHARED_ARR(float, room, 32);
    const float x = (float)(in[threadIdx.x] % 4096) / 64.0f;
    out[threadIdx.x] = word_of(k_warp_sum(x));
    out[256 + threadIdx.x] = word_of(k_warp_max(x));
    out[512 + threadIdx.x] = word_of(k_block_sum(x, room));
    const uint64_t key = b2_drop_key(in[0], in[1], in[2], in[3]);
    out[768 + threadIdx.x] = b2_drop_keep(key, in[threadIdx.x], b2_drop_limit(0.3f)) ? 1u : 0u;
}

/* ---- running ---- */
#ifdef __CUDACC__
static uint32_t *take()
{
    uint32_t *p = NULL;
    return cudaMallocManaged(&p, WORDS * 4) == cudaSuccess ? p : NULL;
}
static bool wait_for_all() { return cudaDeviceSynchronize() == cudaSuccess; }
extern "C" void *b2_cuda_stream(const b2_queue *) { return NULL; }
extern "C" void b2_cuda_launched(b2_queue *, const char *kernel, int code)
{
    fprintf(stderr, "%s: %s\n", kernel, cudaGetErrorString((cudaError_t)code));
    exit(2);
}
#else
static uint32_t *take() { return (uint32_t *)emu_malloc(WORDS * 4); }
static bool wait_for_all() { return true; }
#endif

static uint32_t *in, *out;

static void clear() { memset(out, 0, WORDS * 4); }

static void show(const char *name, int a, int b)
{
    uint64_t h = 0xCBF29CE484222325u;
    if (!wait_for_all()) {
        fprintf(stderr, "%s: the kernel failed\n", name);
        exit(1);
    }
    for (int i = 0; i < WORDS; i++) h = (h ^ out[i]) * 0x100000001B3u;
    printf("%s %d %d %016llx\n", name, a, b, (unsigned long long)h);
    clear();
}

int main()
{
    b2_queue *const q = NULL;
    in = take();
    out = take();
    if (!in || !out) {
        fprintf(stderr, "no memory of a GPU\n");
        return 2;
    }
    uint64_t x = 12345;
    for (int i = 0; i < WORDS; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        in[i] = (uint32_t)(x >> 32);
    }
    clear();
    for (int kind = 0; kind < 4; kind++) {
        for (int width = 2; width <= 32; width *= 2) {
            k_launch(q, shuffles, 1, 32, 0, out, in, kind, width);
            show("shuffle", kind, width);
        }
    }
    k_launch(q, votes, 1, 32, 0, out, in);
    show("votes", 0, 0);
    for (int turned = 0; turned < 2; turned++) {
        k_launch(q, matrices, 1, 32, 0, out, in, turned);
        show("ldmatrix", turned, 0);
    }
    k_launch(q, products, 1, 32, 0, out, in);
    show("mma", 0, 0);
    k_launch(q, copies, 1, 32, 0, out, in);
    show("copies", 0, 0);
    k_launch(q, conversions, 1, 128, 0, out, in);
    show("conversions", 0, 0);
    k_launch(q, packs, 1, 128, 0, out, in);
    show("packs", 0, 0);
    k_launch(q, powers, 1, 128, 0, out, in);
    show("powers", 0, 0);
    k_launch(q, atomics, 1, 256, 0, out, in);
    show("atomics", 0, 0);
    k_launch(q, sums, 1, 256, 0, out, in);
    show("sums", 0, 0);
    return 0;
}
