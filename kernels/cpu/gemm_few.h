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
    const float *x;        /* prepared, see below */
    const uint16_t *pairs; /* instead, for avx512bf16: bf16 rows [m, k] as they lie */
    const b2_rows *w;
    int nw;
    b2_dtype wf;
    float alpha, beta;
} b2_few;

/* x comes as f32 rows of b2_few_room(1, k) floats, zeros at the end; for bf16 weights every two vectors of
 * them have their even elements first. */
static inline size_t b2_few_room(int m, int k) { return (size_t)m * (((size_t)k + 31) & ~(size_t)31); }
/* y as gemm_w* define it. The sum of a row does not depend on the other rows or on m. */
void b2_avx2_few(b2_queue *q, const b2_few *f);
void b2_avx512_few(b2_queue *q, const b2_few *f);
void b2_avx512bf16_few(b2_queue *q, const b2_few *f); /* bf16 weights only */
#endif
