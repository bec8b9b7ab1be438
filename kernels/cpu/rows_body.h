/* Kernels that move or add rows of f32, the same for both activation types; body of rows_<isa>.c. */
#include <math.h>
#include <string.h>
#include "kernels/cpu/sweep.h"

enum { COLUMNS = 128 }; /* columns of a task that must see all rows */

typedef struct rows_job {
    float *y, *y2;
    const float *x, *x2, *x3;
    const uint16_t *half;
    const int32_t *ids;
    int64_t n;
    int rows, cols, copies;
} rows_job;

static inline void add_floats(float *y, const float *x, int64_t n)
{
    SWEEP(n, vput(y + i, vadd(vget(y + i, len), vget(x + i, len)), len));
}

static inline void copy_floats(float *y, const float *x, size_t n) { memcpy(y, x, n * sizeof *y); }

static void add_task(void *ctx, int64_t chunk, int worker)
{
    const rows_job *j = ctx;
    (void)worker;
    add_floats(j->y + chunk * SPAN, j->x + chunk * SPAN, span_len(j->n, chunk));
}

void F32_FN(add)(b2_queue *q, float *y, const float *x, int64_t n)
{
    rows_job j = {.y = y, .x = x, .n = n};
    b2_pool_run(q->pool, spans(n), add_task, &j);
}

typedef struct bias_job {
    float *db;
    b2_in dy;
    int rows, cols;
} bias_job;

static inline vf get_any(const b2_in *x, size_t at, int len)
{
    if (x->type == B2_F32) return vget((const float *)x->p + at, len);
    const uint16_t *p = (const uint16_t *)x->p + at;
    return len == VL ? vbf_load(p) : vbf_loadm(p, len);
}

/* Four sums side by side hide the latency; they are added in a fixed order. */
static void bias_task(void *ctx, int64_t chunk, int worker)
{
    const bias_job *j = ctx;
    const int c0 = (int)chunk * COLUMNS;
    (void)worker;
    for (int c = c0; c < j->cols && c < c0 + COLUMNS; c += VL) {
        const int len = j->cols - c < VL ? j->cols - c : VL;
        vf s[4] = {vzero(), vzero(), vzero(), vzero()};
        for (int i = 0; i < j->rows; i++)
            s[i & 3] = vadd(s[i & 3], get_any(&j->dy, (size_t)i * (size_t)j->dy.ld + (size_t)c, len));
        vput(j->db + c, vadd(vget(j->db + c, len), vadd(vadd(s[0], s[1]), vadd(s[2], s[3]))), len);
    }
}

void F32_FN(bias_grad)(b2_queue *q, float *db, b2_in dy, int m, int n)
{
    bias_job j = {db, dy, m, n};
    b2_pool_run(q->pool, b2_cuts(n, COLUMNS), bias_task, &j);
}

/* ---- embeddings ---------------------------------------------------------------------------------------- */

static void embed_task(void *ctx, int64_t chunk, int worker)
{
    const rows_job *j = ctx;
    const int step = rows_per_task(j->cols);
    const size_t cols = (size_t)j->cols;
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        float *y = j->y + (size_t)r * cols;
        if (j->ids[r] < 0) {
            copy_floats(y, j->x2 + (size_t)(-1 - (int64_t)j->ids[r]) * cols, cols);
        } else if (j->x) {
            copy_floats(y, j->x + (size_t)j->ids[r] * cols, cols);
        } else {
            const uint16_t *row = j->half + (size_t)j->ids[r] * cols;
            SWEEP(j->cols, vput(y + i, len == VL ? vbf_load(row + i) : vbf_loadm(row + i, len), len));
        }
    }
}

void F32_FN(embed_wf32)(b2_queue *q, float *y, const float *table, const float *image, const int32_t *ids,
                        int rows, int cols)
{
    rows_job j = {.y = y, .x = table, .x2 = image, .ids = ids, .rows = rows, .cols = cols};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), embed_task, &j);
}

void F32_FN(embed_wbf16)(b2_queue *q, float *y, const uint16_t *table, const float *image, const int32_t *ids,
                         int rows, int cols)
{
    rows_job j = {.y = y, .half = table, .x2 = image, .ids = ids, .rows = rows, .cols = cols};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), embed_task, &j);
}

/* A slice of the columns for all rows in order: rows may share an id. */
static void embed_bwd_task(void *ctx, int64_t chunk, int worker)
{
    const rows_job *j = ctx;
    const int c = (int)chunk * COLUMNS, n = b2_cut(j->cols, COLUMNS, (int)chunk);
    const size_t cols = (size_t)j->cols;
    (void)worker;
    for (int i = 0; i < j->rows; i++) {
        const float *dy = j->x + (size_t)i * cols + c;
        if (j->ids[i] >= 0 && j->y) add_floats(j->y + (size_t)j->ids[i] * cols + c, dy, n);
        if (j->ids[i] < 0 && j->y2)
            copy_floats(j->y2 + (size_t)(-1 - (int64_t)j->ids[i]) * cols + c, dy, (size_t)n);
    }
}

