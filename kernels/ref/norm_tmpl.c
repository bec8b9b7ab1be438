/* Reference of the norms. Sums over a row are taken in double. */
#include <math.h>
#include "kernels/act.h"

void B2_REF(rmsnorm_fwd)(b2_queue *q, void *y, float *r, const float *x, const float *w, int rows, int cols,
                         float eps)
{
    (void)q;
    for (int i = 0; i < rows; i++, x += cols) {
        double square = 0;
        for (int c = 0; c < cols; c++) square += (double)x[c] * x[c];
        const float inv = (float)(1 / sqrt(square / cols + eps));
        act_t *out = (act_t *)y + (int64_t)i * cols;
        for (int c = 0; c < cols; c++) out[c] = act_store(x[c] * inv * w[c]);
        if (r) r[i] = inv;
    }
}

void B2_REF(rmsnorm_bwd)(b2_queue *q, float *dx, float *dw, const float *dy, const float *x, const float *r,
                         const float *w, int rows, int cols, float beta, void *ws)
{
    (void)q, (void)ws;
    for (int i = 0; i < rows; i++, x += cols, dy += cols) {
        double dot = 0;
        for (int c = 0; c < cols; c++) dot += (double)dy[c] * w[c] * x[c];
        const float back = (float)((double)r[i] * r[i] * r[i] / cols * dot);
        for (int c = 0; dw && c < cols; c++) dw[c] += dy[c] * x[c] * r[i];
        for (int c = 0; dx && c < cols; c++) {
            float *d = dx + (int64_t)i * cols + c;
            *d = (beta == 0 ? 0 : beta * *d) + r[i] * (dy[c] * w[c]) - x[c] * back;
        }
    }
}

static void moments(const float *x, int cols, float eps, float *mean, float *rstd)
{
    double sum = 0, square = 0;
    for (int c = 0; c < cols; c++) sum += x[c];
    const double mid = sum / cols;
    for (int c = 0; c < cols; c++) square += (x[c] - mid) * (x[c] - mid);
    *mean = (float)mid;
    *rstd = (float)(1 / sqrt(square / cols + eps));
}

void B2_REF(layernorm_fwd)(b2_queue *q, void *y, float *y32, float *stat, const float *x, const float *g,
                           const float *b, int rows, int cols, float eps)
{
    (void)q;
    for (int64_t i = 0; i < rows; i++, x += cols) {
        float mean, rstd;
        moments(x, cols, eps, &mean, &rstd);
        for (int c = 0; c < cols; c++) {
            const float v = (x[c] - mean) * rstd * g[c] + b[c];
            if (y) ((act_t *)y)[i * cols + c] = act_store(v);
            if (y32) y32[i * cols + c] = v;
        }
        if (stat) {
            stat[2 * i] = mean;
            stat[2 * i + 1] = rstd;
        }
    }
}

void B2_REF(layernorm_bwd)(b2_queue *q, float *dx, float *dg, float *db, const float *dy, const float *x,
                           const float *stat, const float *g, int rows, int cols, float beta, void *ws)
{
    (void)q, (void)ws;
    for (int i = 0; i < rows; i++, x += cols, dy += cols, stat += 2) {
        const float mean = stat[0], rstd = stat[1];
        double sum = 0, dot = 0;
        for (int c = 0; c < cols; c++) {
            const float h = (x[c] - mean) * rstd;
            sum += (double)dy[c] * g[c];
            dot += (double)dy[c] * g[c] * h;
            if (dg) dg[c] += dy[c] * h;
            if (db) db[c] += dy[c];
        }
        for (int c = 0; dx && c < cols; c++) {
            const float h = (x[c] - mean) * rstd;
            float *d = dx + (int64_t)i * cols + c;
            *d = (beta == 0 ? 0 : beta * *d) +
                 rstd * (dy[c] * g[c] - (float)(sum / cols) - h * (float)(dot / cols));
        }
    }
}

size_t B2_REF(norm_bwd_ws)(int rows, int cols, int threads)
{
    (void)rows, (void)cols, (void)threads;
    return 0;
}
