/* Checks of the norms. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct norm {
    ck_buf *x, *w, *b, *dy, *stat; /* inputs (stat: of the backward) */
    ck_buf *y, *y32, *kept;        /* outputs of the forward */
    ck_buf *dx, *dw, *db;          /* outputs of the backward */
    bool in_place;                 /* y32 is x */
    int rows, cols;
    float eps, beta;
} norm;

static void shape_of(const norm *n, ck_call *call)
{
    snprintf(call->shape, sizeof call->shape, "%d x %d eps %g beta %g%s%s%s%s", n->rows, n->cols,
             (double)n->eps, (double)n->beta, n->y ? " y" : "", n->y32 ? n->in_place ? " y32=x" : " y32" : "",
             n->dx ? " dx" : "", n->dw ? " dw" : "");
}

/* Rows with a common offset: a mean far from 0 is where variance is easily got wrong. */
static ck_buf *rows_of(ck *c, const norm *n, bool output)
{
    ck_buf *x = output ? ck_inout(c, CK_F32, n->rows, n->cols, n->cols, 1)
                       : ck_in(c, CK_F32, (int64_t)n->rows * n->cols, 1);
    for (int i = 0; i < n->rows; i++) {
        const double offset = ck_uniform(c, 3), spread = exp(ck_uniform(c, 3));
        for (int64_t j = 0; j < n->cols; j++)
            ck_set(x, (int64_t)i * n->cols + j, offset * spread + ck_uniform(c, spread));
    }
    return x;
}

/* Statistics of a row; returns 1/sqrt(variance + eps), around the mean or around 0. */
static double row_stat(const double *x, int cols, double eps, bool centred, double *mean)
{
    double sum = 0, square = 0;
    for (int i = 0; i < cols; i++) sum += x[i];
    *mean = centred ? sum / cols : 0;
    for (int i = 0; i < cols; i++) square += (x[i] - *mean) * (x[i] - *mean);
    return 1 / sqrt(square / cols + eps);
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static void call_rms(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    norm *n = args;
    (void)ws;
    k->rmsnorm_fwd(q, n->y->p, ck_ptr(n->kept), n->x->p, n->w->p, n->rows, n->cols, n->eps);
}

static void want_rms(void *args)
{
    norm *n = args;
    const double *x = ck_was(n->x), *w = ck_was(n->w);
    for (int64_t i = 0; i < n->rows; i++) {
        double mean;
        const double r = row_stat(x + i * n->cols, n->cols, n->eps, false, &mean);
        ck_want(n->kept, i, r, r);
        for (int64_t j = 0; j < n->cols; j++) {
            const double y = x[i * n->cols + j] * r * w[j];
            ck_want(n->y, i * n->cols + j, y, fabs(y));
        }
    }
}

static void call_layer(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    norm *n = args;
    (void)ws;
    k->layernorm_fwd(q, ck_ptr(n->y), ck_ptr(n->y32), ck_ptr(n->kept), n->x->p, n->w->p, n->b->p, n->rows,
                     n->cols, n->eps);
}

static void want_layer(void *args)
{
    norm *n = args;
    const double *x = ck_was(n->x), *g = ck_was(n->w), *b = ck_was(n->b);
    for (int64_t i = 0; i < n->rows; i++) {
        double mean, top = 0;
        const double rstd = row_stat(x + i * n->cols, n->cols, n->eps, true, &mean);
        for (int64_t j = 0; j < n->cols; j++) top = fmax(top, fabs(x[i * n->cols + j]));
        ck_want(n->kept, 2 * i, mean, top);
        ck_want(n->kept, 2 * i + 1, rstd, rstd * (1 + top * rstd));
        for (int64_t j = 0; j < n->cols; j++) {
            const int64_t at = i * n->cols + j;
            const double y = (x[at] - mean) * rstd * g[j] + b[j],
                         size = (fabs(x[at]) + top) * rstd * fabs(g[j]) + fabs(b[j]);
            ck_want(n->y, at, y, size);
            ck_want(n->y32, at, y, size);
        }
    }
}

static void forward_case(ck *c, int rows, int cols)
{
    const bool layer = strcmp(c->check->name, "layernorm_fwd") == 0;
    norm n = {.rows = rows, .cols = cols, .eps = ck_flip(c) ? 1e-6f : layer ? 1e-12f : 1e-3f};
    const int outputs = c->bench || !layer ? 0 : ck_below(c, 4);
    n.in_place = outputs == 1;
    n.x = rows_of(c, &n, n.in_place);
    if (cols == 1 && layer) n.eps = 1e-3f; /* the variance is 0 */
    n.w = ck_in(c, CK_F32, cols, 2);
    n.b = layer ? ck_in(c, CK_F32, cols, 1) : NULL;
    if (outputs != 2) n.y = ck_out(c, CK_ACT, rows, cols, cols);
    if (outputs) n.y32 = n.in_place ? n.x : ck_out(c, CK_F32, rows, cols, cols);
    if (c->bench || ck_flip(c))
        n.kept = ck_out(c, CK_F32, 1, (int64_t)rows * (layer ? 2 : 1), (int64_t)rows * (layer ? 2 : 1));
    ck_call call = {.args = &n, .call = layer ? call_layer : call_rms, .want = layer ? want_layer : want_rms};
    call.bytes = (double)rows * cols * (c->dtype ? 6 : 8);
    shape_of(&n, &call);
    ck_run(c, &call);
}

/* ---- backward ------------------------------------------------------------------------------------------ */

static size_t ws_norm(const b2_kernels *k, void *args, int threads)
{
    norm *n = args;
    return k->norm_bwd_ws(n->rows, n->cols, threads);
}

static void call_rms_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    norm *n = args;
    k->rmsnorm_bwd(q, ck_ptr(n->dx), ck_ptr(n->dw), n->dy->p, n->x->p, n->stat->p, n->w->p, n->rows, n->cols,
                   n->beta, ws);
}

