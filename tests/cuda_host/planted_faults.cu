/* The self-test of CUDA on the host: kernels with one planted fault each, which must be caught in the
 * schedules named, and the same kernels without it, which must pass in all. Every run is a process of its
 * own. */
#include <sys/wait.h>
#include <unistd.h>
#include "kernels/cuda/common.cuh"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif
#if UNDER_TSAN
extern "C" const char *__tsan_default_options() { return "halt_on_error=1:exitcode=86"; }
#else
extern "C" const char *__asan_default_options() { return "exitcode=83:detect_leaks=0"; }
extern "C" const char *__ubsan_default_options() { return "exitcode=83:halt_on_error=1"; }
#endif

enum { N = 64 };
struct buffers {
    float *in, *out; /* [N] */
    int *whole;      /* [4] zeros */
};

/* out[i] = in[N-1-i], through shared memory */
template <bool Fault> __global__ void turn(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    s[threadIdx.x] = in[threadIdx.x];
    if (!Fault) __syncthreads();
    out[threadIdx.x] = s[N - 1 - threadIdx.x];
}

/* The same twice over, through one array: the second write must wait for the first reads. */
template <bool Fault> __global__ void turn_twice(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    float x = in[threadIdx.x];
    for (int i = 0; i < 3; i++) {
        s[threadIdx.x] = x;
        __syncthreads();
        x = s[N - 1 - threadIdx.x];
        if (!Fault) __syncthreads();
    }
    out[threadIdx.x] = x;
}

template <bool Fault> __global__ void scalar_from_one(float *out, const float *in)
{
    SHARED(float, s);
    if (threadIdx.x == 0) s = in[N - 1];
    if (!Fault) __syncthreads();
    out[threadIdx.x] = threadIdx.x == N - 1 ? in[0] : threadIdx.x == 0 ? s : in[N - 1 - threadIdx.x];
    if (threadIdx.x == 1) out[1] = in[N - 2] + (s - in[N - 1]);
    if (threadIdx.x == N - 1) out[N - 1] = in[0] + (s - in[N - 1]);
}

template <bool Fault> __global__ void turn_in_warp(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    s[threadIdx.x] = in[threadIdx.x];
    if (!Fault) __syncwarp();
    const float x = s[32 * warp + 31 - lane];
    out[32 * (1 - warp) + lane] = x;
}

template <bool Fault> __global__ void copied(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    if (threadIdx.x < N / 4) k_copy_async16(&s[4 * threadIdx.x], in + 4 * threadIdx.x, 16);
    k_copy_commit();
    if (!Fault) k_copy_wait<0>();
    __syncthreads();
    out[threadIdx.x] = s[N - 1 - threadIdx.x];
    if (Fault) k_copy_wait<0>();
}

/* Waits for all groups but the last, which is the one it needs. */
template <bool Fault> __global__ void waits_for_too_few(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    if (threadIdx.x < N / 4) k_copy_async16(&s[4 * threadIdx.x], in + 4 * threadIdx.x, 16);
    k_copy_commit();
    k_copy_wait<Fault ? 1 : 0>();
    __syncthreads();
    out[threadIdx.x] = s[N - 1 - threadIdx.x];
    if (Fault) k_copy_wait<0>();
}

/* A stage is filled again while others still read it. */
template <bool Fault> __global__ void overwrites_stage(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    float x = 0;
    for (int i = 0; i < 2; i++) {
        if (threadIdx.x < N / 4)
            k_copy_async16(&s[4 * threadIdx.x], i == 0 ? in + 4 * threadIdx.x : in + N - 4 - 4 * threadIdx.x,
                           16);
        k_copy_commit();
        k_copy_wait<0>();
        __syncthreads();
        if (i == 0) x = s[N - 1 - threadIdx.x];
        if (!Fault) __syncthreads();
    }
    out[threadIdx.x] = x;
}

__global__ void full_mask_in_half(float *out, const float *in)
{
    if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_xor_sync(K_ALL_LANES, in[threadIdx.x], 1);
    __syncthreads();
}

__global__ void not_in_mask(float *out, const float *in)
{
    out[threadIdx.x] = __shfl_xor_sync(0xFFFFu, in[threadIdx.x], 1);
}

__global__ void two_barriers(float *out, const float *in)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = in[N - 1 - threadIdx.x];
}

__global__ void returns_early(float *out, const float *in)
{
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = in[N - 1 - threadIdx.x];
}

