/* Gradients of dense products; body of gemm_grad_tmpl_<isa>.c. dx: gemm_dx.h, and few rows here. dw: x and dy
 * are both packed. Sums run in order, cut every KC. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_dx.h"
#include "kernels/cpu/gemm_grad.h"

enum {
    DX_FEW_COLS = 256, /* columns of a task with few rows */
    DX_STEP = 4,       /* outputs that it adds together */
    DW_ROWS = 1024,    /* rows that a weight gradient takes at a time */
    DW_SLICE = 64,     /* rows that a packing task takes */
    DW_GROUPS = 4,     /* row groups of dw in a task */
    DW_OUT = DW_GROUPS * TILE_MR,
    PACK_OUT = 4 * DW_OUT /* columns of dy that a packing task takes; at most KC */
};

/* ---- dx, few rows -------------------------------------------------------------------------------------- */

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

/* sums[i] += dy[i, 0...] times n columns from c0 on of `outs` rows of w from o on. */
static inline void add_outputs(const gemm *g, float *sums, const float *dy, ptrdiff_t ld, const b2_rows *rows,
                               int o, const int outs, int c0, int n)
{
    for (int c = 0; c < n; c += VL) {
        const int len = n - c < VL ? n - c : VL;
        vf w[DX_STEP];
        for (int j = 0; j < outs; j++) w[j] = load_columns(g, rows, o + j, c0 + c, len);
        for (int i = 0; i < g->m; i++) {
            const float *d = dy + i * ld;
            float *s = sums + i * DX_FEW_COLS + c;
            vf acc = vload(s);
            for (int j = 0; j < outs; j++) acc = vfma(w[j], vset1(d[j]), acc);
            vstore(s, acc);
        }
    }
}

/* n columns of row `row` of dx from c0 on. */
static inline void put_gradient(const gemm *g, int row, int c0, int n, const float *sums)
{
    const vf alpha = vset1(g->alpha);
    void *to = b2_out_at(&g->y, row, c0);
    float *dx = to;
    if (rounds(&g->y))
        SWEEP(n, aput((act_t *)to + i, vmul(alpha, vget(sums + i, len)), len));
    else
        SWEEP(n, vput(dx + i, vkeep(dx + i, g->beta, vmul(alpha, vget(sums + i, len)), len), len));
}

/* Few rows: weights are read as they lie, a slice of their columns to a task. */
static void dx_few(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int c0 = (int)chunk * DX_FEW_COLS, n = b2_cut(g->k, DX_FEW_COLS, (int)chunk);
    float sums[B2_FEW_ROWS * DX_FEW_COLS] = {0}, wide[B2_FEW_ROWS * KC];
    int at = 0;
    (void)worker;
    for (const b2_rows *w = g->w; w < g->w + g->nw; at += w++->n)
        for (int o0 = 0; o0 < w->n; o0 += KC) {
            const int outs = w->n - o0 < KC ? w->n - o0 : KC;
            ptrdiff_t ld;
            const float *dy = rows_f32(&g->dy, 0, g->m, at + o0, outs, wide, &ld);
            int o = 0;
            for (; o + DX_STEP <= outs; o += DX_STEP)
                add_outputs(g, sums, dy + o, ld, w, o0 + o, DX_STEP, c0, n);
            for (; o < outs; o++) add_outputs(g, sums, dy + o, ld, w, o0 + o, 1, c0, n);
        }
    for (int r = 0; r < g->m; r++) put_gradient(g, r, c0, n, sums + r * DX_FEW_COLS);
}

static void input_gradient(b2_queue *q, gemm *g, void *ws)
{
    g->n = outputs(g->w, g->nw);
    if (g->m > B2_FEW_ROWS)
        run_dx(q, g, ws);
    else if (g->m > 0)
        b2_pool_run(q->pool, b2_cuts(g->k, DX_FEW_COLS), dx_few, g);
}

void TIER_FN(gemm_dx_wf32)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                           float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_F32;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wbf16)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                            float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_BF16;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wi8)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                          float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I8;
    input_gradient(q, &g, ws);
}

void TIER_FN(gemm_dx_wi4)(b2_queue *q, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                          float alpha, float beta, void *ws)
{
    gemm g = {.y = dx, .dy = dy, .w = w, .nw = nw, .m = m, .k = k, .alpha = alpha, .beta = beta};
    g.wf = B2_I4;
    input_gradient(q, &g, ws);
}