static void call_layer_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    norm *n = args;
    k->layernorm_bwd(q, ck_ptr(n->dx), ck_ptr(n->dw), ck_ptr(n->db), n->dy->p, n->x->p, n->stat->p, n->w->p,
                     n->rows, n->cols, n->beta, ws);
}

/* dx and the sums over rows of one row. rstd, mean: as stored; the rms norm is the one with mean 0 and no db.
 */
static void want_row(norm *n, int64_t i, double mean, double rstd, bool centred)
{
    const double *x = ck_was(n->x) + i * n->cols, *dy = ck_was(n->dy) + i * n->cols, *w = ck_was(n->w),
                 *dx = ck_was(n->dx);
    double sum = 0, dot = 0, sum_size = 0, dot_size = 0;
    for (int j = 0; j < n->cols; j++) {
        const double h = (x[j] - mean) * rstd, d = dy[j] * w[j], size = (fabs(x[j]) + fabs(mean)) * rstd;
        sum += centred ? d : 0;
        sum_size += centred ? fabs(d) : 0;
        dot += d * h;
        dot_size += fabs(d) * size;
        if (n->dw) {
            n->dw->want[j] += dy[j] * h;
            n->dw->mag[j] += fabs(dy[j]) * size;
        }
        if (n->db) {
            n->db->want[j] += dy[j];
            n->db->mag[j] += fabs(dy[j]);
        }
    }
    for (int j = 0; n->dx && j < n->cols; j++) {
        const double h = (x[j] - mean) * rstd, size = (fabs(x[j]) + fabs(mean)) * rstd;
        const double old = n->beta ? n->beta * dx[i * n->cols + j] : 0, d = dy[j] * w[j];
        ck_want(n->dx, i * n->cols + j, old + rstd * (d - sum / n->cols - h * dot / n->cols),
                fabs(old) + rstd * (fabs(d) + sum_size / n->cols + size * dot_size / n->cols));
    }
}

static void want_backward(norm *n, bool centred)
{
    for (int j = 0; j < n->cols; j++) {
        if (n->dw) ck_want(n->dw, j, ck_was(n->dw)[j], fabs(ck_was(n->dw)[j]));
        if (n->db) ck_want(n->db, j, ck_was(n->db)[j], fabs(ck_was(n->db)[j]));
    }
    const double *stat = ck_was(n->stat);
    for (int64_t i = 0; i < n->rows; i++) {
        want_row(n, i, centred ? stat[2 * i] : 0, centred ? stat[2 * i + 1] : stat[i], centred);
    }
}

