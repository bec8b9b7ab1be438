/* RMSNorm and LayerNorm; body of norm_tmpl_<isa>.c. Sums over a row are kept in many f32 lanes. The
 * gradients of the weights are summed over fixed parts of the rows, then over the parts: the same for any
 * number of threads. */
#include <math.h>
#include "kernels/act.h"
#include "kernels/cpu/sweep.h"

enum { PARTS = 16, PART_ROWS = 16 }; /* at most so many parts, of at least so many rows */

typedef struct norm_job {
    act_t *y;
    float *y32, *stat, *dx, *dw, *db, *sums; /* sums: [parts][2][cols] */
    const float *x, *w, *b, *dy;
    int rows, cols, part;
    float eps, beta;
} norm_job;

static inline float row_sum(const float *x, int n)
{
    vf s = vzero(), t = vzero();
    int c = 0;
    for (; c + 2 * VL <= n; c += 2 * VL) s = vadd(s, vload(x + c)), t = vadd(t, vload(x + c + VL));
    for (; c < n; c += VL) s = vadd(s, vget(x + c, n - c < VL ? n - c : VL));
    return vsum(vadd(s, t));
}

/* sum of (x - mean)^2 */
static inline float row_square(const float *x, float mean, int n)
{
    const vf m = vset1(mean);
    vf s = vzero(), t = vzero();
    int c = 0;
    for (; c + 2 * VL <= n; c += 2 * VL) {
        const vf a = vsub(vload(x + c), m), b = vsub(vload(x + c + VL), m);
        s = vfma(a, a, s), t = vfma(b, b, t);
    }
    for (; c < n; c += VL) {
        const int len = n - c < VL ? n - c : VL;
        vf a = vsub(vget(x + c, len), m);
        if (len < VL) a = vsel(vtail(len), a, vzero());
        s = vfma(a, a, s);
    }
    return vsum(vadd(s, t));
}

static void rms_task(void *ctx, int64_t chunk, int worker)
{
    const norm_job *j = ctx;
    const int n = j->cols, step = rows_per_task(n);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        const float *x = j->x + r * n;
        act_t *y = j->y + r * n;
        const float inv = (float)(1 / sqrt((double)row_square(x, 0, n) / n + j->eps));
        const vf s = vset1(inv);
        SWEEP(n, aput(y + i, vmul(vmul(vget(x + i, len), s), vget(j->w + i, len)), len));
        if (j->stat) j->stat[r] = inv;
    }
}

void TIER_FN(rmsnorm_fwd)(b2_queue *q, void *y, float *r, const float *x, const float *w, int rows, int cols,
                          float eps)
{
    norm_job j = {.y = y, .stat = r, .x = x, .w = w, .rows = rows, .cols = cols, .eps = eps};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), rms_task, &j);
}

static void layer_row(const norm_job *j, int64_t r)
{
    const int n = j->cols;
    const float *x = j->x + r * n, mean = row_sum(x, n) / (float)n;
    const float rstd = (float)(1 / sqrt((double)row_square(x, mean, n) / n + j->eps));
    const vf m = vset1(mean), s = vset1(rstd);
    act_t *y = j->y ? j->y + r * n : NULL;
    float *y32 = j->y32 ? j->y32 + r * n : NULL;
    SWEEP(n, {
        const vf v = vfma(vmul(vsub(vget(x + i, len), m), s), vget(j->w + i, len), vget(j->b + i, len));
        if (y) aput(y + i, v, len);
        if (y32) vput(y32 + i, v, len);
    });
    if (j->stat) j->stat[2 * r] = mean, j->stat[2 * r + 1] = rstd;
}

static void layer_task(void *ctx, int64_t chunk, int worker)
{
    const norm_job *j = ctx;
    const int step = rows_per_task(j->cols);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) layer_row(j, r);
}

void TIER_FN(layernorm_fwd)(b2_queue *q, void *y, float *y32, float *stat, const float *x, const float *g,
                            const float *b, int rows, int cols, float eps)
{
    norm_job j = {
        .y = y, .y32 = y32, .stat = stat, .x = x, .w = g, .b = b, .rows = rows, .cols = cols, .eps = eps};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), layer_task, &j);
}

/* ---- backward ------------------------------------------------------------------------------------------ */

static void rms_bwd_row(const norm_job *j, int64_t r, float *dw)
{
    const int n = j->cols;
    const float *x = j->x + r * n, *dy = j->dy + r * n, *w = j->w, inv = j->stat[r];
    const vf s = vset1(inv);
    vf dot = vzero();
    SWEEP(n, {
        const vf d = vget(dy + i, len);
        const vf xi = vget(x + i, len);
        dot = vfma(vmul(d, vget(w + i, len)), xi, dot);
        if (dw) vput(dw + i, vfma(vmul(d, xi), s, vget(dw + i, len)), len);
    });
    if (!j->dx) return;
    const vf back = vset1((float)((double)inv * inv * inv / n * (double)vsum(dot)));
    float *dx = j->dx + r * n;
    SWEEP(n, {
        const vf d = vmul(s, vmul(vget(dy + i, len), vget(w + i, len)));
        vput(dx + i, vkeep(dx + i, j->beta, vfnma(vget(x + i, len), back, d), len), len);
    });
}

