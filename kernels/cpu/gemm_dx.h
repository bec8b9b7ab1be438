/* Gradients of products' inputs, more than a few rows: weight rows are copied into panels (all of them once
 * when they are small, else by the task that needs them) and dy is read as it lies, or a piece of it is
 * widened. A dx of bf16 is rounded from sums that are done. Included after a simd header; used with floats
 * and with pairs of bf16 that pass for floats. */
#ifndef B2_KERNELS_CPU_GEMM_DX_H
#define B2_KERNELS_CPU_GEMM_DX_H
#include "kernels/cpu/gemm_quant.h"

enum {
    DX_COLS = (TILE_NV == 2 ? 4 : 2) * NR, /* columns of a task that copies its own weights */
    DX_DEPTH = 1024,                       /* outputs that it copies at a time */
    DX_ROWS = 20 * GROUP,                  /* rows that it takes at a time if their sums must wait */
    X_PANELS = 8,                          /* panels that a packing task fills */
    DX_LOCAL = B2_ACT == 0 ? 0 : LOCAL_ROOM
};

/* Outputs o0.. of all blocks, columns c0.. of their rows, as panels of n columns together. */
static inline void pack_weight_columns(const gemm *g, float *dst, size_t panel, int o0, int outs, int c0,
                                       int n)
{
    const size_t size = b2_dtype_size(g->pairs ? B2_BF16 : g->wf);
    const b2_rows *w = g->w;
    for (int done = 0, some; done < outs; done += some, o0 += some) {
        for (; o0 >= w->n; w++) o0 -= w->n;
        some = w->n - o0 < outs - done ? w->n - o0 : outs - done;
        if (quantised(g->wf)) {
            pack_quant_from(dst, panel, done, g, w, o0, some, c0, n);
            continue;
        }
        const char *from = weight_row(g, w, o0) + (size_t)c0 * size;
        if (g->pairs)
            pack_pairs_from(dst, panel, done, from, weight_stride(g), n, some);
        else
            pack_straight_from(dst, panel, done, from, weight_stride(g), g->wf, n, some);
    }
}

/* ---- small weights: all of them are packed ------------------------------------------------------------- */

static void pack_all_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int step = NR * X_PANELS, c0 = (int)chunk * step;
    (void)worker;
    pack_weight_columns(g, g->packed + (size_t)c0 * (size_t)g->n, (size_t)g->n * NR, 0, g->n, c0,
                        b2_cut(g->k, step, (int)chunk));
}

/* Columns c0 to c1-1 of a task's rows of dx; sums go to c, ldc floats a row. */
static inline void dx_sums(const gemm *g, int chunk, int c0, int c1, float *c, int ldc, float *local)
{
    const int i0 = chunk * GROUP, rows = b2_cut(g->m, GROUP, chunk);
    for (int p = 0; p < pieces(g->n); p++) {
        b2_tile t = {.cs = 1, .ldc = ldc, .alpha = g->alpha, .beta = p ? 1 : g->beta};
        t.k = b2_cut(g->n, KC, p);
        t.a = rows_f32(&g->dy, i0, rows, p * KC, t.k, local, &t.rs);
        for (int at = c0; at < c1; at += NR) {
            const int n = c1 - at < NR ? c1 - at : NR;
            t.b = g->packed + (size_t)at * (size_t)g->n + (size_t)p * KC * (size_t)panel_width(n);
            t.c = c + (at - c0);
            ISA_FN(tile)(rows, n, &t);
        }
    }
}

/* Sums grow in dx itself where it is f32; else in the second-level cache, ROUND_COLS columns at a time. */
static void dx_rows(void *ctx, int64_t task, int worker)
{
    const gemm *g = ctx;
    const int chunk = (int)task, i0 = chunk * GROUP;
    float *local = g->local + (size_t)worker * g->each;
    if (!rounds(&g->y)) {
        dx_sums(g, chunk, 0, g->k, b2_out_at(&g->y, i0, 0), g->y.ld, local);
        return;
    }
    float *sums = local + GROUP * KC;
    for (int c0 = 0; c0 < g->k; c0 += ROUND_COLS) {
        const int c1 = g->k - c0 < ROUND_COLS ? g->k : c0 + ROUND_COLS;
        dx_sums(g, chunk, c0, c1, sums, ROUND_COLS, local);
        round_sums(&g->y, i0, b2_cut(g->m, GROUP, chunk), c0, c1 - c0, sums, ROUND_COLS);
    }
}

/* ---- large ones: a task packs its own ------------------------------------------------------------------ */

/* What such a task has at hand. */
typedef struct dx_slice {
    int c0, cols;  /* its columns */
    int o0, depth; /* the outputs that are packed */
    float *packed; /* [panels of columns][DX_DEPTH][NR] */
    float *wide;   /* room for a piece of dy */
    float *sums;   /* [GROUP][DX_COLS] */
} dx_slice;

