/* Products for few rows; body of few_<isa>.c. One weight row at a time, so that memory is read as one
 * stream, asked for ahead of time; its sum runs along k in two interleaved vectors, folded into one every
 * FOLD elements: in the same order for any number of rows. Weights are widened in registers, exactly. With
 * FEW_PAIRS x is bf16 too, and pairs are multiplied and added by one instruction. */
#include <string.h>
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/sweep.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TASK_ROWS = 32, /* weight rows of a task */
    STEP = 2 * VL,  /* elements that are taken together */
    FOLD = 512,
    TOGETHER = 4,      /* rows of x whose sums the registers hold together */
    RUN_BYTES = 16384, /* of x in the first-level cache */
    AHEAD = 4096       /* bytes; a row further where rows are not read to their end */
};

#ifdef FEW_PAIRS
#define FEW_X_SIZE 2
#else
#define FEW_X_SIZE 4
#endif

/* STEP elements of a weight row from p on, n of them there, against those of m rows of x. */
#ifdef FEW_PAIRS
INLINE void step(const int m, const b2_dtype wf, vf *acc, const char *p, const void *x, const int n)
{
    const uint16_t *row = (const uint16_t *)(const void *)p, *pairs = x;
    const vi v = n == STEP ? vraw_load(row) : vraw_loadm(row, n);
    (void)wf;
    for (int i = 0; i < m; i++) acc[i] = FEW_PAIRS(acc[i], v, vraw_load(pairs + i * STEP));
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

INLINE void step(const int m, const b2_dtype wf, vf *acc, const char *p, const void *x, const int n)
{
    const float *v = x;
    vf first, second;
    load_step(wf, p, n, &first, &second);
    for (int i = 0; i < m; i++)
        acc[i] = vfma(second, vload(v + i * STEP + VL), vfma(first, vload(v + i * STEP), acc[i]));
}
#endif

/* Adds the products of n <= FOLD elements of one weight row from p on with those of m rows of x to the
 * totals. */
INLINE void add_fold(const int m, const b2_dtype wf, const b2_few *f, const char *p, const char *x, int n,
                     vf *total)
{
    const size_t size = b2_dtype_size(wf), block = (size_t)f->m * STEP * FEW_X_SIZE;
    vf even[TOGETHER], odd[TOGETHER]; /* steps */
    for (int i = 0; i < m; i++) even[i] = odd[i] = vzero();
    for (; n >= 2 * STEP; n -= 2 * STEP, p += 2 * STEP * size, x += 2 * block) {
        for (size_t b = 0; b < 2 * STEP * size; b += 64) _mm_prefetch(p + f->ahead + b, _MM_HINT_T1);
        step(m, wf, even, p, x, STEP);
        step(m, wf, odd, p + STEP * size, x + block, STEP);
    }
    if (n >= STEP) {
        step(m, wf, even, p, x, STEP);
        if (n > STEP) step(m, wf, odd, p + STEP * size, x + block, n - STEP);
    } else if (n > 0) {
        step(m, wf, even, p, x, n);
    }
    for (int i = 0; i < m; i++) total[i] = vadd(total[i], vadd(even[i], odd[i]));
}

#define FOLD_FN(m)                                                                                           \
    static void fold_##m(const b2_few *f, const char *p, const char *x, int n, vf *total)                    \
    {                                                                                                        \
        if (f->wf == B2_BF16)                                                                                \
            add_fold(m, B2_BF16, f, p, x, n, total);                                                         \
        else                                                                                                 \
            add_fold(m, B2_F32, f, p, x, n, total);                                                          \
    }
FOLD_FN(1)
FOLD_FN(2)
FOLD_FN(3)
FOLD_FN(4)

/* n elements of a weight row from column c on, with all rows of x. */
static void add_piece(const b2_few *f, const char *row, int c, int n, vf *total)
{
    static void (*const by_m[])(const b2_few *, const char *, const char *, int, vf *) = {fold_1, fold_2,
                                                                                          fold_3, fold_4};
    const char *p = row + (size_t)c * b2_dtype_size(f->wf);
    const char *x = (const char *)f->x + (size_t)c * (size_t)f->m * FEW_X_SIZE;
    for (int i = 0; i < f->m; i += TOGETHER, x += TOGETHER * STEP * FEW_X_SIZE)
        by_m[b2_cut(f->m, TOGETHER, i / TOGETHER) - 1](f, p, x, n, total + i);
}

/* Columns of a row that are taken before the next row: x's share of them stays in the first-level cache,
 * and memory is read in long pieces. */
static int run_length(int m)
{
    const int folds = RUN_BYTES / (FOLD * 4 * m);
    return (folds > 0 ? folds : 1) * FOLD;
}

static void few_task(void *ctx, int64_t chunk, int worker)
{
    const b2_few *f = ctx;
    int part = (int)chunk, at;
    const b2_rows *w = b2_few_part(f, TASK_ROWS, &part, &at);
    (void)worker;
    const int o0 = part * TASK_ROWS, outs = b2_cut(w->n, TASK_ROWS, part), run = run_length(f->m);
    const size_t stride = (size_t)f->k * b2_dtype_size(f->wf);
    const char *rows = (const char *)w->w + (size_t)o0 * stride;
    vf total[TASK_ROWS][B2_FEW_ROWS];
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < f->m; i++) total[o][i] = vzero();
    for (int r = 0; r < f->k; r += run)
        for (int o = 0; o < outs; o++)
            for (int c = r; c < f->k && c < r + run; c += FOLD)
                add_piece(f, rows + o * stride, c, f->k - c < FOLD ? f->k - c : FOLD, total[o]);
    for (int i = 0; i < f->m; i++)
        for (int o = 0; o < outs; o++)
            b2_put_one(&f->y, i, at + o0 + o, f->alpha * vsum(total[o][i]), f->beta,
                       w->bias ? w->bias + o0 + o : NULL);
}

void ISA_FN(few)(b2_queue *q, const b2_few *f)
{
    int64_t parts = 0;
    for (int i = 0; i < f->nw; i++) parts += b2_cuts(f->w[i].n, TASK_ROWS);
    b2_few g = *f;
    const ptrdiff_t stride = (ptrdiff_t)f->k * (ptrdiff_t)b2_dtype_size(f->wf);
    g.ahead = run_length(f->m) < f->k ? stride : AHEAD;
    b2_pool_run(q->pool, parts, few_task, &g);
}