static void layer_bwd_row(const norm_job *j, int64_t r, float *dw, float *db)
{
    const int n = j->cols;
    const float *x = j->x + r * n, *dy = j->dy + r * n, *w = j->w;
    const vf m = vset1(j->stat[2 * r]), s = vset1(j->stat[2 * r + 1]);
    vf sum = vzero(), dot = vzero();
    SWEEP(n, {
        const vf d = vget(dy + i, len);
        const vf h = vmul(vsub(vget(x + i, len), m), s);
        const vf dg = vmul(d, vget(w + i, len));
        sum = vadd(sum, dg);
        dot = vfma(dg, h, dot);
        if (dw) vput(dw + i, vfma(d, h, vget(dw + i, len)), len);
        if (db) vput(db + i, vadd(d, vget(db + i, len)), len);
    });
    if (!j->dx) return;
    const vf mean = vset1(vsum(sum) / (float)n), lean = vset1(vsum(dot) / (float)n);
    float *dx = j->dx + r * n;
    SWEEP(n, {
        const vf h = vmul(vsub(vget(x + i, len), m), s);
        const vf d = vfnma(h, lean, vsub(vmul(vget(dy + i, len), vget(w + i, len)), mean));
        vput(dx + i, vkeep(dx + i, j->beta, vmul(s, d), len), len);
    });
}

static float *part_sums(const norm_job *j, int64_t part, int which)
{
    if (!(which ? j->db : j->dw)) return NULL;
    float *s = j->sums + (part * 2 + which) * j->cols;
    for (int c = 0; c < j->cols; c++) s[c] = 0;
    return s;
}

static void rms_bwd_task(void *ctx, int64_t part, int worker)
{
    const norm_job *j = ctx;
    float *dw = part_sums(j, part, 0);
    (void)worker;
    for (int64_t r = part * j->part; r < j->rows && r < (part + 1) * j->part; r++) rms_bwd_row(j, r, dw);
}

static void layer_bwd_task(void *ctx, int64_t part, int worker)
{
    const norm_job *j = ctx;
    float *dw = part_sums(j, part, 0), *db = part_sums(j, part, 1);
    (void)worker;
    for (int64_t r = part * j->part; r < j->rows && r < (part + 1) * j->part; r++)
        layer_bwd_row(j, r, dw, db);
}

static void add_parts(const norm_job *j, float *to, int parts, int which)
{
    const int n = j->cols;
    if (!to) return;
    SWEEP(n, {
        vf s = vzero();
        for (int p = 0; p < parts; p++) s = vadd(s, vget(j->sums + (p * 2 + which) * (int64_t)n + i, len));
        vput(to + i, vadd(vget(to + i, len), s), len);
    });
}

static void backward(b2_queue *q, norm_job *j, b2_chunk_fn task)
{
    j->part = b2_cuts(j->rows, PARTS) < PART_ROWS ? PART_ROWS : b2_cuts(j->rows, PARTS);
    const int parts = b2_cuts(j->rows, j->part);
    b2_pool_run(q->pool, parts, task, j);
    add_parts(j, j->dw, parts, 0);
    add_parts(j, j->db, parts, 1);
}

void TIER_FN(rmsnorm_bwd)(b2_queue *q, float *dx, float *dw, const float *dy, const float *x, const float *r,
                          const float *w, int rows, int cols, float beta, void *ws)
{
    norm_job j = {.dx = dx,
                  .dw = dw,
                  .dy = dy,
                  .x = x,
                  .stat = (float *)r,
                  .w = w,
                  .rows = rows,
                  .cols = cols,
                  .beta = beta,
                  .sums = ws};
    backward(q, &j, rms_bwd_task);
}

void TIER_FN(layernorm_bwd)(b2_queue *q, float *dx, float *dg, float *db, const float *dy, const float *x,
                            const float *stat, const float *g, int rows, int cols, float beta, void *ws)
{
    norm_job j = {.dx = dx,
                  .dw = dg,
                  .db = db,
                  .dy = dy,
                  .x = x,
                  .stat = (float *)stat,
                  .w = g,
                  .rows = rows,
                  .cols = cols,
                  .beta = beta,
                  .sums = ws};
    backward(q, &j, layer_bwd_task);
}

size_t TIER_FN(norm_bwd_ws)(int rows, int cols, int threads)
{
    (void)rows, (void)threads;
    return (size_t)PARTS * 2 * (size_t)cols * sizeof(float);
}