/* Rows i0.. of dx from those outputs; sums of all outputs grow in `to`, ld floats a row. */
static inline void dx_block(const gemm *g, const dx_slice *s, int i0, int rows, float *to, int ld)
{
    for (int p = 0; p < pieces(s->depth); p++) {
        b2_tile t = {.cs = 1, .k = b2_cut(s->depth, KC, p), .ldc = DX_COLS, .alpha = 1, .beta = p ? 1 : 0};
        t.a = rows_f32(&g->dy, i0, rows, s->o0 + p * KC, t.k, s->wide, &t.rs);
        for (int c = 0; c < s->cols; c += NR) {
            const int n = s->cols - c < NR ? s->cols - c : NR;
            t.b = s->packed + c * DX_DEPTH + p * KC * panel_width(n);
            t.c = s->sums + c;
            ISA_FN(tile)(rows, n, &t);
        }
    }
    const vf alpha = vset1(g->alpha);
    const float beta = s->o0 ? 1 : g->beta, *sums = s->sums;
    for (int row = 0; row < rows; row++, sums += DX_COLS, to += ld)
        SWEEP(s->cols, vput(to + i, vkeep(to + i, beta, vmul(alpha, vget(sums + i, len)), len), len));
}

/* Rows i0 to i1-1 of a task's columns, DX_DEPTH outputs at a time; sums of GROUP rows stay in the first-level
 * cache until those are done. */
static inline void dx_all_outputs(const gemm *g, dx_slice *s, int i0, int i1, float *to, int ld)
{
    for (s->o0 = 0; s->o0 == 0 || s->o0 < g->n; s->o0 += DX_DEPTH) {
        s->depth = g->n - s->o0 < DX_DEPTH ? g->n - s->o0 : DX_DEPTH;
        pack_weight_columns(g, s->packed, DX_DEPTH * NR, s->o0, s->depth, s->c0, s->cols);
        for (int i = i0; i < i1; i += GROUP)
            dx_block(g, s, i, i1 - i < GROUP ? i1 - i : GROUP, to + (ptrdiff_t)(i - i0) * ld, ld);
    }
}

/* Floats of a thread for it: weights; a piece of dy and sums that wait, where there may be any. */
static inline size_t dx_slice_room(int m)
{
    const size_t rows = m < DX_ROWS ? (size_t)m : DX_ROWS;
    return (size_t)DX_DEPTH * DX_COLS + (B2_ACT == 0 ? 0 : GROUP * KC + rows * DX_COLS);
}

static void dx_columns(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    float sums[GROUP * DX_COLS] = {0};
    dx_slice s = {.c0 = (int)chunk * DX_COLS, .cols = b2_cut(g->k, DX_COLS, (int)chunk), .sums = sums};
    s.packed = g->local + (size_t)worker * g->each;
    s.wide = s.packed + DX_DEPTH * DX_COLS;
    if (!rounds(&g->y)) {
        dx_all_outputs(g, &s, 0, g->m, b2_out_at(&g->y, 0, s.c0), g->y.ld);
        return;
    }
    float *waiting = s.wide + GROUP * KC;
    for (int i0 = 0; i0 < g->m; i0 += DX_ROWS) {
        const int i1 = g->m - i0 < DX_ROWS ? g->m : i0 + DX_ROWS;
        dx_all_outputs(g, &s, i0, i1, waiting, DX_COLS);
        round_sums(&g->y, i0, i1 - i0, s.c0, s.cols, waiting, DX_COLS);
    }
}

/* ---- both ---------------------------------------------------------------------------------------------- */

static inline void run_dx(b2_queue *q, gemm *g, float *ws)
{
    if (g->m <= 0 || g->k <= 0) return;
    g->packed = ws;
    if (packs_weights(g->m, g->n, g->k)) {
        g->local = ws + panels_width(g->k) * (size_t)g->n;
        g->each = DX_LOCAL;
        b2_pool_run(q->pool, b2_cuts(g->k, NR * X_PANELS), pack_all_columns, g);
        b2_pool_run(q->pool, b2_cuts(g->m, GROUP), dx_rows, g);
    } else {
        g->local = ws;
        g->each = dx_slice_room(g->m);
        b2_pool_run(q->pool, b2_cuts(g->k, DX_COLS), dx_columns, g);
    }
}

/* Floats that it wants. Fewer rows may copy their own weights, and their room must be in it. */
static inline size_t dx_room(int m, int n, int k, int threads)
{
    const size_t own = (size_t)threads * dx_slice_room(m);
    if (!packs_weights(m, n, k)) return own;
    const size_t packed = panels_width(k) * (size_t)n + (size_t)threads * DX_LOCAL;
    return packed > own ? packed : own;
}
#endif
