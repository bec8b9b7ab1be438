/* Products of few bf16 rows with quantised weights; body of few_quant_<isa>.c, which defines
 * QUANT_DOT(acc, a, b): acc plus the products of 16-bit pairs. Integers meet integers, 64 columns at a
 * time, and only their sum becomes a float: reading the weights is all that takes time. The sum of a row
 * runs along its groups in order, whatever m is. */
#include "base/half.h"
#include "kernels/cpu/cpu_tiers.h"
#include "kernels/cpu/gemm_few.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TASK_ROWS = 32,
    GROUP_COLUMNS = 64,
    TOGETHER = 4,      /* rows of x whose sums the registers hold together */
    PARTS = 4,         /* vectors of 16 columns in a group */
    RUN_BYTES = 16384, /* of x in the first-level cache */
    AHEAD = 2048
};

INLINE void widen(const b2_dtype wf, __m256i w[PARTS], const char *p)
{
    if (wf == B2_I8) {
        for (int j = 0; j < PARTS; j++)
            w[j] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * j)));
        return;
    }
    const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    w[0] = _mm256_srai_epi16(_mm256_slli_epi16(v, 12), 12);
    w[1] = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 12);
    w[2] = _mm256_srai_epi16(_mm256_slli_epi16(v, 4), 12);
    w[3] = _mm256_srai_epi16(v, 12);
}

/* total[i] += the products of a group with row i of m rows of x, times `scale`. */
INLINE void add_group(const int m, const b2_dtype wf, const char *p, const int16_t *x, const float *step,
                      float scale, __m256 *total)
{
    __m256i w[PARTS];
    widen(wf, w, p);
    for (int i = 0; i < m; i++, x += GROUP_COLUMNS) {
        __m256i acc = _mm256_setzero_si256();
        for (int j = 0; j < PARTS; j++)
            acc = QUANT_DOT(acc, w[j], _mm256_loadu_si256((const __m256i *)(const void *)(x + 16 * j)));
        total[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), _mm256_set1_ps(step[i] * scale), total[i]);
    }
}

INLINE float scale_at(const b2_dtype wf, const char *scales, int g)
{
    b2_bf16 s;
    if (wf == B2_I8) return 1; /* one for the whole row */
    memcpy(&s, scales + (size_t)g * sizeof s, sizeof s);
    return b2_bf16_to_f32(s);
}

/* A stretch of a weight row: groups g0..g1-1, against rows i.. of x. */
typedef struct stretch {
    const b2_few *f;
    const char *row, *scales;
    int g0, g1, i;
} stretch;

INLINE void add_groups(const int m, const b2_dtype wf, const stretch *s, __m256 *total)
{
    const b2_few *f = s->f;
    const int whole = f->k / GROUP_COLUMNS, g1 = s->g1 < whole ? s->g1 : whole;
    const size_t size = b2_row_bytes(wf, GROUP_COLUMNS), skip = (size_t)f->m * GROUP_COLUMNS;
    const int16_t *x = b2_few_fixed(f) + (size_t)s->g0 * skip + (size_t)s->i * GROUP_COLUMNS;
    const float *step = (const float *)f->x + (size_t)s->g0 * (size_t)f->m + s->i;
    const char *p = s->row + (size_t)s->g0 * size;
    __m256 t[TOGETHER];
    for (int i = 0; i < m; i++) t[i] = total[i];
    for (int g = s->g0; g < g1; g++, p += size, x += skip, step += f->m) {
        _mm_prefetch(p + AHEAD, _MM_HINT_T0);
        add_group(m, wf, p, x, step, scale_at(wf, s->scales, g), t);
    }
    if (g1 < s->g1) { /* int8: columns behind the last whole group */
        char some[GROUP_COLUMNS] = {0};
        memcpy(some, p, (size_t)(f->k % GROUP_COLUMNS));
        add_group(m, wf, some, x, step, 1, t);
    }
    for (int i = 0; i < m; i++) total[i] = t[i];
}

#define STRETCH_FN(m)                                                                                        \
    static void stretch_##m(const stretch *s, __m256 *total)                                                 \
    {                                                                                                        \
        if (s->f->wf == B2_I8)                                                                               \
            add_groups(m, B2_I8, s, total);                                                                  \
        else                                                                                                 \
            add_groups(m, B2_I4, s, total);                                                                  \
    }
STRETCH_FN(1)
STRETCH_FN(2)
STRETCH_FN(3)
STRETCH_FN(4)

static void add_stretch(stretch s, __m256 *total)
{
    static void (*const by_m[])(const stretch *, __m256 *) = {stretch_1, stretch_2, stretch_3, stretch_4};
    for (; s.i < s.f->m; s.i += TOGETHER) by_m[b2_cut(s.f->m, TOGETHER, s.i / TOGETHER) - 1](&s, total + s.i);
}

static void put(const b2_few *f, const b2_rows *w, int at, int o, const __m256 *total)
{
    float scale = f->alpha, own;
    if (f->wf == B2_I8) {
        memcpy(&own, (const char *)w->scale + (size_t)o * sizeof own, sizeof own);
        scale *= own;
    }
    for (int i = 0; i < f->m; i++)
        b2_put_one(&f->y, i, at + o, scale * vsum(total[i]), f->beta, w->bias ? w->bias + o : NULL);
}

static void quant_task(void *ctx, int64_t chunk, int worker)
{
    const b2_few *f = ctx;
    int part = (int)chunk, at;
    const b2_rows *w = b2_few_part(f, TASK_ROWS, &part, &at);
    (void)worker;
    const int o0 = part * TASK_ROWS, outs = b2_cut(w->n, TASK_ROWS, part), groups = b2_few_groups(f->k);
    const int run = RUN_BYTES / (GROUP_COLUMNS * 2 * f->m);
    const size_t stride = b2_row_bytes(f->wf, f->k), scales = b2_scale_bytes(f->wf, f->k);
    __m256 total[TASK_ROWS][B2_FEW_ROWS];
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < f->m; i++) total[o][i] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g += run)
        for (int o = 0; o < outs; o++) {
            const char *row = (const char *)w->w + (size_t)(o0 + o) * stride;
            const char *scale = (const char *)w->scale + (size_t)(o0 + o) * scales;
            const stretch s = {f, row, scale, g, g + run < groups ? g + run : groups, 0};
            add_stretch(s, total[o]);
        }
    for (int o = 0; o < outs; o++) put(f, w, at, o0 + o, total[o]);
}

void ISA_FN(few_quant)(b2_queue *q, const b2_few *f)
{
    int64_t parts = 0;
    b2_few g = *f;
    for (int i = 0; i < f->nw; i++) parts += b2_cuts(f->w[i].n, TASK_ROWS);
    b2_pool_run(q->pool, parts, quant_task, &g);
}
