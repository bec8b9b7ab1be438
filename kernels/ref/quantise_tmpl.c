/* Reference of quantising rows and of reading them back. */
#include "kernels/act.h"
#include "kernels/quantise_rule.h"

void B2_REF(quantise_i8)(b2_queue *q, int8_t *w, float *scale, const void *x, int rows, int cols)
{
    (void)q;
    const act_t *in = x;
    for (int o = 0; o < rows; o++, in += cols, w += cols) {
        float top = 0;
        bool finite = true;
        for (int c = 0; c < cols; c++) {
            const float size = fabsf(act_load(in[c]));
            finite = finite && isfinite(size);
            top = size > top ? size : top;
        }
        const bool some = finite && top >= B2_I8_LEAST;
        const float inverse = some ? 127 / top : 0;
        scale[o] = some ? top / 127 : finite ? 0 : NAN;
        for (int c = 0; c < cols; c++) w[c] = some ? (int8_t)rintf(act_load(in[c]) * inverse) : 0;
    }
}

/* ---- int4 ---------------------------------------------------------------------------------------------- */

static int nibble(float x, float inverse)
{
    const float n = rintf(x * inverse);
    return n < -8 ? -8 : n > 7 ? 7 : (int)n;
}

static double group_error(const float *x, float scale)
{
    const float inverse = 1 / scale;
    double sum = 0;
    for (int c = 0; c < B2_I4_GROUP; c++) {
        const float d = scale * (float)nibble(x[c], inverse) - x[c];
        sum += (double)d * d;
    }
    return sum;
}

static float best_scale(const float *x)
{
    static const float steps[] = {B2_I4_STEPS};
    float top = 0, best = 0;
    double least = INFINITY;
    for (int c = 0; c < B2_I4_GROUP; c++) top = fabsf(x[c]) > fabsf(top) ? x[c] : top;
    if (fabsf(top) < B2_I4_LEAST) return 0;
    for (int i = 0; i < B2_I4_TRIES; i++) {
        const float scale = b2_five_bits(top / steps[i]);
        const double error = group_error(x, scale);
        if (error >= least) continue;
        least = error;
        best = scale;
    }
    return best;
}

static void put_group(uint8_t *w, const float *x, float inverse)
{
    for (int l = 0; l < 16; l++) {
        unsigned word = 0;
        for (int k = 0; k < 4; k++) word |= ((unsigned)nibble(x[16 * k + l], inverse) & 15) << 4 * k;
        *w++ = (uint8_t)word;
        *w++ = (uint8_t)(word >> 8);
    }
}

void B2_REF(quantise_i4)(b2_queue *q, void *w, uint16_t *scale, const void *x, int rows, int cols)
{
    (void)q;
    const int64_t groups = (int64_t)rows * (cols / B2_I4_GROUP);
    const act_t *in = x;
    for (int64_t g = 0; g < groups; g++, in += B2_I4_GROUP) {
        float v[B2_I4_GROUP];
        bool finite = true;
        for (int c = 0; c < B2_I4_GROUP; c++) {
            v[c] = b2_normal(act_load(in[c]));
            finite = finite && isfinite(v[c]);
        }
        for (int c = 0; c < B2_I4_GROUP && !finite; c++) v[c] = 0;
        const float best = best_scale(v);
        scale[g] = b2_f32_to_bf16(finite ? best : NAN);
        put_group((uint8_t *)w + g * (int64_t)b2_row_bytes(B2_I4, B2_I4_GROUP), v, best == 0 ? 0 : 1 / best);
    }
}

/* ---- back ---------------------------------------------------------------------------------------------- */

void B2_REF(dequantise_i8)(b2_queue *q, void *y, const int8_t *w, const float *scale, int rows, int cols)
{
    (void)q;
    act_t *out = y;
    for (int o = 0; o < rows; o++, out += cols, w += cols) {
        for (int c = 0; c < cols; c++) out[c] = act_store((float)w[c] * b2_normal(scale[o]));
    }
}

void B2_REF(dequantise_i4)(b2_queue *q, void *y, const void *w, const uint16_t *scale, int rows, int cols)
{
    (void)q;
    const char *row = w;
    act_t *out = y;
    for (int o = 0; o < rows; o++, out += cols, row += b2_row_bytes(B2_I4, cols)) {
        for (int c = 0; c < cols; c++) {
            const float s = b2_bf16_to_f32(scale[((int64_t)o * cols + c) / B2_I4_GROUP]);
            out[c] = act_store((float)b2_i4_get(row, c) * b2_normal(s));
        }
    }
}