void F32_FN(embed_bwd)(b2_queue *q, float *dtable, float *dimage, const float *dy, const int32_t *ids,
                       int rows, int cols)
{
    rows_job j = {.y = dtable, .y2 = dimage, .x = dy, .ids = ids, .rows = rows, .cols = cols};
    b2_pool_run(q->pool, b2_cuts(cols, COLUMNS), embed_bwd_task, &j);
}

static void vit_embed_task(void *ctx, int64_t row, int worker)
{
    const rows_job *j = ctx;
    const int64_t t = row % (j->rows + 1), b = row / (j->rows + 1), cols = j->cols;
    const float *from = t ? j->x + (b * j->rows + t - 1) * cols : j->x2, *pos = j->x3 + t * cols;
    float *x = j->y + row * cols;
    (void)worker;
    SWEEP(cols, vput(x + i, vadd(vget(from + i, len), vget(pos + i, len)), len));
}

void F32_FN(vit_embed_fwd)(b2_queue *q, float *x, const float *patches, const float *cls, const float *pos,
                           int batch, int n, int cols)
{
    rows_job j = {.y = x, .x = patches, .x2 = cls, .x3 = pos, .rows = n, .cols = cols};
    b2_pool_run(q->pool, (int64_t)batch * (n + 1), vit_embed_task, &j);
}

typedef struct vit_job {
    float *dpatches, *dcls, *dpos;
    const float *dx;
    int batch, n, cols;
} vit_job;

/* One token of all images, in order. */
static void vit_bwd_task(void *ctx, int64_t t, int worker)
{
    const vit_job *j = ctx;
    const int64_t cols = j->cols;
    (void)worker;
    for (int64_t b = 0; b < j->batch; b++) {
        const float *dx = j->dx + (b * (j->n + 1) + t) * cols;
        if (t > 0 && j->dpatches) copy_floats(j->dpatches + (b * j->n + t - 1) * cols, dx, (size_t)cols);
        if (t == 0 && j->dcls) add_floats(j->dcls, dx, cols);
        if (j->dpos) add_floats(j->dpos + t * cols, dx, cols);
    }
}

void F32_FN(vit_embed_bwd)(b2_queue *q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch,
                           int n, int cols)
{
    vit_job j = {dpatches, dcls, dpos, dx, batch, n, cols};
    b2_pool_run(q->pool, n + 1, vit_bwd_task, &j);
}

/* ---- rows shared by a batch, key-value caches ---------------------------------------------------------- */

static void tile_task(void *ctx, int64_t chunk, int worker)
{
    const rows_job *j = ctx;
    const int64_t c = chunk / spans(j->n), at = chunk % spans(j->n) * SPAN;
    (void)worker;
    copy_floats(j->y + c * j->n + at, j->x + at, (size_t)span_len(j->n, at / SPAN));
}

void F32_FN(tile_fwd)(b2_queue *q, float *y, const float *x, int copies, int64_t n)
{
    rows_job j = {.y = y, .x = x, .n = n, .copies = copies};
    b2_pool_run(q->pool, spans(n) * copies, tile_task, &j);
}

static void tile_bwd_task(void *ctx, int64_t chunk, int worker)
{
    const rows_job *j = ctx;
    const int64_t at = chunk * SPAN;
    (void)worker;
    for (int c = 0; c < j->copies; c++) add_floats(j->y + at, j->x + c * j->n + at, span_len(j->n, chunk));
}

void F32_FN(tile_bwd)(b2_queue *q, float *dx, const float *dy, int copies, int64_t n)
{
    rows_job j = {.y = dx, .x = dy, .n = n, .copies = copies};
    b2_pool_run(q->pool, spans(n), tile_bwd_task, &j);
}

/* ---- relative position bias: little work, once a step: the bucket is found once for all heads ---------- */

/* T5Attention._relative_position_bucket (transformers): half the buckets exact, the rest logarithmic. */
static int bucket(int relative, int buckets, int max_distance, int bidirectional)
{
    int base = 0, n = -relative;
    if (bidirectional) {
        buckets /= 2;
        base = relative > 0 ? buckets : 0;
        n = relative > 0 ? relative : -relative;
    }
    if (n < 0) n = 0;
    const int exact = buckets / 2;
    if (n < exact) return base + n;
    const float octave = logf((float)n / (float)exact) / (float)log((double)max_distance / exact);
    const int far = exact + (int)(octave * (float)(buckets - exact));
    return base + (far < buckets ? far : buckets - 1);
}

void F32_FN(relbias_fwd)(b2_queue *q, float *bias, const float *table, int heads, int buckets,
                         int max_distance, int bidirectional, int zero, int n)
{
    (void)q;
    for (int c = 0; c < n; c++) {
        const float *row =
            table + (size_t)bucket(c - zero, buckets, max_distance, bidirectional) * (size_t)heads;
        for (int h = 0; h < heads; h++) bias[(size_t)h * (size_t)n + c] = row[h];
    }
}

void F32_FN(relbias_bwd)(b2_queue *q, float *dtable, const float *dbias, int heads, int buckets,
                         int max_distance, int bidirectional, int zero, int n)
{
    (void)q;
    for (int c = 0; c < n; c++) {
        float *row = dtable + (size_t)bucket(c - zero, buckets, max_distance, bidirectional) * (size_t)heads;
        for (int h = 0; h < heads; h++) row[h] += dbias[(size_t)h * (size_t)n + c];
    }
}
