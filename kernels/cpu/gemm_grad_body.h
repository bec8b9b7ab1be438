/* Gradients of dense products; body of gemm_grad_tmpl_<isa>.c. dx: weight rows are copied into panels (all
 * of them once when they are small, else by the task that needs them) and dy is read as it lies. dw: x and
 * dy are both packed. Sums run in order, cut every KC. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_quant.h"
#include "kernels/cpu/sweep.h"

enum {
    DX_PANELS = TILE_NV == 2 ? 4 : 2, /* panels of a task that copies its own weights */
    DX_DEPTH = 1024,                  /* outputs that it copies at a time */
    DX_FEW_COLS = 256,                /* columns of a task with few rows */
    DX_STEP = 4,                      /* outputs that it adds together */
    X_PANELS = 8,                     /* panels that a packing task fills */
    DW_ROWS = 1024,                   /* rows that a weight gradient takes at a time */
    DW_SLICE = 64,                    /* rows that a packing task takes */
    DW_GROUPS = 4,                    /* row groups of dw in a task */
    DW_OUT = DW_GROUPS * TILE_MR,
    PACK_OUT = 4 * DW_OUT /* columns of dy that a packing task takes */
};

/* ---- dx ------------------------------------------------------------------------------------------------ */

/* Outputs o0.. of all blocks, columns c0.. of their rows, as panels of n columns together. */
static void pack_weight_columns(const gemm *g, float *dst, size_t panel, int o0, int outs, int c0, int n)
{
    const size_t size = b2_dtype_size(g->wf);
    const b2_rows *w = g->w;
    for (int done = 0, some; done < outs; done += some, o0 += some) {
        for (; o0 >= w->n; w++) o0 -= w->n;
        some = w->n - o0 < outs - done ? w->n - o0 : outs - done;
        if (quantised(g->wf))
            pack_quant_from(dst, panel, done, g, w, o0, some, c0, n);
        else
            pack_straight_from(dst, panel, done, weight_row(g, w, o0) + (size_t)c0 * size, weight_stride(g),
                               g->wf, n, some);
    }
}

static void pack_all_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int step = NR * X_PANELS, c0 = (int)chunk * step;
    (void)worker;
    pack_weight_columns(g, g->packed + (size_t)c0 * (size_t)g->n, (size_t)g->n * NR, 0, g->n, c0,
                        b2_cut(g->k, step, (int)chunk));
}

/* Columns c0.. (n of them) and rows i0.. of dx, from piece p of the outputs. */
static void dx_piece(const gemm *g, int i0, int rows, int c0, int n, int p, const float *panel)
{
    const b2_tile t = {.a = g->dy + (size_t)i0 * (size_t)g->ldy + p * KC,
                       .rs = g->ldy,
                       .cs = 1,
                       .b = panel,
                       .k = b2_cut(g->n, KC, p),
                       .c = g->y + (size_t)i0 * (size_t)g->k + c0,
                       .ldc = g->k,
                       .alpha = g->alpha,
                       .beta = p ? 1 : g->beta};
    ISA_FN(tile)(rows, n, &t);
}

static void dx_rows(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int i0 = (int)chunk * GROUP, rows = b2_cut(g->m, GROUP, (int)chunk);
    (void)worker;
    for (int p = 0; p < pieces(g->n); p++)
        for (int c0 = 0; c0 < g->k; c0 += NR) {
            const int n = g->k - c0 < NR ? g->k - c0 : NR;
            dx_piece(g, i0, rows, c0, n, p,
                     g->packed + (size_t)c0 * (size_t)g->n + (size_t)p * KC * (size_t)panel_width(n));
        }
}

static void dx_block(const gemm *g, const float *packed, float *sums, int o0, int depth, int c0, int cols,
                     int i0, int rows)
{
    const float *dy = g->dy + (size_t)i0 * (size_t)g->ldy + o0;
    const float beta = o0 ? 1 : g->beta;
    float *dx = g->y + (size_t)i0 * (size_t)g->k + c0;
    for (int p = 0; p < pieces(depth); p++)
        for (int c = 0; c < cols; c += NR) {
            const int n = cols - c < NR ? cols - c : NR;
            const b2_tile t = {.a = dy + p * KC,
                               .rs = g->ldy,
                               .cs = 1,
                               .b = packed + c * DX_DEPTH + p * KC * panel_width(n),
                               .k = b2_cut(depth, KC, p),
                               .c = sums + c,
                               .ldc = DX_PANELS * NR,
                               .alpha = 1,
                               .beta = p ? 1 : 0};
            ISA_FN(tile)(rows, n, &t);
        }
    const vf alpha = vset1(g->alpha);
    for (int row = 0; row < rows; row++, sums += DX_PANELS * NR, dx += g->k)
        SWEEP(cols, vput(dx + i, vkeep(dx + i, beta, vmul(alpha, vget(sums + i, len)), len), len));
}

