/* Gradients of dense products; body of gemm_grad_tmpl_<isa>.c. dx: weight rows are copied into panels (all
 * of them once when they are small, else by the task that needs them) and dy is read as it lies. dw: x and
 * dy are both packed. Sums run in order, cut every KC. */
#include "kernels/cpu/gemm_common.h"

enum {
    DX_PANELS = 2,  /* panels of a task that copies its own weights */
    DW_ROWS = 1024, /* rows that a weight gradient takes at a time */
    DW_SLICE = 256, /* rows that a packing task takes */
    DW_GROUPS = 4,  /* row groups of dw in a task */
    DW_OUT = DW_GROUPS * TILE_MR
};

/* ---- dx ------------------------------------------------------------------------------------------------ */

/* Outputs o0.. of all blocks, columns c0.. of their rows, as one panel of n columns. */
static void pack_weight_columns(const gemm *g, float *dst, int o0, int outs, int c0, int n)
{
    const size_t size = b2_dtype_size(g->wf);
    const b2_rows *w = g->w;
    while (outs > 0) {
        for (; o0 >= w->n; w++) o0 -= w->n;
        const int some = w->n - o0 < outs ? w->n - o0 : outs;
        pack_straight(dst, weight_row(g, w, o0) + (size_t)c0 * size, weight_stride(g), g->wf, n, some);
        dst += (size_t)some * (size_t)panel_width(n);
        o0 += some;
        outs -= some;
    }
}

static void pack_all_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int c0 = (int)chunk * NR;
    (void)worker;
    pack_weight_columns(g, g->packed + (size_t)c0 * (size_t)g->n, 0, g->n, c0, b2_cut(g->k, NR, (int)chunk));
}

/* Columns c0.. (n of them) and rows i0.. of dx, from piece p of the outputs. */
static void dx_block(const gemm *g, int i0, int rows, int c0, int n, int p, const float *panel)
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
            dx_block(g, i0, rows, c0, n, p,
                     g->packed + (size_t)c0 * (size_t)g->n + (size_t)p * KC * (size_t)panel_width(n));
        }
}

static void dx_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    float *panel = g->local + (size_t)worker * g->each;
    const int c0 = (int)chunk * DX_PANELS * NR, c1 = c0 + b2_cut(g->k, DX_PANELS * NR, (int)chunk);
    for (int p = 0; p < pieces(g->n); p++)
        for (int c = c0; c < c1; c += NR) {
            const int n = c1 - c < NR ? c1 - c : NR;
            pack_weight_columns(g, panel, p * KC, b2_cut(g->n, KC, p), c, n);
            dx_block(g, 0, g->m, c, n, p, panel);
        }
}

static void input_gradient(b2_queue *q, gemm *g, void *ws)
{
    g->n = outputs(g->w, g->nw);
    g->packed = g->local = ws;
    g->each = (size_t)KC * NR;
    if (g->m <= 0 || g->k <= 0) return;
    if (packs_weights(g->m, g->n, g->k)) {
        b2_pool_run(q->pool, b2_cuts(g->k, NR), pack_all_columns, g);
        b2_pool_run(q->pool, b2_cuts(g->m, GROUP), dx_rows, g);
    } else {
        b2_pool_run(q->pool, b2_cuts(g->k, DX_PANELS * NR), dx_columns, g);
    }
}

void TIER_FN(gemm_dx_wf32)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                           int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx,
              .dy = dy,
              .ldy = ldy,
              .w = w,
              .nw = nw,
              .m = m,
              .k = k,
              .wf = B2_F32,
              .alpha = alpha,
              .beta = beta};
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wbf16)(b2_queue *q, float *dx, const float *dy, int ldy, const b2_rows *w, int nw, int m,
                            int k, float alpha, float beta, void *ws)
{
    gemm g = {.y = dx,
              .dy = dy,
              .ldy = ldy,
              .w = w,
              .nw = nw,
              .m = m,
              .k = k,
              .wf = B2_BF16,
              .alpha = alpha,
              .beta = beta};
    input_gradient(q, &g, ws);
}

size_t TIER_FN(gemm_dx_ws)(int m, int n, int k, int threads)
{
    if (packs_weights(m, n, k)) return panels_width(k) * (size_t)n * sizeof(float);
    return (size_t)threads * KC * NR * sizeof(float);
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
    const int slices = b2_cuts(j->rows, DW_SLICE), s = (int)(chunk % slices), panels = b2_cuts(g->k, NR);
    const int i0 = s * DW_SLICE, len = b2_cut(j->rows, DW_SLICE, s);
    int part = (int)(chunk / slices);
    (void)worker;
    if (part < panels) {
        const int n = b2_cut(g->k, NR, part), width = panel_width(n);
        const act_t *x = (const act_t *)g->x + (size_t)(j->i0 + i0) * (size_t)g->k + part * NR;
        pack_straight(j->x + (size_t)part * NR * (size_t)j->rows + (size_t)i0 * (size_t)width,
                      (const char *)x, (size_t)g->k * sizeof *x, (b2_dtype)B2_ACT, n, len);
        return;
    }
    part -= panels;
    const float *dy = g->dy + (size_t)(j->i0 + i0) * (size_t)g->ldy;
    for (int o = part * DW_OUT; o < g->n && o < (part + 1) * DW_OUT; o += TILE_MR)
        pack_columns(j->dy + (size_t)o * (size_t)j->rows + (size_t)i0 * TILE_MR, dy + o, (size_t)g->ldy,
                     g->n - o < TILE_MR ? g->n - o : TILE_MR, len);
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
    for (; j.i0 < m; j.i0 += DW_ROWS) {
        j.rows = m - j.i0 < DW_ROWS ? m - j.i0 : DW_ROWS;
        j.dy = j.x + b2_line(panels_width(k) * (size_t)j.rows);
        b2_pool_run(q->pool, (int64_t)(panels + groups) * b2_cuts(j.rows, DW_SLICE), pack_both, &j);
        b2_pool_run(q->pool, (int64_t)panels * groups, dw_part, &j);
    }
}

size_t TIER_FN(gemm_dw_ws)(int m, int n, int k, int threads)
{
    const size_t rows = m < DW_ROWS ? (size_t)m : DW_ROWS;
    (void)threads;
    return (b2_line(panels_width(k) * rows) + ((size_t)n + TILE_MR) * rows) * sizeof(float);
}
