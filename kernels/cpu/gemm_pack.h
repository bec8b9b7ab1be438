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

enum { PACK_AHEAD = 8 }; /* rows that straight packing asks for in advance */

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

/* The same in groups of TILE_MR columns, the columns form of the tile's A. */
static inline void pack_columns(float *dst, size_t group, const float *src, size_t ld, int n, int k)
{
    for (int i = 0; i < k; i++, src += ld, dst += TILE_MR) {
        float *to = dst;
        int o = 0;
        /* A whole vector is written faster than 6 floats; what is too much, the next row overwrites. */
        if (TILE_MR == 6 && i + 1 < k)
            for (; o + VL <= n; o += TILE_MR, to += group) vstore(to, vload(src + o));
        for (; o + TILE_MR <= n; o += TILE_MR, to += group) memcpy(to, src + o, TILE_MR * sizeof *to);
        if (o < n) memcpy(to, src + o, (size_t)(n - o) * sizeof *to);
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

/* What a turned block does to y. */
typedef struct turned_end {
    float alpha, beta;
    const float *bias; /* [outs] or NULL */
} turned_end;

/* y[i*ldy + o] = beta*y + alpha*t[o*NR + i] + bias[o] for o < outs, i < rows; t has whole vectors of both. */
static inline void put_turned(float *y, size_t ldy, const float *t, int outs, int rows, const turned_end *e)
{
    const vf alpha = vset1(e->alpha), beta = vset1(e->beta);
    for (int i0 = 0; i0 < rows; i0 += VL)
        for (int o0 = 0; o0 < outs; o0 += VL) {
            const int some = outs - o0 < VL ? outs - o0 : VL;
            const vm m = vtail(some);
            const vf bias = e->bias ? vloadm(e->bias + o0, m) : vzero();
            vf r[VL];
            for (int j = 0; j < VL; j++) r[j] = vload(t + (size_t)(o0 + j) * NR + i0);
            vtranspose(r);
            float *p = y + (size_t)i0 * ldy + o0;
            for (int j = 0; j < VL && j < rows - i0; j++, p += ldy) {
                vf v = vmul(r[j], alpha);
                if (e->beta != 0) v = vfma(beta, vloadm(p, m), v);
                if (e->bias) v = vadd(v, bias);
                if (some == VL)
                    vstore(p, v);
                else
                    vstorem(p, m, v);
            }
        }
}
#endif