template <int Past> __global__ void past_static(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    s[(threadIdx.x + Past) % (N + Past)] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = in[N - 1 - threadIdx.x] + 0 * s[threadIdx.x];
}

template <int Past> __global__ void past_dynamic(float *out, const float *in)
{
    DYN_SHARED(float, s);
    s[threadIdx.x + Past] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = in[N - 1 - threadIdx.x];
}

template <int Past> __global__ void past_global(float *out, const float *in)
{
    out[threadIdx.x] = in[N - 1 - threadIdx.x + Past];
}

template <int Off> __global__ void misaligned(float *out, const float *in)
{
    if (threadIdx.x >= 8) {
        out[threadIdx.x] = in[N - 1 - threadIdx.x];
        return;
    }
    const float4 v = *(const float4 *)(in + N - 4 - 4 * (threadIdx.x / 4) - Off);
    out[threadIdx.x] = Off                    ? v.x
                       : threadIdx.x % 4 == 0 ? v.w
                       : threadIdx.x % 4 == 1 ? v.z
                       : threadIdx.x % 4 == 2 ? v.y
                                              : v.x;
}

template <bool Fault> __global__ void uninitialised(float *out, const float *in)
{
    SHARED_ARR(float, s, N + 1);
    s[threadIdx.x] = 0;
    if (!Fault && threadIdx.x == 0) s[N] = 0;
    __syncthreads();
    out[threadIdx.x] = in[N - 1 - threadIdx.x] + s[N];
}

__global__ void copy_misaligned(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    k_copy_async16(&s[0], in + 1, 16);
    k_copy_wait<0>();
    out[threadIdx.x] = s[0];
}

__global__ void copy_left(float *out, const float *in)
{
    SHARED_ARR(float, s, N);
    k_copy_async16(&s[0], in, 16);
    out[threadIdx.x] = 0 * s[1];
}

__global__ void spins(int *flag)
{
    if (blockIdx.x == 0)
        while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0) {
        }
    else
        atomicExch(flag, 1);
}

__global__ void half_a_warp_of_mma(float *out)
{
    float d[4] = {0};
    const uint32_t a[4] = {0}, b[2] = {0};
    if (threadIdx.x % 32 < 16) k_mma_bf16(d, a, b);
    out[threadIdx.x] = d[0];
}

__global__ void different_operations(float *out, const float *in)
{
    if (threadIdx.x % 32 < 16)
        out[threadIdx.x] = __shfl_xor_sync(K_ALL_LANES, in[threadIdx.x], 1);
    else
        out[threadIdx.x] = (float)__ballot_sync(K_ALL_LANES, in[threadIdx.x] > 0);
}

__global__ void odd_width(float *out, const float *in)
{
    out[threadIdx.x] = __shfl_xor_sync(K_ALL_LANES, in[threadIdx.x], 1, 12);
}

/* Lane 40 of a block of 40 threads does not exist. */
template <bool Fault> __global__ void lane_not_there(float *out, const float *in)
{
    const float x = __shfl_sync(K_ALL_LANES, in[threadIdx.x], Fault ? 20 : 0);
    out[threadIdx.x] = x == x ? in[N - 1 - threadIdx.x] : x;
}

__global__ void large_shared(float *out)
{
    SHARED_ARR(float, s, 13000);
    s[0] = 1;
    out[threadIdx.x] = s[0];
}

__global__ void nothing(float *out) { out[0] = 0; }
/* Right here, where blocks run one after the other; lost counts where they do not. */
__global__ void counts(int *n) { *n += 1; }

__global__ void launches(float *out) { k_launch((b2_queue *)nullptr, nothing, 1, 1, 0, out); }

/* c [16,8] = a [16,16] b [16,8] by one warp: a in rows, b in rows (so that it must be turned). */
template <bool Turned> __global__ void product(float *c, const bf16 *a, const bf16 *b)
{
    SHARED_ARR(bf16, sa, 16 * 16);
    SHARED_ARR(bf16, sb, 16 * 16);
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    k_copy_async16(&sa[8 * lane], a + 8 * lane, 16);
    k_copy_async16(&sb[8 * lane], b + 8 * lane, 16);
    k_copy_commit();
    k_copy_wait<0>();
    __syncwarp();
    uint32_t ra[4], rb[4];
    k_ldmatrix_x4(ra, &sa[(lane % 16) * 16 + 8 * (lane / 16)]);
    if (Turned)
        k_ldmatrix_x4_trans(rb, &sb[(lane % 16) * 16 + 8 * (lane / 16)]);
    else
        k_ldmatrix_x4(rb, &sb[(lane % 16) * 16 + 8 * (lane / 16)]);
    for (int half = 0; half < 2; half++) {
        float d[4] = {0};
        k_mma_bf16(d, ra, rb + 2 * half);
        for (int i = 0; i < 4; i++) c[(g + 8 * (i / 2)) * 16 + 8 * half + 2 * t + i % 2] = d[i];
    }
}

