/* Checks of LoRA: adapters by item or one for all, blocks beside each other, dropout's very masks; and the
 * gradients. */
#include "harness.h"
#include <math.h>
#include <string.h>

#define MAX_RANK 1536

typedef struct lora {
    b2_lora l;
    const b2_step *step;
    bool narrow;   /* x is bf16 */
    ck_buf *x, *y; /* y: the backward's dy */
    ck_buf *base;  /* of the forward; y itself, or apart */
    ck_buf *dx;    /* NULL: not wanted; so are ga and gb */
    ck_buf *a[3][B2_MAX_ADAPTERS], *b[3][B2_MAX_ADAPTERS], *u[3], *ga[3], *gb[3], *which;
    int cols, ld, ldbase; /* of y; ld of dy too */
} lora;

static int rows_of(const lora *t) { return t->l.items * t->l.per_item; }

/* ---- how to call --------------------------------------------------------------------------------------- */

static void call_fwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lora *t = args;
    const b2_out y = {t->y->p, t->ld, t->y->type == CK_F32 ? B2_F32 : B2_BF16};
    k->lora_fwd(q, y, t->base->p, t->ldbase, t->x->p, &t->l, ws);
}

static size_t ws_fwd(const b2_kernels *k, void *args, int threads)
{
    return k->lora_fwd_ws(&((lora *)args)->l, threads);
}

static void call_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lora *t = args;
    const b2_in dy = {t->y->p, t->ld, t->y->type == CK_F32 ? B2_F32 : B2_BF16};
    k->lora_bwd(q, ck_ptr(t->dx), dy, t->x->p, &t->l, ws);
}

static size_t ws_bwd(const b2_kernels *k, void *args, int threads)
{
    return k->lora_bwd_ws(&((lora *)args)->l, threads);
}

/* ---- the same in double -------------------------------------------------------------------------------- */

static bool kept(const lora *t, int block, int row, int c)
{
    const b2_lora_block *b = &t->l.block[block];
    const uint64_t sample = t->step->sample[row / t->l.per_item];
    const uint64_t key = b2_drop_key(t->step->seed, t->step->step, sample, b->site);
    const int64_t e = (int64_t)(row % t->l.per_item) * t->l.k + c;
    return b2_drop_keep(key, (uint32_t)e, b2_drop_limit(b->drop));
}

/* An element of x as this block's A meets it: what `dropout` would have written. */
static double dropped(lora *t, int block, int row, int c)
{
    const double x = ck_was(t->x)[(int64_t)row * t->l.k + c];
    const float drop = t->l.block[block].drop;
    if (drop <= 0) return x;
    if (!kept(t, block, row, c)) return 0;
    const float scaled = (float)x * (1 / (1 - drop));
    return (double)(t->narrow ? b2_bf16_to_f32(b2_f32_to_bf16(scaled)) : scaled);
}

static void want_row(lora *t, int block, int adapter, int row)
{
    const b2_lora_block *b = &t->l.block[block];
    const int r = adapter < 0 ? 0 : b->ab[adapter].r, k = t->l.k;
    double u[MAX_RANK] = {0}, size[MAX_RANK] = {0};
    for (int c = 0; r && c < k; c++) {
        const double x = dropped(t, block, row, c);
        for (int j = 0; j < r; j++) {
            const double p = ck_was(t->a[block][adapter])[(int64_t)j * k + c] * x;
            u[j] += p;
            size[j] += fabs(p);
        }
    }
    for (int j = 0; j < r; j++) ck_want(t->u[block], (int64_t)row * r + j, u[j], size[j]);
    for (int64_t o = 0; r && o < b->n; o++) {
        const int64_t at = (int64_t)row * t->ld + b->c0 + o;
        const double y = ck_was(t->base)[(int64_t)row * t->ldbase + b->c0 + o];
        const double scale = (double)b->ab[adapter].scale;
        double sum = 0, terms = 0;
        for (int j = 0; j < r; j++) {
            const double w = ck_was(t->b[block][adapter])[o * r + j];
            sum += w * u[j];
            terms += fabs(w) * size[j];
        }
        ck_want(t->y, at, y + scale * sum, fabs(y) + fabs(scale) * terms);
    }
}

/* Results begin as what was there. */
static void want_old(ck_buf *b)
{
    for (int64_t i = 0; b && i < b->n; i++) ck_want(b, i, ck_was(b)[i], fabs(ck_was(b)[i]));
}

