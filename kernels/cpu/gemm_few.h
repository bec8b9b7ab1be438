/* Products for few rows: each weight row is read once, at the speed of memory, and dotted with all of
 * them. */
#ifndef B2_KERNELS_CPU_GEMM_FEW_H
#define B2_KERNELS_CPU_GEMM_FEW_H
#include "base/half.h"
#include "kernels/cpu/cpu_tiers.h"

enum {
    B2_FEW_ROWS = 8,   /* the most rows that count as few */
    B2_SMALL_ROWS = 96 /* the fewest rows for which small weights are packed (gemm_common.h) */
};

typedef struct b2_few {
    b2_out y;
    int m, k;
    const void *x; /* prepared by the caller, see below */
    const b2_rows *w;
    int nw;
    b2_dtype wf;
    float alpha, beta;
    ptrdiff_t ahead; /* 0: set by b2_*_few */
} b2_few;

/* The block that part `*part` is in, when every block is cut in parts of `step` rows; *part becomes the
 * part within it, *at the block's first output. */
static inline const b2_rows *b2_few_part(const b2_few *f, int step, int *part, int *at)
{
    const b2_rows *w = f->w;
    *at = 0;
    for (int parts; parts = (w->n + step - 1) / step, *part >= parts; *at += w++->n) *part -= parts;
    return w;
}

/* Element (i, o) of y becomes beta*y + v + *bias; bias NULL: none. */
static inline void b2_put_one(const b2_out *y, int i, int o, float v, float beta, const float *bias)
{
    void *p = b2_out_at(y, i, o);
    if (beta != 0) v += beta * *(float *)p;
    if (bias) v += *bias;
    if (y->type == B2_F32)
        *(float *)p = v;
    else
        *(b2_bf16 *)p = b2_f32_to_bf16(v);
}

/* x lies as the weights are met: [k in steps of two vectors][m][step], zeros beyond k, in f32; the
 * elements of a step in order for f32 weights, the even ones first for bf16. Room for that, in floats. */
static inline size_t b2_few_room(int m, int k) { return (size_t)m * (((size_t)k + 63) & ~(size_t)63); }
/* y as gemm_w* define it. The sum of a row does not depend on the other rows or on m. */
void b2_avx2_few(b2_queue *q, const b2_few *f);
void b2_avx512_few(b2_queue *q, const b2_few *f);
/* bf16 weights only; x is bf16 and in order. */
void b2_avx512bf16_few(b2_queue *q, const b2_few *f);

/* Quantised weights and bf16 x, which is in 16 bits of fixed point: first the steps, powers of two, f32
 * [groups of 64 columns][m]; then [groups][m][64] numbers, zeros beyond k. b2_few_room holds both. */
static inline int b2_few_groups(int k) { return (k + 63) / 64; }
static inline int16_t *b2_few_fixed(const b2_few *f)
{
    return (int16_t *)(uintptr_t)((const float *)f->x + (size_t)b2_few_groups(f->k) * (size_t)f->m);
}
void b2_few_fix(const b2_few *f, const uint16_t *x, int row); /* fills f->x's share of one row, x its bf16 */
void b2_avx2_few_quant(b2_queue *q, const b2_few *f);
void b2_avx512bf16_few_quant(b2_queue *q, const b2_few *f); /* those CPUs have VNNI */
#endif
