/* The one inner loop of every dense product: C = beta*C + alpha * A B (+ bias), B packed, accumulated in
 * registers over the whole of k, in order: an element's bits depend on its row of A and its column of B
 * alone. */
#ifndef B2_KERNELS_CPU_TILE_H
#define B2_KERNELS_CPU_TILE_H
#include <stddef.h>

typedef struct b2_tile {
    const float *a; /* A(i,k) = a[i*rs + k*cs]; cs == 1 (rows) or rs == 1 (columns) */
    ptrdiff_t rs, cs;
    const float *b; /* [k][columns rounded up to whole vectors], zeros beyond the columns */
    int k;
    float *c; /* C(i,j) = c[i*ldc + j] */
    ptrdiff_t ldc;
    float alpha, beta; /* beta 0 does not read c */
    const float *bias; /* one for each column, or NULL */
} b2_tile;

/* m rows (any number) and at most TILE_NV vectors of columns. The bf16 one takes pairs of bf16 for floats
 * in a and b, k and the strides counted in pairs. */
void b2_avx2_tile(int m, int n, const b2_tile *t);
void b2_avx512_tile(int m, int n, const b2_tile *t);
void b2_avx512bf16_tile(int m, int n, const b2_tile *t);
#endif