/* A task that packs its own weights: DX_PANELS panels of columns, DX_DEPTH outputs at a time; sums of GROUP
 * rows of dx stay in the first-level cache until those are done. */
static void dx_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    float *packed = g->local + (size_t)worker * g->each, sums[GROUP * DX_PANELS * NR] = {0};
    const int c0 = (int)chunk * DX_PANELS * NR, cols = b2_cut(g->k, DX_PANELS * NR, (int)chunk);
    for (int o0 = 0; o0 == 0 || o0 < g->n; o0 += DX_DEPTH) {
        const int depth = g->n - o0 < DX_DEPTH ? g->n - o0 : DX_DEPTH;
        pack_weight_columns(g, packed, DX_DEPTH * NR, o0, depth, c0, cols);
        for (int i0 = 0; i0 < g->m; i0 += GROUP)
            dx_block(g, packed, sums, o0, depth, c0, cols, i0, g->m - i0 < GROUP ? g->m - i0 : GROUP);
    }
}

/* Columns c.. (len of them) of row o of w. */
static inline vf load_columns(const gemm *g, const b2_rows *w, int o, int c, int len)
{
    if (quantised(g->wf)) {
        const quant_row r = quant_row_at(g, w, o);
        return load_quant(&r, g->wf, c, len);
    }
    const char *at = weight_row(g, w, o) + (size_t)c * b2_dtype_size(g->wf);
    return len == VL ? load_any(at, g->wf) : load_some(at, g->wf, len);
}

/* sums[i] += dy[i, first + o...] times n columns from c0 on of `outs` rows of w from o on. */
static inline void add_outputs(const gemm *g, float *sums, const b2_rows *rows, int first, int o,
                               const int outs, int c0, int n)
{
    for (int c = 0; c < n; c += VL) {
        const int len = n - c < VL ? n - c : VL;
        vf w[DX_STEP];
        for (int j = 0; j < outs; j++) w[j] = load_columns(g, rows, o + j, c0 + c, len);
        for (int i = 0; i < g->m; i++) {
            const float *dy = g->dy + (size_t)i * (size_t)g->ldy + first + o;
            float *s = sums + i * DX_FEW_COLS + c;
            vf acc = vload(s);
            for (int j = 0; j < outs; j++) acc = vfma(w[j], vset1(dy[j]), acc);
            vstore(s, acc);
        }
    }
}

/* Few rows: weights are read as they lie, a slice of their columns to a task. */
static void dx_few(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int c0 = (int)chunk * DX_FEW_COLS, n = b2_cut(g->k, DX_FEW_COLS, (int)chunk);
    float sums[B2_FEW_ROWS * DX_FEW_COLS] = {0};
    int at = 0;
    (void)worker;
    for (const b2_rows *w = g->w; w < g->w + g->nw; at += w++->n) {
        int o = 0;
        for (; o + DX_STEP <= w->n; o += DX_STEP) add_outputs(g, sums, w, at, o, DX_STEP, c0, n);
        for (; o < w->n; o++) add_outputs(g, sums, w, at, o, 1, c0, n);
    }
    for (int r = 0; r < g->m; r++) {
        float *dx = g->y + (size_t)r * (size_t)g->k + c0;
        const float *s = sums + r * DX_FEW_COLS;
        SWEEP(n, vput(dx + i, vkeep(dx + i, g->beta, vmul(vset1(g->alpha), vget(s + i, len)), len), len));
    }
}

static void input_gradient(b2_queue *q, gemm *g, void *ws)
{
    g->n = outputs(g->w, g->nw);
    g->packed = g->local = ws;
    g->each = (size_t)DX_DEPTH * DX_PANELS * NR;
    if (g->m <= 0 || g->k <= 0) return;
    if (g->m <= B2_FEW_ROWS) {
        b2_pool_run(q->pool, b2_cuts(g->k, DX_FEW_COLS), dx_few, g);
    } else if (packs_weights(g->m, g->n, g->k)) {
        b2_pool_run(q->pool, b2_cuts(g->k, NR * X_PANELS), pack_all_columns, g);
        b2_pool_run(q->pool, b2_cuts(g->m, GROUP), dx_rows, g);
    } else {
        b2_pool_run(q->pool, b2_cuts(g->k, DX_PANELS * NR), dx_columns, g);
    }
}

void TIER_FN(gemm_dx_wf32)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                           int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .ldy = ldy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_F32;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wbf16)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                            int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .ldy = ldy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_BF16;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wi8)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                          int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .ldy = ldy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I8;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wi4)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                          int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .ldy = ldy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I4;
    input_gradient(q, &g, ws);
}

