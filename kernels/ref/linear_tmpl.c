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

/* Element `at` of y; a T that is not f32 keeps nothing. */
static void put(b2_out y, int64_t at, float sum, float bias, float beta)
{
    float *f32 = y.p;
    if (y.type == B2_F32)
        f32[at] = kept(f32[at], beta) + sum + bias;
    else
        ((act_t *)y.p)[at] = act_store(sum + bias);
}

static inline void forward(b2_out y, const act_t *x, const b2_rows *w, int nw, int m, int k, float alpha,
                           float beta, weight_fn weight)
{
    for (int i = 0; i < m; i++) {
        int64_t at = (int64_t)i * y.ld;
        for (int b = 0; b < nw; b++) {
            for (int o = 0; o < w[b].n; o++, at++) {
                float sum = 0;
                for (int c = 0; c < k; c++) sum += act_load(x[(int64_t)i * k + c]) * weight(&w[b], o, c, k);
                put(y, at, alpha * sum, w[b].bias ? w[b].bias[o] : 0, beta);
            }
        }
    }
}

static float get(b2_in x, int64_t at)
{
    return x.type == B2_F32 ? ((const float *)x.p)[at] : act_load(((const act_t *)x.p)[at]);
}

static inline void backward(b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k, float alpha,
                            float beta, weight_fn weight)
{
    for (int i = 0; i < m; i++) {
        for (int c0 = 0, end; c0 < k; c0 = end) {
            int64_t at = (int64_t)i * dy.ld;
            float sum[CHUNK] = {0};
            end = k - c0 < CHUNK ? k : c0 + CHUNK;
            for (int b = 0; b < nw; b++) {
                for (int o = 0; o < w[b].n; o++, at++) {
                    for (int c = c0; c < end; c++) sum[c - c0] += get(dy, at) * weight(&w[b], o, c, k);
                }
            }
            for (int c = c0; c < end; c++) put(dx, (int64_t)i * dx.ld + c, alpha * sum[c - c0], 0, beta);
        }
    }
}

void B2_REF(gemm_wf32)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                       float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, x, w, nw, m, k, alpha, beta, weight_f32);
}

void B2_REF(gemm_wbf16)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                        float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, x, w, nw, m, k, alpha, beta, weight_bf16);
}

void B2_REF(gemm_wi8)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, x, w, nw, m, k, alpha, beta, weight_i8);
}

void B2_REF(gemm_wi4)(b2_queue *q, b2_out y, const void *x, const b2_rows *w, int nw, int m, int k,
                      float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    forward(y, x, w, nw, m, k, alpha, beta, weight_i4);
}

size_t B2_REF(gemm_ws)(int m, int n, int k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void B2_REF(gemm_dx_wf32)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                          float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, w, nw, m, k, alpha, beta, weight_f32);
}

void B2_REF(gemm_dx_wbf16)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                           float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, w, nw, m, k, alpha, beta, weight_bf16);
}

void B2_REF(gemm_dx_wi8)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                         float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, w, nw, m, k, alpha, beta, weight_i8);
}

void B2_REF(gemm_dx_wi4)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                         float alpha, float beta, void *ws)
{
    (void)q, (void)ws;
    backward(dx, dy, w, nw, m, k, alpha, beta, weight_i4);
}

size_t B2_REF(gemm_dx_ws)(int m, int n, int k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void B2_REF(gemm_dw)(b2_queue *q, float *dw, b2_in dy, const void *x, int m, int n, int k, float alpha,
                     void *ws)
{
    (void)q, (void)ws;
    const act_t *in = x;
    for (int o = 0; o < n; o++) {
        float *row = dw + (int64_t)o * k;
        for (int c0 = 0, end; c0 < k; c0 = end) {
            float sum[CHUNK] = {0};
            end = k - c0 < CHUNK ? k : c0 + CHUNK;
            for (int i = 0; i < m; i++) {
                const float g = get(dy, (int64_t)i * dy.ld + o);
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

void B2_REF(bias_grad)(b2_queue *q, float *db, b2_in dy, int m, int n)
{
    (void)q;
    for (int o = 0; o < n; o++) {
        float sum = 0;
        for (int i = 0; i < m; i++) sum += get(dy, (int64_t)i * dy.ld + o);
        db[o] += sum;
    }
}
