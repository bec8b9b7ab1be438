/* Quantised weight rows as floats, for the drivers that pack or widen them; included after a simd header. */
#ifndef B2_KERNELS_CPU_GEMM_QUANT_H
#define B2_KERNELS_CPU_GEMM_QUANT_H
#include "kernels/cpu/gemm_common.h"

typedef struct quant_row {
    const char *q;
    const char *scale;
} quant_row;

static inline bool quantised(b2_dtype f) { return f == B2_I8 || f == B2_I4; }

static inline quant_row quant_row_at(const gemm *g, const b2_rows *w, int o)
{
    return (quant_row){weight_row(g, w, o), (const char *)w->scale + (size_t)o * b2_scale_bytes(g->wf, g->k)};
}

/* n <= VL elements from column c on, a multiple of VL; zeros behind them. */
static inline vf load_quant(const quant_row *r, b2_dtype f, int c, int n)
{
    if (f == B2_I8) {
        int8_t some[VL] = {0};
        const int8_t *p = (const int8_t *)r->q + c;
        float scale;
        memcpy(&scale, r->scale, sizeof scale);
        if (n < VL) memcpy(some, p, (size_t)n), p = some;
        return vmul(vi8_load(p), vset1(scale));
    }
    uint16_t scale;
    memcpy(&scale, r->scale + (size_t)(c / B2_I4_GROUP) * sizeof scale, sizeof scale);
    const char *words = r->q + c / 64 * 32 + c % 16 * 2;
    return vmul(vi4_load(words, c % 64 / 16), vset1(b2_bf16_to_f32(scale)));
}

/* n columns from c0 on of `rows` rows from o on to rows of f32, ld floats apart. */
static inline void widen_quant(float *dst, size_t ld, const gemm *g, const b2_rows *w, int o, int rows,
                               int c0, int n)
{
    for (int i = 0; i < rows; i++, dst += ld) {
        const quant_row r = quant_row_at(g, w, o + i);
        for (int c = 0; c < n; c += VL) {
            const int len = n - c < VL ? n - c : VL;
            const vf v = load_quant(&r, g->wf, c0 + c, len);
            if (len == VL)
                vstore(dst + c, v);
            else
                vstorem(dst + c, vtail(len), v);
        }
    }
}

/* pack_straight_from for quantised rows o.. of w, columns c0.. */
static inline void pack_quant_from(float *dst, size_t panel, int first, const gemm *g, const b2_rows *w,
                                   int o, int rows, int c0, int n)
{
    for (int i = 0; i < rows; i++) {
        const quant_row r = quant_row_at(g, w, o + i);
        for (int p0 = 0; p0 < n; p0 += NR) {
            const int some = n - p0 < NR ? n - p0 : NR, width = panel_width(some);
            float *to = dst + (size_t)(p0 / NR) * panel + (size_t)(first + i) * (size_t)width;
            for (int c = 0; c < width; c += VL)
                vstore(to + c, load_quant(&r, g->wf, c0 + p0 + c, some - c < VL ? some - c : VL));
        }
    }
}
#endif
