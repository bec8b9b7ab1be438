/* Reference of the linear family: products with weight rows and their gradients. */
#include "kernels/act.h"

/* Column c of row o, of k columns. */
typedef float (*weight_fn)(const b2_rows *w, int o, int c, int k);
static float weight_f32(const b2_rows *w, int o, int c, int k)
{
    return ((const float *)w->w)[(int64_t)o * k + c];
}
static float weight_bf16(const b2_rows *w, int o, int c, int k)
{
    return b2_bf16_to_f32(((const b2_bf16 *)w->w)[(int64_t)o * k + c]);
}
static float weight_i8(const b2_rows *w, int o, int c, int k)
{
    return (float)((const int8_t *)w->w)[(int64_t)o * k + c] * ((const float *)w->scale)[o];
}
static float weight_i4(const b2_rows *w, int o, int c, int k)
{
    const char *row = (const char *)w->w + (size_t)o * b2_row_bytes(B2_I4, k);
    const b2_bf16 scale = ((const b2_bf16 *)w->scale)[(int64_t)o * (k / B2_I4_GROUP) + c / B2_I4_GROUP];
    return (float)b2_i4_get(row, c) * b2_bf16_to_f32(scale);
}

/* Columns whose sums are taken together, apart from what is there already: small terms would be lost. */
enum { CHUNK = 64 };

/* beta 0 must not read what was there: it may be NaN. */
static float kept(float old, float beta) { return beta == 0 ? 0 : beta * old; }

static inline void forward(float *y, int ldy, const act_t *x, const b2_rows *w, int nw, int m, int k,
                           float alpha, float beta, weight_fn weight)
{
    for (int i = 0; i < m; i++) {
        float *out = y + (int64_t)i * ldy;
        for (int b = 0; b < nw; b++) {
            for (int o = 0; o < w[b].n; o++, out++) {
                float sum = 0;
                for (int c = 0; c < k; c++) sum += act_load(x[(int64_t)i * k + c]) * weight(&w[b], o, c, k);
                *out = kept(*out, beta) + alpha * sum + (w[b].bias ? w[b].bias[o] : 0);
            }
        }
    }
}

static inline void backward(float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m, int k,
                            float alpha, float beta, weight_fn weight)
{
    for (int i = 0; i < m; i++) {
        float *out = dx + (int64_t)i * k;
        for (int c0 = 0, end; c0 < k; c0 = end) {
            const float *in = dy + (int64_t)i * ldy;
            float sum[CHUNK] = {0};
            end = k - c0 < CHUNK ? k : c0 + CHUNK;
            for (int b = 0; b < nw; b++) {
                for (int o = 0; o < w[b].n; o++, in++) {
                    for (int c = c0; c < end; c++) sum[c - c0] += *in * weight(&w[b], o, c, k);
                }
            }
            for (int c = c0; c < end; c++) out[c] = kept(out[c], beta) + alpha * sum[c - c0];
        }
    }
}

void B2_REF(gemm_wf32)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, ldy, x, w, nw, m, k, alpha, beta, weight_f32);
}

void B2_REF(gemm_wbf16)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                        float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, ldy, x, w, nw, m, k, alpha, beta, weight_bf16);
}

void B2_REF(gemm_wi8)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, ldy, x, w, nw, m, k, alpha, beta, weight_i8);
}

void B2_REF(gemm_wi4)(b2_queue *q, float *y, int ldy, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, ldy, x, w, nw, m, k, alpha, beta, weight_i4);
}

size_t B2_REF(gemm_ws)(int m, int n, int k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void B2_REF(gemm_dx_wf32)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                          int k, float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, ldy, w, nw, m, k, alpha, beta, weight_f32);
}

void B2_REF(gemm_dx_wbf16)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                           int k, float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, ldy, w, nw, m, k, alpha, beta, weight_bf16);
}

void B2_REF(gemm_dx_wi8)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                         int k, float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, ldy, w, nw, m, k, alpha, beta, weight_i8);
}

void B2_REF(gemm_dx_wi4)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                         int k, float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, ldy, w, nw, m, k, alpha, beta, weight_i4);
}

size_t B2_REF(gemm_dx_ws)(int m, int n, int k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void B2_REF(gemm_dw)(b2_queue *q, float *dw, const float *dy, int ldy, const void *x, int m, int n, int k,
                     float alpha, void *ws)
{
    (void)q, (void)ws;
    const act_t *in = x;
    for (int o = 0; o < n; o++) {
        float *row = dw + (int64_t)o * k;
        for (int c0 = 0, end; c0 < k; c0 = end) {
            float sum[CHUNK] = {0};
            end = k - c0 < CHUNK ? k : c0 + CHUNK;
            for (int i = 0; i < m; i++) {
                const float g = dy[(int64_t)i * ldy + o];
                for (int c = c0; c < end; c++) sum[c - c0] += g * act_load(in[(int64_t)i * k + c]);
            }
            for (int c = c0; c < end; c++) row[c] += alpha * sum[c - c0];
        }
    }
}

size_t B2_REF(gemm_dw_ws)(int m, int n, int k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void B2_REF(bias_grad)(b2_queue *q, float *db, const float *dy, int ldy, int m, int n)
{
    (void)q;
    for (int o = 0; o < n; o++) {
        float sum = 0;
        for (int i = 0; i < m; i++) sum += dy[(int64_t)i * ldy + o];
        db[o] += sum;
    }
}
