/* Timing of the check tool: the same call as the checks make, medians and spread, and the machine's ceilings.
 */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SAMPLES      101
#define TARGET       0.15 /* seconds per case */
#define SAMPLE_LEAST 2e-5 /* seconds per sample, so that the clock does not matter */
#define COARSE                                                                                               \
    64 /* of the limit: errors are relative to the largest output here, not to each one's terms              \
        */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct timing {
    double median, spread; /* seconds; half the distance of the quartiles, relative */
} timing;

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double batch(const b2_kernels *k, b2_queue *q, const ck_call *call, void *ws, int times, int *turn)
{
    const double begin = seconds();
    for (int i = 0; i < times; i++) {
        if (call->turn) call->turn(call->args, (*turn)++);
        call->call(k, q, call->args, ws);
    }
    if (q->native && ck_cuda_wait(q)) exit(3);
    return (seconds() - begin) / times;
}

/* `first` is what one call took; slow calls make do with `least` samples, that one included. */
static timing measure(const b2_kernels *k, b2_queue *q, const ck_call *call, void *ws, double first,
                      int least)
{
    double s[SAMPLES];
    int n = 0, turn = 1;
    const int times = first > SAMPLE_LEAST ? 1 : 1 + (int)(SAMPLE_LEAST / (first + 1e-9));
    const double left = TARGET - first;
    if (left < 0) s[n++] = first;
    const double begin = seconds();
    while (n < SAMPLES && (n < least || seconds() - begin < left))
        s[n++] = batch(k, q, call, ws, times, &turn);
    qsort(s, (size_t)n, sizeof s[0], by_value);
    const double median = s[n / 2];
    return (timing){median, (s[n - 1 - n / 4] - s[n / 4]) / 2 / median};
}

static timing time_tier(ck *c, const ck_tier *t, const ck_call *call, double *error)
{
    const b2_kernels *k = &t->table[c->dtype];
    b2_pool *pool = c->pool[0];
    const size_t size = call->ws ? call->ws(k, call->args, b2_pool_threads(pool)) : 0;
    void *ws = ck_take(size + 64);
    memset(ws, 0, size);
    b2_queue q = ck_queue(c, t, pool);
    ck_where(c, t, call);
    ck_restore(c);
    int turn = 0;
    const double first = batch(k, &q, call, ws, 1, &turn);
    if (t == c->tier) {
        for (ck_buf *b = c->bufs; b; b = b->next) {
            if (b->output) b->ref = memcpy(malloc(b->bytes + 1), b->p, b->bytes);
        }
    }
    *error = ck_error(c, true);
    const timing r = measure(k, &q, call, ws, first, t == c->tier ? 1 : 3);
    ck_give(ws);
    return r;
}

/* The nearer ceiling. What is read faster than memory can deliver came out of a cache: no share then. */
static void print_rate(const ck *c, const ck_call *call, double s)
{
    const double gflops = call->flops / s * 1e-9, gbs = call->bytes / s * 1e-9;
    if (gflops / c->fma_gflops > gbs / c->read_gbs || (gflops > 0 && gbs > c->read_gbs)) {
        printf(" %8.1f GFLOP/s %4.0f%%", gflops, 100 * gflops / c->fma_gflops);
    } else if (gbs > c->read_gbs) {
        printf(" %8.1f GB/s   cache", gbs);
    } else {
        printf(" %8.1f GB/s    %4.0f%%", gbs, 100 * gbs / c->read_gbs);
    }
}

