/* Packing for the matrix tile, and the way back; included by the GEMM bodies after a simd header. Strides
 * are in bytes, formats as in b2_dtype: what is packed is always f32. */
#ifndef B2_KERNELS_CPU_GEMM_PACK_H
#define B2_KERNELS_CPU_GEMM_PACK_H
#include <string.h>
#include "kernels/cpu/cpu_tiers.h"

enum { NR = TILE_NV * VL }; /* columns of a whole panel */

/* Columns of a panel of n, rounded up to whole vectors. */
static inline int panel_width(int n) { return b2_cuts(n, VL) * VL; }

/* Floats in all panels of n columns for each row. */
static inline size_t panels_width(int n) { return (size_t)panel_width(n); }

static inline vf load_any(const char *p, b2_dtype f)
{
    return f == B2_F32 ? vload((const float *)(const void *)p) : vbf_load((const uint16_t *)(const void *)p);
}

static inline vf load_some(const char *p, b2_dtype f, int n)
{
    return f == B2_F32 ? vloadm((const float *)(const void *)p, vtail(n))
                       : vbf_loadm((const uint16_t *)(const void *)p, n);
}

/* dst[k*width + r] = row r's element k: n rows become the columns of a panel. */
static inline void pack_turned(float *dst, const char *src, size_t stride, b2_dtype f, int n, int k)
{
    const int width = panel_width(n);
    const size_t size = b2_dtype_size(f);
    for (int r0 = 0; r0 < width; r0 += VL) {
        const int rows = n - r0 < VL ? n - r0 : VL;
        for (int k0 = 0; k0 < k; k0 += VL) {
            const int len = k - k0 < VL ? k - k0 : VL;
            vf t[VL];
            for (int r = 0; r < VL; r++) {
                const char *p = src + (size_t)(r0 + r) * stride + (size_t)k0 * size;
                t[r] = r >= rows ? vzero() : len == VL ? load_any(p, f) : load_some(p, f, len);
            }
            vtranspose(t);
            for (int j = 0; j < len; j++) vstore(dst + (size_t)(k0 + j) * (size_t)width + r0, t[j]);
        }
    }
}

enum { PACK_AHEAD = 8 }; /* rows that copying asks for in advance */

/* n columns of k rows as they lie, in panels that are `panel` floats apart: element c of row i goes to
 * [c / NR][first + i][c % NR]. */
static inline void pack_straight_from(float *dst, size_t panel, int first, const char *src, size_t stride,
                                      b2_dtype f, int n, int k)
{
    const size_t size = b2_dtype_size(f);
    for (int i = 0; i < k; i++, src += stride) {
        for (size_t b = 0; b < (size_t)n * size; b += 64)
            _mm_prefetch(src + PACK_AHEAD * stride + b, _MM_HINT_T0);
        for (int c0 = 0; c0 < n; c0 += NR) {
            const int some = n - c0 < NR ? n - c0 : NR, width = panel_width(some);
            float *to = dst + (size_t)(c0 / NR) * panel + (size_t)(first + i) * (size_t)width;
            for (int c = 0; c < width; c += VL) {
                const char *p = src + (size_t)(c0 + c) * size;
                vstore(to + c, some - c >= VL ? load_any(p, f) : load_some(p, f, some - c));
            }
        }
    }
}

/* The same for k pairs of bf16 rows: element c of both, the first row's below, passes for a float. `stride`:
 * of a pair. */
static inline void pack_pairs_from(float *dst, size_t panel, int first, const char *src, size_t stride, int n,
                                   int k)
{
    for (int i = 0; i < k; i++, src += stride) {
        const char *even = src, *odd = src + stride / 2;
        for (size_t b = 0; b < (size_t)n * 2; b += 64) {
            _mm_prefetch(even + PACK_AHEAD / 2 * stride + b, _MM_HINT_T0);
            _mm_prefetch(odd + PACK_AHEAD / 2 * stride + b, _MM_HINT_T0);
        }
        for (int c0 = 0; c0 < n; c0 += NR) {
            const int some = n - c0 < NR ? n - c0 : NR, width = panel_width(some);
            float *to = dst + (size_t)(c0 / NR) * panel + (size_t)(first + i) * (size_t)width;
            for (int c = 0; c < width; c += VL) {
                const size_t at = (size_t)(c0 + c) * 2;
                const int len = some - c;
                const vf lo = len >= VL ? load_any(even + at, B2_BF16) : load_some(even + at, B2_BF16, len);
                const vf hi = len >= VL ? load_any(odd + at, B2_BF16) : load_some(odd + at, B2_BF16, len);
                vstore(to + c, vfrom_bits(vixor(visrl(vbits(lo), 16), vbits(hi))));
            }
        }
    }
}

/* Rows of bf16 to rows of f32, ld floats apart. */
static inline void widen_rows(float *dst, size_t ld, const uint16_t *src, size_t lds, int rows, int n)
{
    for (int r = 0; r < rows; r++, dst += ld, src += lds) {
        int c = 0;
        for (; c + VL <= n; c += VL) vstore(dst + c, vbf_load(src + c));
        if (c < n) vstorem(dst + c, vtail(n - c), vbf_loadm(src + c, n - c));
    }
}

/* n <= VL elements at p, of type f. */
static inline void store_some(void *p, b2_dtype f, vf v, int n)
{
    if (f == B2_F32 && n == VL)
        vstore(p, v);
    else if (f == B2_F32)
        vstorem(p, vtail(n), v);
    else if (n == VL)
        vbf_store(p, v);
    else
        vbf_storem(p, v, n);
}

/* Where a turned block goes, and how. */
typedef struct turned_end {
    b2_out y; /* from its first column on */
    float alpha, beta;
    const float *bias; /* of that column on, or NULL */
} turned_end;

/* y(row+i, o) = beta*y + alpha*t[o*NR + i] + bias[o] for o < outs, i < rows; t has whole vectors of both. */
static inline void put_turned(const turned_end *e, int row, const float *t, int outs, int rows)
{
    const vf alpha = vset1(e->alpha), beta = vset1(e->beta);
    const b2_dtype type = e->y.type;
    const size_t step = (size_t)e->y.ld * b2_dtype_size(type);
    for (int i0 = 0; i0 < rows; i0 += VL)
        for (int o0 = 0; o0 < outs; o0 += VL) {
            const int some = outs - o0 < VL ? outs - o0 : VL;
            const vm m = vtail(some);
            const vf bias = e->bias ? vloadm(e->bias + o0, m) : vzero();
            vf r[VL];
            for (int j = 0; j < VL; j++) r[j] = vload(t + (size_t)(o0 + j) * NR + i0);
            vtranspose(r);
            char *p = b2_out_at(&e->y, row + i0, o0);
            for (int j = 0; j < VL && j < rows - i0; j++, p += step) {
                vf v = vmul(r[j], alpha);
                if (e->beta != 0) v = vfma(beta, vloadm((const float *)(const void *)p, m), v);
                if (e->bias) v = vadd(v, bias);
                store_some(p, type, v, some);
            }
        }
}
#endif
