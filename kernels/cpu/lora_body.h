/* LoRA as products of its own, block by block; body of lora_tmpl_<isa>.c. Forward: two for each run of items
 * that share an adapter, added to base, which then becomes y where that lies apart. Backward: du, then the
 * gradients of b, of a and of x. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_few.h"
#include "kernels/cpu/gemm_grad.h"
#include "kernels/cpu/sweep.h"

/* What the pieces of a workspace must hold. */
typedef struct lora_sizes {
    int m, n, k, r; /* n, r: the largest */
    bool drops;
} lora_sizes;

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static size_t floats(int rows, int cols) { return b2_line((size_t)rows * (size_t)cols) * sizeof(float); }

static lora_sizes sizes_of(const b2_lora *l)
{
    lora_sizes s = {.m = l->items * l->per_item, .k = l->k};
    for (int b = 0; b < l->blocks; b++) {
        if (l->block[b].n > s.n) s.n = l->block[b].n;
        s.drops = s.drops || l->block[b].drop > 0;
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) {
            if (l->block[b].ab[a].r > s.r) s.r = l->block[b].ab[a].r;
        }
    }
    return s;
}

/* Room for x dropped out. */
static size_t input_bytes(const lora_sizes *s)
{
    const size_t bytes = (size_t)s->m * (size_t)s->k * sizeof(act_t);
    return s->drops ? b2_line((bytes + 3) / 4) * sizeof(float) : 0;
}