/* y begins as base. */
static void want_base(lora *t)
{
    for (int64_t i = 0; i < rows_of(t); i++) {
        for (int c = 0; c < t->cols; c++) {
            const double old = ck_was(t->base)[i * t->ldbase + c];
            ck_want(t->y, i * t->ld + c, old, fabs(old));
        }
    }
}

static void want_fwd(void *args)
{
    lora *t = args;
    want_base(t);
    for (int b = 0; b < t->l.blocks; b++) {
        for (int i = 0; i < rows_of(t); i++)
            want_row(t, b, t->which ? (int)ck_was(t->which)[i / t->l.per_item] : 0, i);
    }
}

static void want_more(ck_buf *b, int64_t at, double term, double size)
{
    if (b) ck_want(b, at, b->want[at] + term, b->mag[at] + size);
}

static void want_row_bwd(lora *t, int block, int row)
{
    const b2_lora_block *b = &t->l.block[block];
    const int r = b->ab[0].r, k = t->l.k;
    const double scale = (double)b->ab[0].scale, *dy = ck_was(t->y) + (int64_t)row * t->ld + b->c0;
    double du[MAX_RANK] = {0}, size[MAX_RANK] = {0};
    for (int o = 0; o < b->n; o++) {
        for (int j = 0; j < r; j++) {
            const double p = scale * dy[o] * ck_was(t->b[block][0])[(int64_t)o * r + j];
            du[j] += p;
            size[j] += fabs(p);
            if (!t->gb[block]) continue;
            const double g = scale * dy[o] * ck_was(t->u[block])[(int64_t)row * r + j];
            want_more(t->gb[block], (int64_t)o * r + j, g, fabs(g));
        }
    }
    for (int c = 0; c < k; c++) {
        const double x = dropped(t, block, row, c), drop = (double)b->drop;
        const double keep = drop <= 0 || kept(t, block, row, c) ? 1 / (1 - drop) : 0;
        for (int j = 0; j < r; j++) {
            const double a = ck_was(t->a[block][0])[(int64_t)j * k + c] * keep;
            want_more(t->ga[block], (int64_t)j * k + c, du[j] * x, size[j] * fabs(x));
            want_more(t->dx, (int64_t)row * k + c, du[j] * a, size[j] * fabs(a));
        }
    }
}

static void want_bwd(void *args)
{
    lora *t = args;
    want_old(t->dx);
    for (int b = 0; b < t->l.blocks; b++) {
        want_old(t->ga[b]);
        want_old(t->gb[b]);
    }
    for (int b = 0; b < t->l.blocks; b++) {
        for (int i = 0; i < rows_of(t); i++) want_row_bwd(t, b, i);
    }
}

/* ---- cases --------------------------------------------------------------------------------------------- */

typedef struct shape {
    const char *name;
    int fixed, per_item, k, n, r, adapters; /* fixed: items, or 0: the batch */
    float drop;
} shape;
static const shape bench[] = {
    {"t5.qv ", 0, 48, 2048, 2048, 8, 1, 0.05f},      {"t5.qv.r16 ", 0, 48, 2048, 2048, 16, 1, 0.05f},
    {"t5.qv.r64 ", 0, 48, 2048, 2048, 64, 1, 0.05f}, {"t5.qv.nodrop ", 0, 48, 2048, 2048, 8, 1, 0},
    {"step.qv ", 0, 1, 2048, 2048, 8, 1, 0},         {"step.qv.many ", 0, 1, 2048, 2048, 8, 4, 0},
    {"tiny.qv ", 64, 50, 128, 128, 8, 1, 0.05f},
};

static bool backward(const ck *c) { return strcmp(c->check->name, "lora_bwd") == 0; }

static void adapters(ck *c, lora *t, int block, int rank, int count)
{
    static const int ranks[] = {8, 0, 1, 4, 16, 5, 33, 64, 12};
    b2_lora_block *b = &t->l.block[block];
    for (int i = 0; i < count; i++) {
        const int r = rank ? rank : ranks[ck_below(c, 9)];
        t->a[block][i] = ck_in(c, CK_F32, (int64_t)r * t->l.k, 1.7 / sqrt(t->l.k));
        t->b[block][i] = ck_in(c, CK_F32, (int64_t)b->n * r, 1);
        const float scale = (float)(0.5 + fabs(ck_uniform(c, 4)));
        b->ab[i] = (b2_lora_ab){t->a[block][i]->p, t->b[block][i]->p, r, scale};
    }
}

