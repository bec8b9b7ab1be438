/* Products for few rows; body of few_<isa>.c. Sums run along k in as many lanes as a vector has, then over
 * the lanes. Weights are widened in registers, exactly. With FEW_PAIRS x is bf16 too, and pairs are
 * multiplied and added by one instruction. */
#include <string.h>
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/sweep.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TASK_ROWS = 64, /* weight rows of a task */
    STEP = 2 * VL   /* elements of a weight row that are taken together */
};

#ifdef FEW_PAIRS
#define FEW_X_SIZE 2
#else
#define FEW_X_SIZE 4
#endif

typedef vf sums[4][B2_FEW_ROWS]; /* [weight row][row of x] */

/* STEP elements of `rows` weight rows from p on, n of them there, against those of m rows of x. */
#ifdef FEW_PAIRS
INLINE void step(const int rows, const int m, const b2_dtype wf, sums acc, const char *p, size_t stride,
                 const void *x, const int n)
{
    const uint16_t *pairs = x;
    vi v[4];
    (void)wf;
    for (int r = 0; r < rows; r++) {
        const uint16_t *row = (const uint16_t *)(const void *)(p + r * stride);
        v[r] = n == STEP ? vraw_load(row) : vraw_loadm(row, n);
    }
    for (int i = 0; i < m; i++) {
        const vi a = vraw_load(pairs + i * STEP);
        for (int r = 0; r < rows; r++) acc[r][i] = FEW_PAIRS(acc[r][i], v[r], a);
    }
}
#else
/* bf16: even and odd elements; f32: the first and second half. */
INLINE void load_step(const b2_dtype wf, const char *p, const int n, vf *first, vf *second)
{
    if (wf == B2_BF16) {
        const uint16_t *row = (const uint16_t *)(const void *)p;
        const vi raw = n == STEP ? vraw_load(row) : vraw_loadm(row, n);
        *first = vraw_even(raw), *second = vraw_odd(raw);
    } else {
        const float *row = (const float *)(const void *)p;
        *first = vget(row, n < VL ? n : VL);
        *second = n > VL ? vget(row + VL, n - VL) : vzero();
    }
}

INLINE void step(const int rows, const int m, const b2_dtype wf, sums acc, const char *p, size_t stride,
                 const void *x, const int n)
{
    const float *v = x;
    vf first[4], second[4];
    for (int r = 0; r < rows; r++) load_step(wf, p + r * stride, n, &first[r], &second[r]);
    for (int i = 0; i < m; i++) {
        const vf a = vload(v + i * STEP), b = vload(v + i * STEP + VL);
        for (int r = 0; r < rows; r++) acc[r][i] = vfma(second[r], b, vfma(first[r], a, acc[r][i]));
    }
}
#endif

/* The rows after these are asked for at the same time: what the memory has to do is known that early. */
INLINE void dots(const int rows, const int m, const b2_dtype wf, const b2_few *f, const char *w, float *y,
                 const float *bias)
{
    const size_t size = b2_dtype_size(wf), stride = (size_t)f->k * size,
                 block = (size_t)m * STEP * FEW_X_SIZE;
    const int together = STEP * size < 64 ? 2 : 1,
              bytes = STEP * (int)size * together; /* whole cache lines */
    const char *x = f->x;
    sums acc;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < m; i++) acc[r][i] = vzero();
    int c = 0;
    for (; c + together * STEP <= f->k; c += together * STEP) {
        const char *p = w + (size_t)c * size;
        for (int r = 0; r < rows; r++)
            for (int b = 0; b < bytes; b += 64) _mm_prefetch(p + (rows + r) * stride + b, _MM_HINT_T0);
        for (int s = 0; s < together; s++, x += block)
            step(rows, m, wf, acc, p + s * STEP * size, stride, x, STEP);
    }
    for (; c < f->k; c += STEP, x += block)
        if (c + STEP <= f->k)
            step(rows, m, wf, acc, w + (size_t)c * size, stride, x, STEP);
        else
            step(rows, m, wf, acc, w + (size_t)c * size, stride, x, f->k - c);
    for (int i = 0; i < m; i++)
        for (int r = 0; r < rows; r++) {
            float *p = y + (ptrdiff_t)i * f->ldy + r, v = f->alpha * vsum(acc[r][i]);
            if (f->beta != 0) v += f->beta * *p;
            *p = bias ? v + bias[r] : v;
        }
}

#define PER_M(m) ((m) <= 2 ? 4 : (m) <= 6 ? 2 : 1) /* weight rows side by side: what the registers hold */
#define ROWS_FN(m)                                                                                           \
    static void rows_##m(const b2_few *f, const char *w, float *y, const float *bias, int n)                 \
    {                                                                                                        \
        const size_t stride = (size_t)f->k * b2_dtype_size(f->wf);                                           \
        int o = 0;                                                                                           \
        for (; o + PER_M(m) <= n; o += PER_M(m))                                                             \
            if (f->wf == B2_BF16)                                                                            \
                dots(PER_M(m), m, B2_BF16, f, w + o * stride, y + o, bias ? bias + o : NULL);                \
            else                                                                                             \
                dots(PER_M(m), m, B2_F32, f, w + o * stride, y + o, bias ? bias + o : NULL);                 \
        for (; o < n; o++)                                                                                   \
            if (f->wf == B2_BF16)                                                                            \
                dots(1, m, B2_BF16, f, w + o * stride, y + o, bias ? bias + o : NULL);                       \
            else                                                                                             \
                dots(1, m, B2_F32, f, w + o * stride, y + o, bias ? bias + o : NULL);                        \
    }
ROWS_FN(1)
ROWS_FN(2)
ROWS_FN(3)
ROWS_FN(4)
ROWS_FN(5)
ROWS_FN(6)
ROWS_FN(7)
ROWS_FN(8)

static void few_task(void *ctx, int64_t chunk, int worker)
{
    static void (*const by_m[])(const b2_few *, const char *, float *, const float *,
                                int) = {rows_1, rows_2, rows_3, rows_4, rows_5, rows_6, rows_7, rows_8};
    const b2_few *f = ctx;
    const b2_rows *w = f->w;
    int part = (int)chunk, at = 0;
    (void)worker;
    for (; part >= b2_cuts(w->n, TASK_ROWS); w++) {
        part -= b2_cuts(w->n, TASK_ROWS);
        at += w->n;
    }
    const int o = part * TASK_ROWS;
    by_m[f->m - 1](f, (const char *)w->w + (size_t)o * (size_t)f->k * b2_dtype_size(f->wf), f->y + at + o,
                   w->bias ? w->bias + o : NULL, b2_cut(w->n, TASK_ROWS, part));
}

void ISA_FN(few)(b2_queue *q, const b2_few *f)
{
    int64_t parts = 0;
    for (int i = 0; i < f->nw; i++) parts += b2_cuts(f->w[i].n, TASK_ROWS);
    b2_pool_run(q->pool, parts, few_task, (void *)f);
}