static void print_times(const ck *c, const ck_tier *t, const ck_call *call, timing r, double ref,
                        double below)
{
    printf("%-13s %-4s %-10s %-58s %10.4f ms +-%4.1f%%", c->check->name, c->dtype ? "bf16" : "f32", t->name,
           call->shape, 1e3 * r.median, 100 * r.spread);
    if (t == &c->tier[CK_CUDA]) { /* the ceilings are the CPU's */
        printf(" %8.1f GFLOP/s %8.1f GB/s", call->flops / r.median * 1e-9, call->bytes / r.median * 1e-9);
    } else {
        print_rate(c, call, r.median);
        if (t != c->tier) printf("  %6.1fx ref %5.2fx lower", ref / r.median, below / r.median);
    }
    if (c->json)
        fprintf(c->json,
                "{\"kernel\":\"%s\",\"table\":\"%s\",\"tier\":\"%s\",\"shape\":\"%s\",\"ms\":%.6g,\"spread\":"
                "%.3g,"
                "\"gflops\":%.6g,\"gbs\":%.6g}\n",
                c->check->name, c->dtype ? "bf16" : "f32", t->name, call->shape, 1e3 * r.median, r.spread,
                call->flops / r.median * 1e-9, call->bytes / r.median * 1e-9);
}

void ck_time(ck *c, const ck_call *call)
{
    double ref = 0, below = 0;
    for (int i = 0; i < CK_TIERS; i++) {
        ck_tier *t = &c->tier[i];
        if (!t->available || !ck_new_slot(c, i)) continue;
        if (i > 0 && !t->selected) continue;
        double error;
        const timing r = time_tier(c, t, call, &error);
        if (i == 0) ref = r.median;
        t->stat.cases++;
        const double strays = i == CK_CUDA && c->dtype == B2_BF16 ? call->strays : 0;
        const bool bad = !(error <= COARSE * c->check->limit[c->dtype] + strays);
        t->stat.failed += bad;
        if (t->selected) {
            print_times(c, t, call, r, ref, below);
            printf("%s\n", bad ? "  WRONG" : "");
            fflush(stdout);
        }
        below = r.median;
    }
}

/* ---- ceilings ------------------------------------------------------------------------------------------ */

#define PROBE_BYTES  ((size_t)256 << 20)
#define PROBE_CHUNKS 256
#define FMA_ROUNDS   200000

typedef struct probe {
    const uint64_t *data;
    uint64_t sum[PROBE_CHUNKS];
    float out[PROBE_CHUNKS];
    int width; /* floats in a vector of the FMA probe */
} probe;

static void read_chunk(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    probe *p = ctx;
    const size_t n = PROBE_BYTES / 8 / PROBE_CHUNKS;
    const uint64_t *x = p->data + (size_t)chunk * n;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < n; i += 8) {
        for (int j = 0; j < 8; j++) s[j] += x[i + (size_t)j];
    }
    for (int j = 0; j < 8; j++) p->sum[chunk] += s[j];
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
        const double begin = seconds();
        b2_pool_run(c->pool[0], chunks, fn, p);
        const double s = seconds() - begin;
        if (s < best) best = s;
    }
    return best;
}

void ck_probe(ck *c)
{
    probe *p = calloc(1, sizeof *p);
    uint64_t *data = malloc(PROBE_BYTES);
    if (!p || !data) exit(2);
    memset(data, 1, PROBE_BYTES);
    p->data = data;
    c->read_gbs = (double)PROBE_BYTES / best_of(c, p, PROBE_CHUNKS, read_chunk, 20) * 1e-9;
    const int threads = b2_pool_threads(c->pool[0]);
    const int widths[] = {1, 8, 16};
    const bool has[] = {true, b2_isa_available(B2_ISA_AVX2), b2_isa_available(B2_ISA_AVX512)};
    for (int i = 0; i < 3; i++) {
        if (!has[i]) continue;
        p->width = widths[i];
        const double flops = 2.0 * 10 * FMA_ROUNDS * widths[i] * threads;
        const double g = flops / best_of(c, p, threads, fma_chunk, 10) * 1e-9;
        if (g > c->fma_gflops) c->fma_gflops = g;
    }
    printf("%s, %d threads: reads %.1f GB/s, multiplies and adds %.1f GFLOP/s (f32)\n", b2_cpu_name(),
           threads, c->read_gbs, c->fma_gflops);
    free(data);
    free(p);
}