size_t TIER_FN(gemm_dx_ws)(int m, int n, int k, int threads)
{
    /* Fewer rows may copy their own weights, and their room must be in it. */
    const size_t own = (size_t)threads * DX_DEPTH * DX_PANELS * NR;
    const size_t packed = packs_weights(m, n, k) ? panels_width(k) * (size_t)n : 0;
    return (packed > own ? packed : own) * sizeof(float);
}

/* ---- dw ------------------------------------------------------------------------------------------------ */

typedef struct dw_job {
    gemm g;
    int i0, rows;  /* the rows that are packed */
    float *x, *dy; /* [panels of k][rows][NR], [groups of n][rows][TILE_MR] */
} dw_job;

static void pack_both(void *ctx, int64_t chunk, int worker)
{
    const dw_job *j = ctx;
    const gemm *g = &j->g;
    const int slices = b2_cuts(j->rows, DW_SLICE), s = (int)(chunk % slices), step = NR * X_PANELS;
    const int i0 = s * DW_SLICE, len = b2_cut(j->rows, DW_SLICE, s), parts = b2_cuts(g->k, step);
    const int part = (int)(chunk / slices);
    (void)worker;
    if (part < parts) {
        const act_t *x = (const act_t *)g->x + (size_t)(j->i0 + i0) * (size_t)g->k + part * step;
        pack_straight_from(j->x + (size_t)part * step * (size_t)j->rows, (size_t)j->rows * NR, i0,
                           (const char *)x, (size_t)g->k * sizeof *x, (b2_dtype)B2_ACT,
                           b2_cut(g->k, step, part), len);
        return;
    }
    const int o = (part - parts) * PACK_OUT;
    pack_columns(j->dy + (size_t)o * (size_t)j->rows + (size_t)i0 * TILE_MR, (size_t)j->rows * TILE_MR,
                 g->dy + (size_t)(j->i0 + i0) * (size_t)g->ldy + o, (size_t)g->ldy,
                 b2_cut(g->n, PACK_OUT, part - parts), len);
}

static void dw_part(void *ctx, int64_t chunk, int worker)
{
    const dw_job *j = ctx;
    const gemm *g = &j->g;
    const int panels = b2_cuts(g->k, NR), part = (int)(chunk % panels), o0 = (int)(chunk / panels) * DW_OUT;
    const int n = b2_cut(g->k, NR, part), o1 = g->n < o0 + DW_OUT ? g->n : o0 + DW_OUT;
    (void)worker;
    for (int i = 0; i < j->rows; i += KC)
        for (int o = o0; o < o1; o += TILE_MR) {
            const b2_tile t = {.a = j->dy + (size_t)o * (size_t)j->rows + (size_t)i * TILE_MR,
                               .rs = 1,
                               .cs = TILE_MR,
                               .b = j->x + (size_t)part * NR * (size_t)j->rows +
                                    (size_t)i * (size_t)panel_width(n),
                               .k = j->rows - i < KC ? j->rows - i : KC,
                               .c = g->y + (size_t)o * (size_t)g->k + part * NR,
                               .ldc = g->k,
                               .alpha = g->alpha,
                               .beta = 1};
            ISA_FN(tile)(o1 - o < TILE_MR ? o1 - o : TILE_MR, n, &t);
        }
}

void TIER_FN(gemm_dw)(b2_queue *q, float *dw, const float *dy, int ldy, const void *x, int m, int n, int k,
                      float alpha, void *ws)
{
    dw_job j = {.g = {.y = dw, .dy = dy, .ldy = ldy, .x = x, .m = m, .n = n, .k = k, .alpha = alpha},
                .x = ws};
    if (n <= 0 || k <= 0) return;
    const int panels = b2_cuts(k, NR), groups = b2_cuts(n, DW_OUT);
    const int packs = b2_cuts(k, NR * X_PANELS) + b2_cuts(n, PACK_OUT);
    for (; j.i0 < m; j.i0 += DW_ROWS) {
        j.rows = m - j.i0 < DW_ROWS ? m - j.i0 : DW_ROWS;
        j.dy = j.x + b2_line(panels_width(k) * (size_t)j.rows);
        b2_pool_run(q->pool, (int64_t)packs * b2_cuts(j.rows, DW_SLICE), pack_both, &j);
        b2_pool_run(q->pool, (int64_t)panels * groups, dw_part, &j);
    }
}

size_t TIER_FN(gemm_dw_ws)(int m, int n, int k, int threads)
{
    const size_t rows = m < DW_ROWS ? (size_t)m : DW_ROWS;
    (void)threads;
    return (b2_line(panels_width(k) * rows) + ((size_t)n + TILE_MR) * rows) * sizeof(float);
}