/* c [16,8] = (a [16,16] a^T) b [16,8]: sums of the first product, as they lie in a lane, are the second one's
 * operand (attention). */
template <bool Fault> __global__ void product_of_product(float *c, const bf16 *a, const bf16 *b)
{
    SHARED_ARR(bf16, sa, 16 * 16);
    SHARED_ARR(bf16, sb, 16 * 16);
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4, low = lane % 8, b3 = lane / 8 % 2,
              b4 = lane / 16;
    *(uint4 *)(void *)(sa + 8 * lane) = *(const uint4 *)(const void *)(a + 8 * lane);
    *(uint4 *)(void *)(sb + 8 * lane) = *(const uint4 *)(const void *)(b + 8 * lane);
    __syncwarp();
    uint32_t ra[4], rb[4], p[4];
    float s[2][4] = {}, d[4] = {};
    k_ldmatrix_x4(ra, sa + (low + 8 * b3) * 16 + 8 * b4);
    k_ldmatrix_x4(rb, sa + (low + 8 * b4) * 16 + 8 * b3);
    k_mma_bf16(s[0], ra, rb);
    k_mma_bf16(s[1], ra, rb + 2);
    for (int i = 0; i < 4; i++) {
        const int at = Fault ? i % 2 * 2 + i / 2 : i; /* the operand: rows first, then columns */
        p[i] = k_pack_bf16(s[at / 2][at % 2 * 2], s[at / 2][at % 2 * 2 + 1]);
    }
    k_ldmatrix_x4_trans(rb, sb + (low + 8 * b3) * 16 + 8 * b4);
    k_mma_bf16(d, p, rb);
    for (int i = 0; i < 4; i++) c[(g + 8 * (i / 2)) * 16 + 2 * t + i % 2] = d[i];
}

__global__ void sums(float *out, const float *in)
{
    SHARED_ARR(float, room, 32);
    const float x = threadIdx.x < N ? in[threadIdx.x] : 0.0f;
    const float all = k_block_sum(x, room), most = k_warp_max(x);
    if (threadIdx.x < N)
        out[threadIdx.x] = in[N - 1 - threadIdx.x] + (all == 64.0f * 65 / 2 ? 0.0f : 1.0f) +
                           (threadIdx.x >= 32 && most != 64.0f);
}

/* ---- the cases ----------------------------------------------------------------------------------------- */
static int turned(const buffers &b)
{
    for (int i = 0; i < N; i++) {
        if (!(b.out[i] == b.in[N - 1 - i])) return EMU_WRONG;
    }
    return 0;
}
#define RUN(kernel, ...) (k_launch((b2_queue *)nullptr, kernel, 1, N, 0, __VA_ARGS__), turned(b))

static int run_product(const buffers &, bool right)
{
    bf16 *a = (bf16 *)emu_malloc(512), *b = (bf16 *)emu_malloc(512);
    float *c = (float *)emu_malloc(1024);
    for (int i = 0; i < 256; i++) {
        a[i] = __float2bfloat16_rn((float)((i * 7) % 13 - 6));
        b[i] = __float2bfloat16_rn((float)((i * 5) % 11 - 5));
    }
    if (right)
        k_launch((b2_queue *)nullptr, product<true>, 1, 32, 0, c, a, b);
    else
        k_launch((b2_queue *)nullptr, product<false>, 1, 32, 0, c, a, b);
    int wrong = 0;
    for (int i = 0; i < 256; i++) {
        float want = 0;
        for (int k = 0; k < 16; k++)
            want += __bfloat162float(a[i / 16 * 16 + k]) * __bfloat162float(b[k * 16 + i % 16]);
        wrong += c[i] != want;
    }
    free(a);
    free(b);
    free(c);
    return wrong ? EMU_WRONG : 0;
}

