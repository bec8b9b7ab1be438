/* Body of tile_<isa>.c. The file defines TILE_SPREAD(p), the vector that repeats *p, and TILE_MAC(a, b,
 * c), c + a*b. */
#include "kernels/cpu/cpu_tiers.h"
#include "kernels/cpu/tile.h"

#if TILE_MR == 8
#define TILE_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define TILE_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#endif
/* Named accumulators: an array of them would live in memory with some compilers. */
#define TILE_BEGIN(r)                                                                                        \
    vf c##r##0 = vzero(), c##r##1 = vzero(), c##r##2 = vzero();                                              \
    const float *a##r = t->a + (mr > r ? r : 0) * (col ? 1 : t->rs);
#define TILE_STEP(r)                                                                                         \
    if (mr > r) {                                                                                            \
        vf x = TILE_SPREAD(col ? a0 + r : a##r + k);                                                         \
        c##r##0 = TILE_MAC(x, b0, c##r##0);                                                                  \
        if (nv > 1) c##r##1 = TILE_MAC(x, b1, c##r##1);                                                      \
        if (nv > 2) c##r##2 = TILE_MAC(x, b2, c##r##2);                                                      \
    } else {                                                                                                 \
        (void)a##r;                                                                                          \
    }
#define TILE_END(r)                                                                                          \
    if (mr > r) put_row(nv, &e, c + r * ldc, c##r##0, c##r##1, c##r##2);
#define INLINE static inline __attribute__((always_inline))

/* How a tile ends, in registers. */
typedef struct ending {
    vf alpha, beta;
    vm last; /* lanes of the last vector */
    const float *bias;
    int adds, partial; /* beta != 0; the last vector is not whole */
} ending;

INLINE void put(const ending *e, float *c, int at, vf acc)
{
    acc = vmul(acc, e->alpha);
    if (e->adds) acc = vfma(e->beta, vload(c + at), acc);
    if (e->bias) acc = vadd(acc, vload(e->bias + at));
    vstore(c + at, acc);
}

INLINE void put_last(const ending *e, float *c, int at, vf acc)
{
    acc = vmul(acc, e->alpha);
    if (e->adds) acc = vfma(e->beta, vloadm(c + at, e->last), acc);
    if (e->bias) acc = vadd(acc, vloadm(e->bias + at, e->last));
    if (e->partial)
        vstorem(c + at, e->last, acc);
    else
        vstore(c + at, acc);
}

INLINE void put_row(const int nv, const ending *e, float *c, vf c0, vf c1, vf c2)
{
    if (nv > 1) put(e, c, 0, c0);
    if (nv > 2) put(e, c, VL, c1);
    put_last(e, c, (nv - 1) * VL, nv == 1 ? c0 : nv == 2 ? c1 : c2);
}

INLINE void tile(const int mr, const int nv, const int col, const b2_tile *t, int n)
{
    const float *b = t->b;
    const ptrdiff_t steps = t->k;
    TILE_ROWS(TILE_BEGIN)
    for (ptrdiff_t k = 0; k < steps; k++) {
        vf b0 = vload(b), b1 = nv > 1 ? vload(b + VL) : vzero(), b2 = nv > 2 ? vload(b + 2 * VL) : vzero();
        TILE_ROWS(TILE_STEP)
        b += nv * VL;
        if (col) a0 += t->cs;
    }
    const int rest = n - (nv - 1) * VL;
    const ending e = {vset1(t->alpha), vset1(t->beta), vtail(rest), t->bias, t->beta != 0, rest != VL};
    float *c = t->c;
    const ptrdiff_t ldc = t->ldc;
    TILE_ROWS(TILE_END)
}

INLINE void tile_nv(const int mr, const int col, const b2_tile *t, int n)
{
    if (TILE_NV > 2 && n > 2 * VL)
        tile(mr, 3, col, t, n);
    else if (n > VL)
        tile(mr, 2, col, t, n);
    else
        tile(mr, 1, col, t, n);
}

#define TILE_CASES(r)                                                                                        \
    static __attribute__((noinline)) void rows_##r(const b2_tile *t, int n) { tile_nv((r) + 1, 0, t, n); }   \
    static __attribute__((noinline)) void cols_##r(const b2_tile *t, int n) { tile_nv((r) + 1, 1, t, n); }
#define TILE_ROWS_FN(r) rows_##r,
#define TILE_COLS_FN(r) cols_##r,

TILE_ROWS(TILE_CASES)

void ISA_FN(tile)(int m, int n, const b2_tile *t)
{
    static void (*const by_rows[])(const b2_tile *, int) = {TILE_ROWS(TILE_ROWS_FN)};
    static void (*const by_cols[])(const b2_tile *, int) = {TILE_ROWS(TILE_COLS_FN)};
    b2_tile u = *t;
    const int col = t->cs != 1;
    for (int i = 0; i < m; i += TILE_MR) {
        const int mr = m - i < TILE_MR ? m - i : TILE_MR;
        (col ? by_cols[mr - 1] : by_rows[mr - 1])(&u, n);
        u.a += TILE_MR * t->rs;
        u.c += TILE_MR * t->ldc;
    }
}
