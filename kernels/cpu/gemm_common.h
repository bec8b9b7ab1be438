/* What the GEMM bodies share: one job's description, and its cuts. Included after a simd header. */
#ifndef B2_KERNELS_CPU_GEMM_COMMON_H
#define B2_KERNELS_CPU_GEMM_COMMON_H
#include "kernels/act.h"
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/tile.h"

enum {
    KC = 256,       /* length of the pieces of k: a panel's piece stays in the second-level cache */
    GROUP = 48,     /* weight rows of a task with many outputs; activation rows of one with few */
    SMALL = 1 << 18 /* weights up to this size are packed, if B2_SMALL_ROWS rows share them */
};

/* Everything that a task of any driver reads. */
typedef struct gemm {
    float *y; /* output */
    int ldy;
    const void *x; /* T */
    const float *dy;
    const b2_rows *w;
    int nw, m, n, k; /* n: outputs of all blocks */
    b2_dtype wf, xf;
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
#endif
