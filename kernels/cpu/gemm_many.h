/* Forward products with many outputs: the activations are packed, weight rows are read in place, once from
 * memory, and tiles come out turned. A task takes GROUP weight rows through all rows of x, BLOCK of them
 * at a time, so that its sums stay in the first-level cache until k is done. Included after a simd header;
 * used with floats and with pairs of bf16 that pass for floats. */
#ifndef B2_KERNELS_CPU_GEMM_MANY_H
#define B2_KERNELS_CPU_GEMM_MANY_H
#include "kernels/cpu/gemm_quant.h"

enum { BLOCK = 96, BLOCK_PANELS = BLOCK / NR };

/* Where panel i of piece p of the packed activations begins. */
static inline size_t x_panel(const gemm *g, int p, int i)
{
    const size_t before = (size_t)p * KC * panels_width(g->m);
    return before + (size_t)b2_cut(g->k, KC, p) * (size_t)i * NR;
}

static void pack_x_turned(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const int i = (int)(chunk % b2_cuts(g->m, NR)), p = (int)(chunk / b2_cuts(g->m, NR));
    const size_t size = b2_dtype_size(g->xf), at = (size_t)i * NR * (size_t)g->k + (size_t)p * KC;
    (void)worker;
    pack_turned(g->packed + x_panel(g, p, i), (const char *)g->x + at * size, (size_t)g->k * size, g->xf,
                b2_cut(g->m, NR, i), b2_cut(g->k, KC, p));
}

/* A task's weight rows: their first, how many, and where their outputs go. */
typedef struct row_group {
    const char *w;
    const b2_rows *block;
    int first, outs;
    turned_end end;
} row_group;

static inline row_group group_at(const gemm *g, int part)
{
    int at;
    const b2_rows *w = find_part(g, GROUP, &part, &at);
    const int o = part * GROUP;
    const b2_out y = {b2_out_at(&g->y, 0, at + o), g->y.ld, g->y.type};
    const turned_end end = {y, g->alpha, g->beta, w->bias ? w->bias + o : NULL};
    return (row_group){weight_row(g, w, o), w, o, b2_cut(w->n, GROUP, part), end};
}

/* Asks for share i of n of rows o.. of the piece that comes after p: it is wanted when this one is done. */
static inline void ask_ahead(const gemm *g, const row_group *r, int p, int o, int rows, int i, int n)
{
    const int bytes = (p + 1) * KC < g->k ? (int)b2_row_bytes(g->wf, b2_cut(g->k, KC, p + 1)) : 0;
    const char *next = r->w + (size_t)(p + 1) * b2_row_bytes(g->wf, KC);
    for (int b = bytes * i / n & -64; b < bytes * (i + 1) / n; b += 64)
        for (int j = o; j < o + rows; j++) _mm_prefetch(next + (size_t)j * weight_stride(g) + b, _MM_HINT_T1);
}

/* Piece p of the sums of panels i0..i1-1, [panel][GROUP][NR]. */
static inline void sum_piece(const gemm *g, const row_group *r, int p, int i0, int i1, float *sums,
                             float *local)
{
    b2_tile t = {.cs = 1, .k = b2_cut(g->k, KC, p), .ldc = NR, .alpha = 1, .beta = p ? 1 : 0};
    const char *rows = r->w + (size_t)p * b2_row_bytes(g->wf, KC);
    const float *a = (const float *)(const void *)rows;
    t.rs = g->k;
    if (g->wf == B2_BF16) {
        widen_rows(local, KC, (const uint16_t *)(const void *)rows, (size_t)g->k, r->outs, t.k);
        a = local, t.rs = KC;
    } else if (quantised(g->wf)) {
        widen_quant(local, KC, g, r->block, r->first, r->outs, p * KC, t.k);
        a = local, t.rs = KC;
    }
    for (int i = i0; i < i1; i++) {
        t.b = g->packed + x_panel(g, p, i);
        for (int o = 0; o < r->outs; o += TILE_MR) {
            const int mr = r->outs - o < TILE_MR ? r->outs - o : TILE_MR;
            if (i0 == 0) ask_ahead(g, r, p, o, mr, i, i1);
            t.a = a + o * t.rs;
            t.c = sums + ((i - i0) * GROUP + o) * NR;
            ISA_FN(tile)(mr, panel_width(b2_cut(g->m, NR, i)), &t);
        }
    }
}

static void many_outputs(void *ctx, int64_t chunk, int worker)
{
    const gemm *g = ctx;
    const row_group r = group_at(g, (int)chunk);
    const int panels = b2_cuts(g->m, NR);
    float sums[BLOCK_PANELS * GROUP * NR] = {0}, *local = g->local + (size_t)worker * g->each;
    for (int i0 = 0; i0 < panels; i0 += BLOCK_PANELS) {
        const int i1 = panels - i0 < BLOCK_PANELS ? panels : i0 + BLOCK_PANELS;
        for (int p = 0; p < pieces(g->k); p++) sum_piece(g, &r, p, i0, i1, sums, local);
        for (int i = i0; i < i1; i++)
            put_turned(&r.end, i * NR, sums + (i - i0) * GROUP * NR, r.outs, b2_cut(g->m, NR, i));
    }
}

/* Floats that it wants for the packed activations. */
static inline size_t many_room(int m, int k) { return b2_line(panels_width(m) * (size_t)k); }

static inline void run_many(b2_queue *q, gemm *g)
{
    b2_pool_run(q->pool, (int64_t)b2_cuts(g->m, NR) * pieces(g->k), pack_x_turned, g);
    b2_pool_run(q->pool, count_parts(g, GROUP), many_outputs, g);
}
#endif