/* What the passes keep (may_keep) or want of a block, by chance; all of it when timed. */
static void kept_and_wanted(ck *c, lora *t, int block, bool may_keep)
{
    b2_lora_block *b = &t->l.block[block];
    const int r = b->ab[0].r;
    if (!backward(c)) {
        if (may_keep && ck_flip(c)) t->u[block] = ck_out(c, CK_F32, rows_of(t), r, r);
    } else {
        if (ck_flip(c)) t->ga[block] = ck_inout(c, CK_F32, r, t->l.k, t->l.k, 1);
        if (ck_flip(c)) t->gb[block] = ck_inout(c, CK_F32, b->n, r, r, 1);
        if (t->gb[block] || ck_flip(c)) t->u[block] = ck_in(c, CK_F32, (int64_t)rows_of(t) * r, 1);
    }
    b->u = ck_ptr(t->u[block]);
    b->ga = ck_ptr(t->ga[block]);
    b->gb = ck_ptr(t->gb[block]);
}

/* What is dropped counts as 0, whatever it is. */
static void spoil_dropped(ck *c, lora *t)
{
    for (int i = 0; i < 20 && rows_of(t) && t->l.k; i++) {
        const int row = ck_below(c, rows_of(t)), col = ck_below(c, t->l.k);
        bool everywhere = true;
        for (int b = 0; b < t->l.blocks; b++)
            everywhere = everywhere && t->l.block[b].drop > 0 && !kept(t, b, row, col);
        if (everywhere) ck_set(t->x, (int64_t)row * t->l.k + col, NAN);
    }
}

/* apart: of a forward whose y is not base. */
static void buffers(ck *c, lora *t, bool apart)
{
    const int m = rows_of(t);
    t->x = ck_in(c, CK_ACT, (int64_t)m * t->l.k, 1.7);
    if (!c->bench) spoil_dropped(c, t);
    if (!backward(c)) {
        t->ldbase = apart && !c->bench ? t->cols + ck_below(c, 20) : t->ld;
        t->base = t->y = ck_inout(c, CK_F32, m, t->cols, t->ldbase, 1);
        t->base->spent = apart;
        if (apart) t->y = ck_out(c, ck_flip(c) ? CK_ACT : CK_F32, m, t->cols, t->ld);
        return;
    }
    t->y = ck_in_rows(c, ck_flip(c) ? CK_ACT : CK_F32, m, t->cols, t->ld, 1);
    if (ck_flip(c)) t->dx = ck_inout(c, CK_F32, m, t->l.k, t->l.k, 1);
}

static void run_case(ck *c, lora *t, const char *name, int count)
{
    const bool bwd = backward(c);
    ck_call call = {.args = t,
                    .call = bwd ? call_bwd : call_fwd,
                    .ws = bwd ? ws_bwd : ws_fwd,
                    .want = bwd ? want_bwd : want_fwd};
    const double m = rows_of(t), k = t->l.k;
    call.bytes = m * k * (c->dtype ? 2 : 4) + (bwd ? m * k * 8 : 0);
    for (int b = 0; b < t->l.blocks; b++) {
        const double n = t->l.block[b].n, r = t->l.block[b].ab[0].r;
        call.flops += (bwd ? 4 : 2) * m * r * (n + k);
        const double dy = t->y->type == CK_F32 ? 4 : 2;
        call.bytes += m * n * (dy + (bwd ? 0 : 4)) + 4 * m * r + (bwd ? 12 : 4) * r * (n + k);
    }
    snprintf(call.shape, sizeof call.shape,
             "%s%dx%d rows, %d -> %d blocks of %d ld %d, r %d, %d adapters, drop %g%s", name, t->l.items,
             t->l.per_item, t->l.k, t->l.blocks, t->l.block[0].n, t->ld, t->l.block[0].ab[0].r, count,
             (double)t->l.block[0].drop,
             t->y->type == CK_F32 ? ""
             : bwd                ? ", dy bf16"
                                  : ", y bf16");
    ck_run(c, &call);
}