static int run_two_products(const buffers &, bool right)
{
    bf16 *a = (bf16 *)emu_malloc(512), *b = (bf16 *)emu_malloc(512);
    float *c = (float *)emu_malloc(1024), p[16][16];
    int wrong = 0;
    for (int i = 0; i < 256; i++) {
        a[i] = __float2bfloat16_rn((float)((i * 7) % 5 - 2));
        b[i] = __float2bfloat16_rn((float)((i * 5) % 11 - 5));
    }
    if (right)
        k_launch((b2_queue *)nullptr, product_of_product<false>, 1, 32, 0, c, a, b);
    else
        k_launch((b2_queue *)nullptr, product_of_product<true>, 1, 32, 0, c, a, b);
    for (int i = 0; i < 256; i++) {
        p[i / 16][i % 16] = 0;
        for (int k = 0; k < 16; k++)
            p[i / 16][i % 16] += __bfloat162float(a[i / 16 * 16 + k]) * __bfloat162float(a[i % 16 * 16 + k]);
    }
    for (int i = 0; i < 128; i++) {
        float want = 0;
        for (int k = 0; k < 16; k++) want += p[i / 8][k] * __bfloat162float(b[k * 16 + i % 8]);
        wrong += c[i / 8 * 16 + i % 8] != want;
    }
    free(a);
    free(b);
    free(c);
    return wrong ? EMU_WRONG : 0;
}

enum schedules { FORWARD = 1, REVERSE = 2, RANDOM = 4, GREEDY = 8, ALL = 15, ASAN = 16, RACE = 32 };
/* expected: how the process ends in the schedules of `in`; elsewhere it may end as it likes. ASAN: only
 * under AddressSanitizer. RACE: ThreadSanitizer finds it. */
struct fault {
    const char *name;
    int expected, in;
    int (*run)(const buffers &b);
};
#define GOOD(name, call)                                                                                     \
    {                                                                                                        \
        name, 0, ALL, [](const buffers &b) { return call; }                                                  \
    }
#define BAD(name, expected, in, call)                                                                        \
    {                                                                                                        \
        name, expected, in, [](const buffers &b) { return call; }                                            \
    }

