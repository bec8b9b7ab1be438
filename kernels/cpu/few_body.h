/* Products for few rows; body of few_<isa>.c. Sums run along k in as many lanes as a vector has, then over the lanes. bf16
 * weights are widened in registers, exactly, even and odd elements apart: x comes in the same order. */
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/sweep.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TASK_ROWS = 32, /* weight rows of a task */
    AHEAD = 1024    /* bytes that weights are asked for in advance */
};

/* Block of 2*VL of x against the same of `rows` weight rows. */
INLINE void step_bf16(const int rows, const int m, vf acc[4][B2_FEW_ROWS], const uint16_t *w, ptrdiff_t ldw, const float *x,
                      ptrdiff_t ldx, const int n)
{
    vf even[4], odd[4];
    for (int r = 0; r < rows; r++) {
        const vi raw = n == 2 * VL ? vraw_load(w + r * ldw) : vraw_loadm(w + r * ldw, n);
        even[r] = vraw_even(raw), odd[r] = vraw_odd(raw);
    }
    for (int i = 0; i < m; i++) {
        const vf a = vload(x + i * ldx), b = vload(x + i * ldx + VL);
        for (int r = 0; r < rows; r++) acc[r][i] = vfma(odd[r], b, vfma(even[r], a, acc[r][i]));
    }
}

INLINE void step_f32(const int rows, const int m, vf acc[4][B2_FEW_ROWS], const float *w, ptrdiff_t ldw, const float *x,
                     ptrdiff_t ldx, const int n)
{
    vf v[4];
    for (int r = 0; r < rows; r++) v[r] = n == VL ? vload(w + r * ldw) : vloadm(w + r * ldw, vtail(n));
    for (int i = 0; i < m; i++) {
        const vf a = vload(x + i * ldx);
        for (int r = 0; r < rows; r++) acc[r][i] = vfma(v[r], a, acc[r][i]);
    }
}

INLINE void dots(const int rows, const int m, const b2_dtype wf, const b2_few *f, const void *w, float *y, const float *bias)
{
    const int k = f->k, step = wf == B2_BF16 ? 2 * VL : VL;
    const ptrdiff_t ldx = (ptrdiff_t)b2_few_room(1, k);
    vf acc[4][B2_FEW_ROWS];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < m; i++) acc[r][i] = vzero();
    int c = 0;
    for (; c + step <= k; c += step) {
        for (int r = 0; r < rows; r++)
            _mm_prefetch((const char *)w + ((size_t)r * (size_t)k + (size_t)c) * b2_dtype_size(wf) + AHEAD, _MM_HINT_T0);
        if (wf == B2_BF16) step_bf16(rows, m, acc, (const uint16_t *)w + c, k, f->x + c, ldx, 2 * VL);
        else step_f32(rows, m, acc, (const float *)w + c, k, f->x + c, ldx, VL);
    }
    if (c < k) {
        if (wf == B2_BF16) step_bf16(rows, m, acc, (const uint16_t *)w + c, k, f->x + c, ldx, k - c);
        else step_f32(rows, m, acc, (const float *)w + c, k, f->x + c, ldx, k - c);
    }
    for (int i = 0; i < m; i++)
        for (int r = 0; r < rows; r++) {
            float *p = y + (ptrdiff_t)i * f->ldy + r, v = f->alpha * vsum(acc[r][i]);
            if (f->beta != 0) v += f->beta * *p;
            *p = bias ? v + bias[r] : v;
        }
}

#define PER_M(m) ((m) <= 2 ? 4 : (m) <= 6 ? 2 : 1) /* weight rows side by side: what the registers hold */
#define ROWS_FN(m) \
    static void rows_##m(const b2_few *f, const char *w, float *y, const float *bias, int n) \
    { \
        const size_t stride = (size_t)f->k * b2_dtype_size(f->wf); \
        int o = 0; \
        for (; o + PER_M(m) <= n; o += PER_M(m)) \
            if (f->wf == B2_BF16) dots(PER_M(m), m, B2_BF16, f, w + o * stride, y + o, bias ? bias + o : NULL); \
            else dots(PER_M(m), m, B2_F32, f, w + o * stride, y + o, bias ? bias + o : NULL); \
        for (; o < n; o++) \
            if (f->wf == B2_BF16) dots(1, m, B2_BF16, f, w + o * stride, y + o, bias ? bias + o : NULL); \
            else dots(1, m, B2_F32, f, w + o * stride, y + o, bias ? bias + o : NULL); \
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
    static void (*const by_m[])(const b2_few *, const char *, float *, const float *, int) = {rows_1, rows_2, rows_3, rows_4,
                                                                                              rows_5, rows_6, rows_7, rows_8};
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