size_t TIER_FN(gemm_dx_ws)(int m, int n, int k, int threads)
{
    return dx_room(m, n, k, threads) * sizeof(float);
}

/* ---- dw ------------------------------------------------------------------------------------------------ */

typedef struct dw_job {
    gemm g;
    int i0, rows;  /* the rows that are packed */
    float *x, *dy; /* [panels of k][rows][NR], [groups of n][rows][TILE_MR] */
} dw_job;

/* n columns from o0 on of k rows of dy from i0 on, in groups of TILE_MR columns, `group` floats apart: the
 * columns form of the tile's A. */
static void pack_columns(float *dst, size_t group, const b2_in *dy, int i0, int o0, int n, int k)
{
    float wide[KC];
    ptrdiff_t ld;
    for (int i = 0; i < k; i++, dst += TILE_MR) {
        const float *src = rows_f32(dy, i0 + i, 1, o0, n, wide, &ld);
        float *to = dst;
        int o = 0;
        /* A whole vector is written faster than 6 floats; what is too much, the next row overwrites. */
        if (TILE_MR == 6 && i + 1 < k)
            for (; o + VL <= n; o += TILE_MR, to += group) vstore(to, vload(src + o));
        for (; o + TILE_MR <= n; o += TILE_MR, to += group) memcpy(to, src + o, TILE_MR * sizeof *to);
        if (o < n) memcpy(to, src + o, (size_t)(n - o) * sizeof *to);
    }
}

static void pack_both(void *ctx, int64_t chunk, int worker)
{
    const dw_job *j = ctx;
    const gemm *g = &j->g;
    const int slices = b2_cuts(j->rows, DW_SLICE), s = (int)(chunk % slices), step = NR * X_PANELS;
    const int i0 = s * DW_SLICE, len = b2_cut(j->rows, DW_SLICE, s), parts = b2_cuts(g->k, step);
    const int part = (int)(chunk / slices);
    (void)worker;
    if (part < parts) {
        const b2_dtype xf = B2_ACT == 0 ? B2_F32 : g->xf;
        const size_t size = b2_dtype_size(xf),
                     at = (size_t)(j->i0 + i0) * (size_t)g->k + (size_t)(part * step);
        pack_straight_from(j->x + (size_t)part * step * (size_t)j->rows, (size_t)j->rows * NR, i0,
                           (const char *)g->x + at * size, (size_t)g->k * size, xf, b2_cut(g->k, step, part),
                           len);
        return;
    }
    const int o = (part - parts) * PACK_OUT;
    pack_columns(j->dy + (size_t)o * (size_t)j->rows + (size_t)i0 * TILE_MR, (size_t)j->rows * TILE_MR,
                 &g->dy, j->i0 + i0, o, b2_cut(g->n, PACK_OUT, part - parts), len);
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
                               .c = g->dw + (size_t)o * (size_t)g->k + part * NR,
                               .ldc = g->k,
                               .alpha = g->alpha,
                               .beta = 1};
            ISA_FN(tile)(o1 - o < TILE_MR ? o1 - o : TILE_MR, n, &t);
        }
}

void TIER_FN(dw_of)(b2_queue *q, float *dw, b2_in dy, const void *x, b2_dtype xf, int m, int n, int k,
                    float alpha, void *ws)
{
    dw_job j = {.g = {.dw = dw, .dy = dy, .x = x, .xf = xf, .m = m, .n = n, .k = k, .alpha = alpha}, .x = ws};
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

void TIER_FN(gemm_dw)(b2_queue *q, float *dw, b2_in dy, const void *x, int m, int n, int k, float alpha,
                      void *ws)
{
    TIER_FN(dw_of)(q, dw, dy, x, (b2_dtype)B2_ACT, m, n, k, alpha, ws);
}

size_t TIER_FN(gemm_dw_ws)(int m, int n, int k, int threads)
{
    const size_t rows = m < DW_ROWS ? (size_t)m : DW_ROWS;
    (void)threads;
    return (b2_line(panels_width(k) * rows) + ((size_t)n + TILE_MR) * rows) * sizeof(float);
}