/* q and v beside a k without an adapter. */
static void bench_case(ck *c, const shape *s)
{
    lora t = {.step = &c->step, .narrow = c->dtype, .cols = 3 * s->n, .ld = 3 * s->n};
    const bool apart = !backward(c); /* as layers have it: k is a block without an adapter */
    const int step = apart ? 1 : 2;
    t.l = (b2_lora){
        .blocks = apart ? 3 : 2, .items = ck_items(c, s->fixed), .per_item = s->per_item, .k = s->k};
    if (!t.l.items || (backward(c) && s->per_item == 1)) return;
    if (s->adapters > 1) {
        t.which = ck_in(c, CK_I32, t.l.items, 0);
        const int count = s->adapters + 1; /* the last: none */
        for (int i = 0; i < t.l.items; i++) ck_set(t.which, i, (i + 1) % count ? i % count : -1);
        t.l.which = t.which->p;
    }
    for (int b = 0; b < t.l.blocks; b++) {
        t.l.block[b] = (b2_lora_block){.c0 = step * b * s->n, .n = s->n};
        if (apart && b == 1) continue;
        t.l.block[b].drop = s->drop;
        t.l.block[b].site = 7u + (uint32_t)b;
        adapters(c, &t, b, s->r, s->adapters);
        kept_and_wanted(c, &t, b, s->drop > 0);
    }
    buffers(c, &t, apart);
    run_case(c, &t, s->name, s->adapters);
}

static void random_case(ck *c, int items, int per_item, int n, int k, int count)
{
    lora t = {.step = &c->step, .narrow = c->dtype};
    const bool drops = ck_flip(c), by_item = !backward(c) && ck_flip(c), apart = !backward(c) && ck_flip(c);
    t.l = (b2_lora){.blocks = 1 + ck_below(c, 3), .items = items, .per_item = per_item, .k = k};
    if (by_item) {
        t.which = ck_in(c, CK_I32, items, 0);
        for (int i = 0; i < items; i++) ck_set(t.which, i, ck_below(c, count + 1) - 1);
        t.l.which = t.which->p;
    }
    for (int b = 0; b < t.l.blocks; b++) {
        if (ck_flip(c) && !apart) t.cols += ck_size(c, 40); /* somebody else's columns */
        t.l.block[b] = (b2_lora_block){.c0 = t.cols, .n = b ? ck_size(c, n) : n};
        if (drops) t.l.block[b].drop = ck_below(c, 4) ? 0.3f : 0;
        t.l.block[b].site = (uint32_t)ck_below(c, 5000);
        t.cols += t.l.block[b].n;
        adapters(c, &t, b, 0, count);
        kept_and_wanted(c, &t, b, !by_item);
    }
    t.ld = t.cols + (ck_flip(c) ? 1 + ck_below(c, 20) : 0);
    buffers(c, &t, apart);
    run_case(c, &t, "", count);
}

/* Three blocks of given ranks. */
static void ranks_case(ck *c, int rows, int n, int k, const int ranks[3])
{
    lora t = {.step = &c->step, .narrow = c->dtype, .cols = 3 * n, .ld = 3 * n};
    t.l = (b2_lora){.blocks = 3, .items = 1, .per_item = rows, .k = k};
    for (int b = 0; b < 3; b++) {
        t.l.block[b] = (b2_lora_block){.c0 = b * n, .n = n, .drop = b == 1 ? 0.3f : 0, .site = (uint32_t)b};
        adapters(c, &t, b, ranks[b], 1);
        kept_and_wanted(c, &t, b, true);
    }
    buffers(c, &t, ck_flip(c));
    run_case(c, &t, "", 1);
}

static void check_lora(ck *c)
{
    if (c->bench) {
        for (size_t i = 0; i < sizeof bench / sizeof bench[0]; i++) bench_case(c, &bench[i]);
        return;
    }
    random_case(c, 0, 5, 16, 16, 1);
    random_case(c, 5, 0, 16, 16, 1);
    random_case(c, 64, 11, 32, 128, 1);
    random_case(c, 1, 258, 65, 257, 1);
    random_case(c, 3, 48, 520, 1100, 1);
    ranks_case(c, 9, 33, 64, (const int[]){512, 512, 512});   /* a GPU's shared memory: 48 KB, */
    ranks_case(c, 9, 33, 64, (const int[]){1501, 12, 1499});  /* more than it has for 8 rows */
    ranks_case(c, 100, 16, 2048, (const int[]){129, 128, 8}); /* a smaller rank wants more of a CPU */
    for (int i = 0; i < 40; i++) {
        const int count = backward(c) ? 1 : 1 + ck_below(c, B2_MAX_ADAPTERS);
        random_case(c, ck_size(c, 9), ck_flip(c) ? 1 : ck_size(c, 34), ck_size(c, 300), ck_size(c, 300),
                    count);
    }
}

/* Sums in f32, of sums in f32: as in the other products, of their terms' sizes. */
const ck_check ck_lora[] = {
    {"lora_fwd", "lora_fwd_ws", check_lora, {2e-6, 2e-6}},
    {"lora_bwd", "lora_bwd_ws", check_lora, {2e-6, 2e-6}},
    {0},
};
