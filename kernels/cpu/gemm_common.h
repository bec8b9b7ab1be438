/* What the GEMM bodies share: one job's description, and its cuts. Included after a simd header. */
#ifndef B2_KERNELS_CPU_GEMM_COMMON_H
#define B2_KERNELS_CPU_GEMM_COMMON_H
#include "kernels/act.h"
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/sweep.h"
#include "kernels/cpu/tile.h"

enum {
    KC = 256,         /* length of the pieces of k: a panel's piece stays in the second-level cache */
    GROUP = 48,       /* weight rows of a task with many outputs; activation rows of one with few */
    SMALL = 1 << 18,  /* weights up to this size are packed, if B2_SMALL_ROWS rows share them */
    ROUND_COLS = 192, /* columns of sums that wait to be rounded; whole panels */
    /* floats of a thread: a piece of x, dy or weights; then such sums */
    LOCAL_ROOM = GROUP * (KC + (B2_ACT == 0 ? 0 : ROUND_COLS))
};

/* Everything that a task of any driver reads. */
typedef struct gemm {
    b2_out y;      /* a forward product's output, or dx */
    float *dw;     /* dense */
    const void *x; /* dense */
    b2_in dy;
    const b2_rows *w;
    int nw, m, n, k; /* n: outputs of all blocks */
    b2_dtype wf, xf;
    bool pairs; /* dx: pairs of bf16 pass for floats: neighbours in dy, rows of w that follow each other */
    float alpha, beta;
    float *packed, *local; /* shared panels; then `each` floats for each thread */
    size_t each;
} gemm;

static inline bool packs_weights(int m, int n, int k)
{
    return m >= B2_SMALL_ROWS && (size_t)n * (size_t)k <= SMALL;
}

static inline int outputs(const b2_rows *w, int nw)
{
    int n = 0;
    for (int i = 0; i < nw; i++) n += w[i].n;
    return n;
}

/* The block that part `i` is in, when every block is cut in parts of `step` rows; i becomes the part
 * within it, *at the block's first output. */
static inline const b2_rows *find_part(const gemm *g, int step, int *i, int *at)
{
    const b2_rows *w = g->w;
    *at = 0;
    for (; *i >= b2_cuts(w->n, step); w++) {
        *i -= b2_cuts(w->n, step);
        *at += w->n;
    }
    return w;
}

static inline int count_parts(const gemm *g, int step)
{
    int parts = 0;
    for (int i = 0; i < g->nw; i++) parts += b2_cuts(g->w[i].n, step);
    return parts;
}

static inline const char *weight_row(const gemm *g, const b2_rows *w, int row)
{
    return (const char *)w->w + (size_t)row * b2_row_bytes(g->wf, g->k);
}

static inline size_t weight_stride(const gemm *g) { return b2_row_bytes(g->wf, g->k); }

/* A piece of k; an empty sum has one empty piece. */
static inline int pieces(int k) { return k > KC ? b2_cuts(k, KC) : 1; }

/* Rows i0.. of x from column k0 on, as f32: where they lie, or widened into `local`; *ld their distance. */
static inline const float *rows_f32(const b2_in *x, int i0, int rows, int k0, int len, float *local,
                                    ptrdiff_t *ld)
{
    const size_t at = (size_t)i0 * (size_t)x->ld + (size_t)k0;
    if (B2_ACT == 0 || x->type == B2_F32) {
        *ld = x->ld;
        return (const float *)x->p + at;
    }
    const uint16_t *from = (const uint16_t *)x->p + at;
    for (int r = 0; r < rows; r++, from += x->ld) {
        for (int c = 0; c < len; c += 32)
            _mm_prefetch((const char *)(from + PACK_AHEAD * x->ld + c), _MM_HINT_T0);
        widen_rows(local + r * KC, KC, from, 0, 1, len);
    }
    *ld = KC;
    return local;
}

/* Are sums to be rounded? */
static inline bool rounds(const b2_out *y) { return B2_ACT != 0 && y->type != B2_F32; }

/* n columns from c0 on of `rows` rows of y from i0 on become the sums, lds floats a row, rounded. */
static inline void round_sums(const b2_out *y, int i0, int rows, int c0, int n, const float *sums, int lds)
{
    for (int r = 0; r < rows; r++, sums += lds) {
        act_t *to = b2_out_at(y, i0 + r, c0);
        SWEEP(n, aput(to + i, vget(sums + i, len), len));
    }
}
#endif