/* x itself, or dropped out into `to`. */
static const act_t *input(b2_queue *q, void *to, const void *x, const b2_lora *l, const b2_lora_block *b)
{
    if (b->drop <= 0) return x;
    TIER_FN(dropout)(q, to, x, (int64_t)l->per_item * l->k, l->items, b->drop, b->site);
    return to;
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* The largest workspace that gemm wants for any number of rows up to m: each of its ways grows with m. */
static size_t gemm_room(size_t (*ws)(int, int, int, int), int m, int n, int k, int threads)
{
    const int least[] = {m, m < B2_SMALL_ROWS ? m : B2_SMALL_ROWS - 1, m < B2_FEW_ROWS ? m : B2_FEW_ROWS};
    size_t most = 0;
    for (int i = 0; i < 3; i++) most = larger(most, ws(least[i], n, k, threads));
    return most;
}

static void run_of_rows(b2_queue *q, float *y, int ldy, float *u, const act_t *x, const b2_lora_ab *l,
                        int rows, int n, int k, void *ws)
{
    const b2_rows a = {l->a, NULL, l->r, NULL}, b = {l->b, NULL, n, NULL};
    const b2_out to_u = {u, l->r, B2_F32}, to_y = {y, ldy, B2_F32};
    TIER_FN(gemm_wf32)(q, to_u, x, &a, 1, rows, k, 1, 0, ws);
    F32_FN(gemm_wf32)(q, to_y, u, &b, 1, rows, l->r, l->scale, 1, ws);
}

/* Rows that go from base to y, rounded where that is T. */
typedef struct moved {
    b2_out y;
    const float *base;
    int ldbase, m, each; /* each: rows of a task */
    const b2_lora *l;
} moved;

static void move_rows(void *ctx, int64_t chunk, int worker)
{
    const moved *t = ctx;
    const int first = (int)chunk * t->each, last = first + b2_cut(t->m, t->each, (int)chunk);
    (void)worker;
    for (int row = first; row < last; row++)
        for (const b2_lora_block *b = t->l->block; b < t->l->block + t->l->blocks; b++) {
            const float *from = t->base + (size_t)row * (size_t)t->ldbase + b->c0;
            void *to = b2_out_at(&t->y, row, b->c0);
            if (t->y.type == B2_F32)
                memcpy(to, from, (size_t)b->n * sizeof *from);
            else
                SWEEP(b->n, aput((act_t *)to + i, vget(from + i, len), len));
        }
}

void TIER_FN(lora_fwd)(b2_queue *q, b2_out y, float *base, int ldbase, const void *x, const b2_lora *l,
                       void *ws)
{
    const lora_sizes s = sizes_of(l);
    char *dropped = ws, *room = dropped + input_bytes(&s), *gemm_ws = room + floats(s.m, s.r);
    for (const b2_lora_block *b = l->block; b < l->block + l->blocks; b++) {
        const act_t *xd = input(q, dropped, x, l, b);
        for (int i = 0, next; i < l->items; i = next) {
            const int32_t which = l->which ? l->which[i] : 0;
            for (next = i + 1; next < l->items && (!l->which || l->which[next] == which);) next++;
            if (which < 0 || b->ab[which].r == 0) continue;
            const size_t row = (size_t)i * (size_t)l->per_item;
            const b2_lora_ab *ab = &b->ab[which];
            run_of_rows(q, base + row * (size_t)ldbase + b->c0, ldbase,
                        b->u ? b->u + row * (size_t)ab->r : (float *)(void *)room, xd + row * (size_t)l->k,
                        ab, (next - i) * l->per_item, b->n, l->k, gemm_ws);
        }
    }
    if (y.p == base) return;
    int cols = 0;
    for (int b = 0; b < l->blocks; b++) cols += l->block[b].n;
    moved t = {y, base, ldbase, s.m, rows_per_task(cols), l};
    b2_pool_run(q->pool, b2_cuts(s.m, t.each), move_rows, &t);
}

size_t TIER_FN(lora_fwd_ws)(const b2_lora *l, int threads)
{
    const lora_sizes s = sizes_of(l);
    size_t most = 0; /* a product of a smaller rank may want more */
    for (const b2_lora_block *b = l->block; b < l->block + l->blocks; b++) {
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) {
            if (b->ab[a].r == 0) continue;
            most = larger(most, gemm_room(TIER_FN(gemm_ws), s.m, b->ab[a].r, s.k, threads));
            most = larger(most, gemm_room(F32_FN(gemm_ws), s.m, b->n, b->ab[a].r, threads));
        }
    }
    return input_bytes(&s) + floats(s.m, s.r) + most;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

void TIER_FN(lora_bwd)(b2_queue *q, float *dx, b2_in dy, const void *x, const b2_lora *l, void *ws)
{
    const lora_sizes s = sizes_of(l);
    float *du = ws;
    char *room = (char *)ws + floats(s.m, s.r), *gemm_ws = room + (s.drops ? floats(s.m, s.k) : 0);
    for (const b2_lora_block *blk = l->block; blk < l->block + l->blocks; blk++) {
        const b2_lora_ab *ab = &blk->ab[0];
        const b2_rows a = {ab->a, NULL, ab->r, NULL}, b = {ab->b, NULL, blk->n, NULL};
        const b2_in dyb = {(const char *)dy.p + (size_t)blk->c0 * b2_dtype_size(dy.type), dy.ld, dy.type};
        const b2_in from_du = {du, ab->r, B2_F32};
        const b2_out to_du = {du, ab->r, B2_F32}, to_dx = {dx, s.k, B2_F32}, to_room = {room, s.k, B2_F32};
        TIER_FN(gemm_dx_wf32)(q, to_du, dyb, &b, 1, s.m, ab->r, ab->scale, 0, gemm_ws);
        if (blk->gb) TIER_FN(dw_of)(q, blk->gb, dyb, blk->u, B2_F32, s.m, blk->n, ab->r, ab->scale, gemm_ws);
        if (blk->ga)
            TIER_FN(gemm_dw)(q, blk->ga, from_du, input(q, room, x, l, blk), s.m, ab->r, s.k, 1, gemm_ws);
        if (dx && blk->drop <= 0) {
            F32_FN(gemm_dx_wf32)(q, to_dx, from_du, &a, 1, s.m, s.k, 1, 1, gemm_ws);
        } else if (dx) {
            F32_FN(gemm_dx_wf32)(q, to_room, from_du, &a, 1, s.m, s.k, 1, 0, gemm_ws);
            F32_FN(dropout_add)
            (q, dx, to_room.p, (int64_t)l->per_item * l->k, l->items, blk->drop, blk->site, 1);
        }
    }
}

size_t TIER_FN(lora_bwd_ws)(const b2_lora *l, int threads)
{
    const lora_sizes s = sizes_of(l);
    size_t most = 0;
    for (const b2_lora_block *b = l->block; b < l->block + l->blocks; b++) {
        const int r = b->ab[0].r;
        most = larger(most, TIER_FN(gemm_dx_ws)(s.m, b->n, r, threads));
        most = larger(most, F32_FN(gemm_dx_ws)(s.m, r, s.k, threads));
        most = larger(most, TIER_FN(gemm_dw_ws)(s.m, b->n, r, threads));
        most = larger(most, TIER_FN(gemm_dw_ws)(s.m, r, s.k, threads));
    }
    return floats(s.m, s.r) + (s.drops ? floats(s.m, s.k) : 0) + most;
}