static void want_rms_bwd(void *args) { want_backward(args, false); }
static void want_layer_bwd(void *args) { want_backward(args, true); }

/* What the forward would have kept. */
static void stats(ck *c, norm *n, bool centred)
{
    n->stat = ck_in(c, CK_F32, (int64_t)n->rows * (centred ? 2 : 1), 0);
    for (int64_t i = 0; i < n->rows; i++) {
        const float *x = (const float *)n->x->p + i * n->cols;
        double sum = 0, square = 0;
        for (int j = 0; j < n->cols; j++) sum += x[j];
        const double mean = centred ? sum / n->cols : 0;
        for (int j = 0; j < n->cols; j++) square += (x[j] - mean) * (x[j] - mean);
        if (centred) ck_set(n->stat, 2 * i, mean);
        ck_set(n->stat, centred ? 2 * i + 1 : i, 1 / sqrt(square / n->cols + 1e-3));
    }
}

static void backward_case(ck *c, int rows, int cols)
{
    const bool layer = strcmp(c->check->name, "layernorm_bwd") == 0;
    norm n = {.rows = rows, .cols = cols, .eps = 1e-3f, .beta = (float)ck_flip(c)};
    n.x = rows_of(c, &n, false);
    n.dy = ck_in(c, CK_F32, (int64_t)rows * cols, 1);
    n.w = ck_in(c, CK_F32, cols, 2);
    stats(c, &n, layer);
    const int wanted = c->bench ? 0 : ck_below(c, 5);
    if (wanted != 1)
        n.dx = n.beta ? ck_inout(c, CK_F32, rows, cols, cols, 1) : ck_out(c, CK_F32, rows, cols, cols);
    if (wanted != 2) n.dw = ck_inout(c, CK_F32, 1, cols, cols, 1);
    if (wanted != 2 && wanted != 3 && layer) n.db = ck_inout(c, CK_F32, 1, cols, cols, 1);
    ck_call call = {.args = &n, .ws = ws_norm};
    call.call = layer ? call_layer_bwd : call_rms_bwd;
    call.want = layer ? want_layer_bwd : want_rms_bwd;
    call.bytes = (double)rows * cols * (n.beta ? 16 : 12);
    shape_of(&n, &call);
    ck_run(c, &call);
}

static void every_case(ck *c, void (*run)(ck *, int, int))
{
    /* fixed items, rows of each, columns: ViT, Q-Former, T5's encoder, a decoder's step; the quickstart */
    static const int bench[][3] = {{0, 257, 1408}, {0, 32, 768}, {0, 48, 2048}, {0, 1, 2048}, {64, 50, 128}};
    for (int i = 0; c->bench && i < 5; i++) {
        const int items = ck_items(c, bench[i][0]);
        if (items) run(c, items * bench[i][1], bench[i][2]);
    }
    if (c->bench) return;
    static const int edges[] = {1, 7, 31, 33, 63, 64, 65, 127, 128, 129, 257, 1408, 2048};
    run(c, 0, 64);
    for (int i = 0; i < 13; i++) run(c, ck_size(c, 70), edges[i]);
    for (int i = 0; i < 20; i++) run(c, ck_size(c, 70), ck_size(c, 700));
}

static void check_forward(ck *c) { every_case(c, forward_case); }
static void check_backward(ck *c) { every_case(c, backward_case); }

/* A few roundings on each value, sums over a row in f32 pieces; sums over up to 70 rows. */
const ck_check ck_norm[] = {
    {"rmsnorm_fwd", NULL, check_forward, {1e-6, 1e-6}},
    {"rmsnorm_bwd", "norm_bwd_ws", check_backward, {1e-6, 1e-6}},
    {"layernorm_fwd", NULL, check_forward, {1e-6, 1e-6}},
    {"layernorm_bwd", "norm_bwd_ws", check_backward, {1e-6, 1e-6}},
    {0},
};
