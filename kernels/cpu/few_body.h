/* Products for few rows; body of few_<isa>.c. Sums run along k in as many lanes as a vector has, then over
 * the lanes. bf16 weights are widened in registers, exactly, even and odd elements apart: x comes in the
 * same order. With FEW_PAIRS x is bf16 too, as it lies, and pairs are multiplied and added by one
 * instruction. */
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/sweep.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TASK_ROWS = 32, /* weight rows of a task */
    AHEAD = 1024    /* bytes that weights are asked for in advance */
};

typedef vf sums[4][B2_FEW_ROWS]; /* [weight row][row of x] */

#ifdef FEW_PAIRS
INLINE void step(const int rows, const int m, const b2_dtype wf, sums acc, const b2_few *f, const char *w,
                 ptrdiff_t c, const int n)
{
    vi v[4];
    (void)wf;
    for (int r = 0; r < rows; r++) {
        const uint16_t *p = (const uint16_t *)(const void *)w + r * (ptrdiff_t)f->k + c;
        v[r] = n == 2 * VL ? vraw_load(p) : vraw_loadm(p, n);
    }
    for (int i = 0; i < m; i++) {
        const uint16_t *p = f->pairs + i * (ptrdiff_t)f->k + c;
        const vi x = n == 2 * VL ? vraw_load(p) : vraw_loadm(p, n);
        for (int r = 0; r < rows; r++) acc[r][i] = FEW_PAIRS(acc[r][i], v[r], x);
    }
}
#else
/* Block of 2*VL of x against the same of `rows` weight rows. */
INLINE void step_bf16(const int rows, const int m, sums acc, const b2_few *f, const uint16_t *w, ptrdiff_t c,
                      const int n)
{
    const ptrdiff_t ldx = (ptrdiff_t)b2_few_room(1, f->k);
    vf even[4], odd[4];
    for (int r = 0; r < rows; r++) {
        const uint16_t *p = w + r * (ptrdiff_t)f->k + c;
        const vi raw = n == 2 * VL ? vraw_load(p) : vraw_loadm(p, n);
        even[r] = vraw_even(raw), odd[r] = vraw_odd(raw);
    }
    for (int i = 0; i < m; i++) {
        const vf a = vload(f->x + i * ldx + c), b = vload(f->x + i * ldx + c + VL);
        for (int r = 0; r < rows; r++) acc[r][i] = vfma(odd[r], b, vfma(even[r], a, acc[r][i]));
    }
}

/* The same of VL of them. */
INLINE void step_f32(const int rows, const int m, sums acc, const b2_few *f, const float *w, ptrdiff_t c,
                     const int n)
{
    const ptrdiff_t ldx = (ptrdiff_t)b2_few_room(1, f->k);
    vf v[4];
    for (int r = 0; r < rows; r++) {
        const float *p = w + r * (ptrdiff_t)f->k + c;
        v[r] = n == VL ? vload(p) : vloadm(p, vtail(n));
    }
    for (int i = 0; i < m; i++) {
        const vf a = vload(f->x + i * ldx + c);
        for (int r = 0; r < rows; r++) acc[r][i] = vfma(v[r], a, acc[r][i]);
    }
}

INLINE void step(const int rows, const int m, const b2_dtype wf, sums acc, const b2_few *f, const char *w,
                 ptrdiff_t c, const int n)
{
    if (wf == B2_BF16)
        step_bf16(rows, m, acc, f, (const uint16_t *)(const void *)w, c, n);
    else
        step_f32(rows, m, acc, f, (const float *)(const void *)w, c, n);
}
#endif

INLINE void dots(const int rows, const int m, const b2_dtype wf, const b2_few *f, const char *w, float *y,
                 const float *bias)
{
    const int k = f->k, block = wf == B2_BF16 ? 2 * VL : VL;
    sums acc;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < m; i++) acc[r][i] = vzero();
    int c = 0;
    for (; c + block <= k; c += block) {
        for (int r = 0; r < rows; r++)
            _mm_prefetch(w + ((size_t)r * (size_t)k + (size_t)c) * b2_dtype_size(wf) + AHEAD, _MM_HINT_T0);
        step(rows, m, wf, acc, f, w, c, block);
    }
    if (c < k) step(rows, m, wf, acc, f, w, c, k - c);
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
