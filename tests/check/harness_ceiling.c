/* Ceilings of the check tool: what this CPU and this GPU can do at best, measured before all timing. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PROBE_CHUNKS 256
#define FMA_ROUNDS   200000

typedef struct probe {
    const uint64_t *data;
    uint64_t *to;
    size_t bytes;
    uint64_t sum[PROBE_CHUNKS];
    float out[PROBE_CHUNKS];
    int width; /* floats in a vector of the FMA probe */
} probe;

static void read_chunk(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    probe *p = ctx;
    const size_t n = p->bytes / 8 / PROBE_CHUNKS;
    const uint64_t *x = p->data + (size_t)chunk * n;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < n; i += 8) {
        for (int j = 0; j < 8; j++) s[j] += x[i + (size_t)j];
    }
    for (int j = 0; j < 8; j++) p->sum[chunk] += s[j];
}

static void copy_chunk(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    probe *p = ctx;
    const size_t n = p->bytes / 8 / PROBE_CHUNKS;
    memcpy(p->to + (size_t)chunk * n, p->data + (size_t)chunk * n, 8 * n);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float fma_avx2(void)
{
    __m256 a[10];
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
    for (int j = 0; j < 10; j++) a[j] = _mm256_set1_ps((float)j);
    for (int i = 0; i < FMA_ROUNDS; i++) {
#pragma GCC unroll 10
        for (int j = 0; j < 10; j++) a[j] = _mm256_fmadd_ps(a[j], x, y);
    }
    for (int j = 1; j < 10; j++) a[0] = _mm256_add_ps(a[0], a[j]);
    return _mm256_cvtss_f32(a[0]);
}

__attribute__((target("avx512f"))) static float fma_avx512(void)
{
    __m512 a[10];
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
    for (int j = 0; j < 10; j++) a[j] = _mm512_set1_ps((float)j);
    for (int i = 0; i < FMA_ROUNDS; i++) {
#pragma GCC unroll 10
        for (int j = 0; j < 10; j++) a[j] = _mm512_fmadd_ps(a[j], x, y);
    }
    for (int j = 1; j < 10; j++) a[0] = _mm512_add_ps(a[0], a[j]);
    return _mm512_cvtss_f32(a[0]);
}
#endif

static float fma_scalar(void)
{
    float a[10];
    for (int j = 0; j < 10; j++) a[j] = (float)j;
    for (int i = 0; i < FMA_ROUNDS; i++) {
        for (int j = 0; j < 10; j++) a[j] = a[j] * 0.999f + 0.001f;
    }
    for (int j = 1; j < 10; j++) a[0] += a[j];
    return a[0];
}

static void fma_chunk(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    probe *p = ctx;
#if defined(__x86_64__)
    if (p->width == 16)
        p->out[chunk] = fma_avx512();
    else if (p->width == 8)
        p->out[chunk] = fma_avx2();
    else
        p->out[chunk] = fma_scalar();
#else
    p->out[chunk] = fma_scalar();
#endif
}

static double best_of(ck *c, probe *p, int chunks, b2_chunk_fn fn, int tries)
{
    double best = INFINITY;
    for (int i = 0; i < tries; i++) {
        const double begin = ck_seconds();
        b2_pool_run(c->pool[0], chunks, fn, p);
        const double s = ck_seconds() - begin;
        if (s < best) best = s;
    }
    return best;
}

/* ---- a large product ----------------------------------------------------------------------------------- */

typedef struct square {
    ck_buf *x, *w, *y;
    int n;
} square;

static void call_square(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    square *s = args;
    const b2_rows rows = {s->w->p, NULL, s->n, NULL};
    const b2_out y = {s->y->p, s->n, B2_F32};
    (s->w->type == CK_BF16 ? k->gemm_wbf16 : k->gemm_wf32)(q, y, s->x->p, &rows, 1, s->n, s->n, 1, 0, ws);
}

static size_t ws_square(const b2_kernels *k, void *args, int threads)
{
    const int n = ((square *)args)->n;
    return k->gemm_ws(n, n, n, threads);
}

/* GFLOP/s of n x n x n by the tier's own kernel: on a GPU that asks cuBLASLt first, where it is at hand. */
static double product(ck *c, const ck_tier *t, int dtype, int n)
{
    static const ck_check check = {.name = "ceiling"};
    const int64_t cells = (int64_t)n * n;
    square s = {.n = n};
    ck_call call = {.args = &s, .call = call_square, .ws = ws_square};
    snprintf(call.shape, sizeof call.shape, "%d x %d x %d", n, n, n);
    c->check = &check;
    c->dtype = dtype;
    s.x = ck_in(c, CK_ACT, cells, 1);
    s.w = ck_in(c, CK_ACT, cells, 1);
    s.y = ck_out(c, CK_F32, n, n, n);
    const double seconds = ck_best(c, t, &call);
    ck_free(c);
    return 2.0 * n * (double)cells / seconds * 1e-9;
}

/* ---- what is printed first ----------------------------------------------------------------------------- */

static void say(ck *c, const ck_ceiling *top, const char *more, const double copy, const double gemm[2],
                const int n[2])
{
    printf("%s: copies %.1f GB/s%s, multiplies %d^3 %.1f GFLOP/s (f32), %d^3 %.1f (bf16)\n", top->device,
           copy, more, n[0], gemm[0], n[1], gemm[1]);
    if (!c->json) return;
    fprintf(c->json, "{\"ceilings\": true, ");
    ck_json_text(c->json, "device", top->device);
    fprintf(c->json, ", ");
    ck_json_text(c->json, "commit", c->commit);
    fprintf(c->json, ", \"copy_gbs\": %.6g, \"gemm_f32_gflops\": %.6g, \"gemm_bf16_gflops\": %.6g, ", copy,
            gemm[0], gemm[1]);
    fprintf(c->json, "\"memory_gbs\": %.6g, \"f32_gflops\": %.6g, \"bf16_gflops\": %.6g}\n", top->gbs,
            top->gflops[0], top->gflops[1]);
}

static double fma_rate(ck *c, probe *p)
{
    const int threads = b2_pool_threads(c->pool[0]), widths[] = {1, 8, 16};
    const bool has[] = {true, b2_isa_available(B2_ISA_AVX2), b2_isa_available(B2_ISA_AVX512)};
    double top = 0;
    for (int i = 0; i < 3; i++) {
        if (!has[i]) continue;
        p->width = widths[i];
        const double flops = 2.0 * 10 * FMA_ROUNDS * widths[i] * threads;
        top = fmax(top, flops / best_of(c, p, threads, fma_chunk, 10) * 1e-9);
    }
    return top;
}

/* Reading alone may be faster than copying, and multiply-adds than a product: the better ones count. */
static void cpu_ceiling(ck *c)
{
    ck_ceiling *top = &c->top[0];
    probe *p = calloc(1, sizeof *p);
    const size_t bytes = (size_t)(c->bench ? 256 : 8) << 20;
    uint64_t *data = malloc(2 * bytes);
    int best = B2_ISA_COUNT - 1;
    char more[96];
    if (!p || !data) exit(2);
    memset(data, 1, 2 * bytes);
    *p = (probe){.data = data, .to = data + bytes / 8, .bytes = bytes};
    const double read = (double)bytes / best_of(c, p, PROBE_CHUNKS, read_chunk, 20) * 1e-9;
    const double copy = 2 * (double)bytes / best_of(c, p, PROBE_CHUNKS, copy_chunk, 20) * 1e-9;
    const double fma = fma_rate(c, p);
    free(data);
    free(p);
    while (!c->tier[best].available) best--;
    const int n = c->bench ? best == B2_ISA_REF ? 512 : 2048 : 64;
    const double gemm[2] = {product(c, &c->tier[best], B2_F32, n), product(c, &c->tier[best], B2_BF16, n)};
    snprintf(top->device, sizeof top->device, "%s, %d threads", b2_cpu_name(), b2_pool_threads(c->pool[0]));
    top->gbs = fmax(read, copy);
    for (int i = 0; i < 2; i++) top->gflops[i] = fmax(fma, gemm[i]);
    snprintf(more, sizeof more, ", reads %.1f GB/s, multiply-adds %.1f GFLOP/s", read, fma);
    say(c, top, more, copy, gemm, (int[]){n, n});
}

static void gpu_ceiling(ck *c)
{
    ck_ceiling *top = &c->top[1];
    const ck_tier *t = &c->tier[CK_CUDA];
    const size_t bytes = c->bench ? (size_t)1 << 30 : (size_t)1 << 16;
    const int n[2] = {c->bench ? 4096 : 64, c->bench ? 8192 : 64};
    snprintf(top->device, sizeof top->device, "%s", ck_cuda_name());
    top->gbs = 2 * (double)bytes / ck_cuda_copy(bytes) * 1e-9;
    for (int i = 0; i < 2; i++) top->gflops[i] = product(c, t, i, n[i]);
    say(c, top, "", top->gbs, top->gflops, n);
}

/* Four times the last level that this CPU tells of. */
static void make_flush(ck *c)
{
    const long level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t least = (size_t)(c->bench ? 64 : 1) << 20, most = (size_t)1 << 30;
    c->flush_bytes = c->bench && level > 0 ? 4 * (size_t)level : least;
    if (c->flush_bytes < least) c->flush_bytes = least;
    if (c->flush_bytes > most) c->flush_bytes = most;
    c->flush = malloc(c->flush_bytes);
    if (!c->flush) exit(2);
}

void ck_ceilings(ck *c)
{
    bool cpu = false;
    for (int i = 0; i < B2_ISA_COUNT; i++) cpu = cpu || c->tier[i].selected;
    make_flush(c);
    if (c->profile) return;
    if (cpu) cpu_ceiling(c);
    if (c->tier[CK_CUDA].selected) gpu_ceiling(c);
    fflush(stdout);
}