static const fault faults[] = {
    GOOD("barrier", RUN(turn<false>, b.out, b.in)),
    BAD("no barrier", EMU_WRONG, ALL | RACE, RUN(turn<true>, b.out, b.in)),
    GOOD("two barriers", RUN(turn_twice<false>, b.out, b.in)),
    BAD("no second barrier", EMU_WRONG, ALL | RACE, RUN(turn_twice<true>, b.out, b.in)),
    GOOD("a scalar, and a barrier", RUN(scalar_from_one<false>, b.out, b.in)),
    BAD("a scalar without barrier", EMU_WRONG, REVERSE | RACE, RUN(scalar_from_one<true>, b.out, b.in)),
    GOOD("__syncwarp", RUN(turn_in_warp<false>, b.out, b.in)),
    BAD("no __syncwarp", EMU_WRONG, ALL | RACE, RUN(turn_in_warp<true>, b.out, b.in)),
    GOOD("asynchronous copy", RUN(copied<false>, b.out, b.in)),
    BAD("copy not waited for", EMU_WRONG, FORWARD | REVERSE | RANDOM | RACE, RUN(copied<true>, b.out, b.in)),
    GOOD("waits for its group", RUN(waits_for_too_few<false>, b.out, b.in)),
    BAD("waits for too few groups", EMU_WRONG, FORWARD | REVERSE | RANDOM | RACE,
        RUN(waits_for_too_few<true>, b.out, b.in)),
    GOOD("stage left alone", RUN(overwrites_stage<false>, b.out, b.in)),
    BAD("stage overwritten while it is read", EMU_WRONG, GREEDY | RACE,
        RUN(overwrites_stage<true>, b.out, b.in)),
    BAD("full mask in half a warp", EMU_DEADLOCK, ALL, RUN(full_mask_in_half, b.out, b.in)),
    BAD("a lane that is not in its mask", EMU_ERROR, ALL, RUN(not_in_mask, b.out, b.in)),
    BAD("barrier in both branches", EMU_ERROR, ALL, RUN(two_barriers, b.out, b.in)),
    BAD("return before a barrier", EMU_ERROR, ALL, RUN(returns_early, b.out, b.in)),
    GOOD("within static shared memory", RUN(past_static<0>, b.out, b.in)),
    BAD("one past static shared memory", EMU_SANITIZER, ALL | ASAN, RUN(past_static<1>, b.out, b.in)),
    GOOD("within dynamic shared memory",
         (k_launch((b2_queue *)nullptr, past_dynamic<0>, 1, N, 4 * N, b.out, b.in), turned(b))),
    BAD("one past dynamic shared memory", EMU_SANITIZER, ALL | ASAN,
        (k_launch((b2_queue *)nullptr, past_dynamic<1>, 1, N, 4 * N, b.out, b.in), turned(b))),
    BAD("one past global memory", EMU_SANITIZER, ALL | ASAN, RUN(past_global<1>, b.out, b.in)),
    GOOD("aligned vectors", RUN(misaligned<0>, b.out, b.in)),
    BAD("misaligned vectors", EMU_SANITIZER, ALL | ASAN, RUN(misaligned<1>, b.out, b.in)),
    GOOD("initialised", RUN(uninitialised<false>, b.out, b.in)),
    BAD("uninitialised shared memory", EMU_WRONG, ALL, RUN(uninitialised<true>, b.out, b.in)),
    BAD("copy from a misaligned address", EMU_ERROR, ALL, RUN(copy_misaligned, b.out, b.in)),
    BAD("copy left behind", EMU_ERROR, ALL, RUN(copy_left, b.out, b.in)),
    BAD("waits for another block", EMU_SPINNING, FORWARD | RACE,
        (k_launch((b2_queue *)nullptr, spins, 2, 1, 0, b.whole), 0)),
    BAD("a count shared by blocks", 0, ALL | RACE,
        (k_launch((b2_queue *)nullptr, counts, 2, 1, 0, b.whole), 0)),
    BAD("matrix operation of half a warp", EMU_ERROR, ALL, RUN(half_a_warp_of_mma, b.out)),
    BAD("shuffle meets ballot", EMU_ERROR, ALL, RUN(different_operations, b.out, b.in)),
    BAD("width that is no power of two", EMU_ERROR, ALL, RUN(odd_width, b.out, b.in)),
    BAD("shuffle from a lane that is not there", EMU_WRONG, ALL,
        (k_launch((b2_queue *)nullptr, lane_not_there<true>, 1, 40, 0, b.out, b.in), turned(b))),
    BAD("too much static shared memory", EMU_ERROR, ALL, RUN(large_shared, b.out)),
    BAD("too many threads", EMU_ERROR, ALL, (k_launch((b2_queue *)nullptr, nothing, 1, 1025, 0, b.out), 0)),
    BAD("too much dynamic shared memory", EMU_ERROR, ALL,
        (k_launch((b2_queue *)nullptr, nothing, 1, 1, 300 << 10, b.out), 0)),
    BAD("a launch inside a kernel", EMU_ERROR, ALL, RUN(launches, b.out)),
    GOOD("tensor cores", run_product(b, true)),
    BAD("ldmatrix not turned", EMU_WRONG, ALL, run_product(b, false)),
    GOOD("a product's sums as an operand", run_two_products(b, true)),
    BAD("an operand's quarters exchanged", EMU_WRONG, ALL, run_two_products(b, false)),
    GOOD("sums of a block", (k_launch((b2_queue *)nullptr, sums, 1, 96, 0, b.out, b.in), turned(b))),
};

static int run_case(const fault &f, int schedule)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        emu_watchdog = 1;
        emu_schedule(schedule == REVERSE  ? EMU_REVERSE
                     : schedule == RANDOM ? EMU_RANDOM
                                          : EMU_FORWARD,
                     7, schedule == GREEDY, schedule != GREEDY);
        buffers b = {(float *)emu_malloc(4 * N), (float *)emu_malloc(4 * N), (int *)emu_malloc(16)};
        for (int i = 0; i < N; i++) b.in[i] = (float)(i + 1);
        memset(b.whole, 0, 16);
        _exit(f.run(b));
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main()
{
    static const char *const name[] = {"forward", "reverse", "random", "greedy"};
    int passed = 0, failed = 0, skipped = 0;
    for (const fault &f : faults) {
        if ((f.in & ASAN) && !UNDER_ASAN) {
            printf("skipped \"%s\": it takes AddressSanitizer\n", f.name);
            skipped++;
            continue;
        }
        bool right = true;
        const bool race = UNDER_TSAN && (f.in & RACE);
        const int expected = race ? EMU_RACE : f.expected;
        for (int s = 0; s < 4; s++) {
            const int code = f.in >> s & 1 ? run_case(f, 1 << s) : expected;
            if (code != expected)
                printf("FAILED \"%s\", %s: ended with %d, expected %d\n", f.name, name[s], code, expected);
            right = right && code == expected;
        }
        passed += right;
        failed += !right;
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
