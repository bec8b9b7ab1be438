/* Products for few rows: each weight row is read once, at the speed of memory, and dotted with all of
 * them. */
#ifndef B2_KERNELS_CPU_GEMM_FEW_H
#define B2_KERNELS_CPU_GEMM_FEW_H
#include "kernels/kernels.h"

enum {
    B2_FEW_ROWS = 8,   /* the most rows that count as few */
    B2_SMALL_ROWS = 96 /* the fewest rows for which small weights are packed (gemm_common.h) */
};

typedef struct b2_few {
    float *y; /* [m, ldy] */
    int ldy, m, k;
    const void *x; /* prepared by the caller, see below */
    const b2_rows *w;
    int nw;
    b2_dtype wf;
    float alpha, beta;
    ptrdiff_t ahead; /* 0: set by b2_*_few */
} b2_few;

/* x lies as the weights are met: [k in steps of two vectors][m][step], zeros beyond k, in f32; the
 * elements of a step in order for f32 weights, the even ones first for bf16. Room for that, in floats. */
static inline size_t b2_few_room(int m, int k) { return (size_t)m * (((size_t)k + 31) & ~(size_t)31); }
/* y as gemm_w* define it. The sum of a row does not depend on the other rows or on m. */
void b2_avx2_few(b2_queue *q, const b2_few *f);
void b2_avx512_few(b2_queue *q, const b2_few *f);
/* bf16 weights only; x is bf16 and in order. */
void b2_avx512bf16_few(b2_queue *q, const b2_few *f);
#endif
