/* Checks of embeddings, patches, and rows shared by a batch. All but the sums are exact. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct embed {
    ck_buf *y, *table, *image, *ids, *dy; /* backward: y is NULL, table and image are outputs or NULL */
    int rows, cols, vocab, images;
    bool bf16;
} embed;

static void call_embed(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    embed *e = args;
    (void)ws;
    if (e->bf16)
        k->embed_wbf16(q, e->y->p, e->table->p, e->image->p, e->ids->p, e->rows, e->cols);
    else
        k->embed_wf32(q, e->y->p, e->table->p, e->image->p, e->ids->p, e->rows, e->cols);
}

static void want_embed(void *args)
{
    embed *e = args;
    for (int64_t i = 0; i < e->rows; i++) {
        const int id = (int)ck_was(e->ids)[i];
        const double *from = id >= 0 ? ck_was(e->table) + (int64_t)id * e->cols
                                     : ck_was(e->image) + (int64_t)(-1 - id) * e->cols;
        for (int64_t j = 0; j < e->cols; j++) ck_want(e->y, i * e->cols + j, from[j], 0);
    }
}

static void call_embed_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    embed *e = args;
    (void)ws;
    k->embed_bwd(q, ck_ptr(e->table), ck_ptr(e->image), e->dy->p, e->ids->p, e->rows, e->cols);
}

static void want_embed_bwd(void *args)
{
    embed *e = args;
    ck_buf *both[] = {e->table, e->image};
    for (int t = 0; t < 2; t++) {
        for (int64_t i = 0; both[t] && i < both[t]->n; i++)
            ck_want(both[t], i, ck_was(both[t])[i], fabs(ck_was(both[t])[i]));
    }
    for (int64_t i = 0; i < e->rows; i++) {
        const int id = (int)ck_was(e->ids)[i];
        for (int64_t j = 0; j < e->cols; j++) {
            const double d = ck_was(e->dy)[i * e->cols + j];
            if (id < 0) ck_want(e->image, (int64_t)(-1 - id) * e->cols + j, d, 0);
            if (id < 0 || !e->table) continue;
            e->table->want[(int64_t)id * e->cols + j] += d;
            e->table->mag[(int64_t)id * e->cols + j] += fabs(d);
        }
    }
}

/* Ids with repetitions; each image row at most once. */
static void make_ids(ck *c, embed *e)
{
    int next = 0;
    e->ids = ck_in(c, CK_I32, e->rows, 0);
    for (int i = 0; i < e->rows; i++) {
        const bool image = next < e->images && ck_flip(c);
        ck_set(e->ids, i, image ? -1 - next++ : ck_below(c, ck_flip(c) ? e->vocab : 1 + e->vocab / 20));
    }
}

static void check_embed(ck *c)
{
    const bool bwd = strcmp(c->check->name, "embed_bwd") == 0;
    for (int i = 0; i < (c->bench ? 2 : 32); i++) {
        embed e = {.rows = i == 0 ? 0 : ck_size(c, 200),
                   .cols = ck_size(c, 300),
                   .vocab = ck_size(c, 200),
                   .images = ck_below(c, 60)};
        if (c->bench) {
            const int items = ck_items(c, i ? 64 : 0);
            e = i ? (embed){.rows = items * 50, .cols = 128, .vocab = 512, .images = 32}
                  : (embed){.rows = items * 48, .cols = 2048, .vocab = 32128, .images = items * 32};
            if (!items) continue;
        }
        e.bf16 = strcmp(c->check->name, "embed_wbf16") == 0;
        const int64_t n = (int64_t)e.rows * e.cols, tn = (int64_t)e.vocab * e.cols,
                      in = (int64_t)e.images * e.cols;
        make_ids(c, &e);
        if (bwd) {
            e.dy = ck_in(c, CK_F32, n, 1);
            if (c->bench || i % 5 != 1) e.table = ck_inout(c, CK_F32, 1, tn, tn, 1);
            if (c->bench || i % 5 != 2) e.image = ck_inout(c, CK_F32, 1, in, in, 1);
        } else {
            e.table = ck_in(c, e.bf16 ? CK_BF16 : CK_F32, tn, 1);
            e.image = ck_in(c, CK_F32, in, 1);
            e.y = ck_out(c, CK_F32, 1, n, n);
        }
        ck_call call = {
            .args = &e, .call = bwd ? call_embed_bwd : call_embed, .want = bwd ? want_embed_bwd : want_embed};
        call.bytes = (double)n * (bwd ? 12 : e.bf16 ? 6 : 8);
        snprintf(call.shape, sizeof call.shape, "%d x %d, %d ids, %d image rows%s%s", e.rows, e.cols, e.vocab,
                 e.images, e.table ? "" : ", no dtable", e.image ? "" : ", no dimage");
        ck_run(c, &call);
    }
}

/* ---- ViT ----------------------------------------------------------------------------------------------- */

typedef struct vit {
    ck_buf *x, *patches, *cls, *pos, *pixels;
    int batch, n, cols, size, patch;
} vit;

static void call_patchify(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    vit *v = args;
    (void)ws;
    k->patchify(q, v->x->p, v->pixels->p, v->batch, v->size, v->patch);
}

static void want_patchify(void *args)
{
    vit *v = args;
    const int g = v->size / v->patch, p = v->patch;
    const double *from = ck_was(v->pixels);
    for (int b = 0; b < v->batch; b++) {
        for (int ch = 0; ch < 3; ch++) {
            for (int y = 0; y < g * p; y++) {
                for (int x = 0; x < g * p; x++) {
                    const int64_t row = ((int64_t)b * g + y / p) * g + x / p,
                                  col = ((int64_t)ch * p + y % p) * p + x % p;
                    const float value = (float)from[(((int64_t)b * 3 + ch) * v->size + y) * v->size + x];
                    ck_want(v->x, row * 3 * p * p + col,
                            v->x->type == CK_BF16 ? b2_bf16_to_f32(b2_f32_to_bf16(value)) : value, 0);
                }
            }
        }
    }
}

static void check_patchify(ck *c)
{
    static const int shapes[][3] = {{0, 28, 14}, {1, 28, 14}, {3, 28, 4}, {2, 30, 14},
                                    {5, 7, 1},   {2, 33, 11}, {1, 9, 9}};
    for (int i = 0; i < (c->bench ? 2 : 7); i++) {
        vit v = {.batch = shapes[i][0], .size = shapes[i][1], .patch = shapes[i][2]};
        if (c->bench) v = (vit){.batch = ck_items(c, i ? 64 : 0), .size = i ? 28 : 224, .patch = i ? 4 : 14};
        if (c->bench && !v.batch) continue;
        const int64_t g = v.size / v.patch, rows = v.batch * g * g, cols = 3 * v.patch * v.patch;
        v.pixels = ck_in(c, CK_F32, (int64_t)v.batch * 3 * v.size * v.size, 2);
        v.x = ck_out(c, CK_ACT, rows, cols, cols);
        ck_call call = {.args = &v, .call = call_patchify, .want = want_patchify};
        call.bytes = (double)(rows * cols) * (c->dtype ? 6 : 8);
        snprintf(call.shape, sizeof call.shape, "%d x 3 x %d x %d, patch %d", v.batch, v.size, v.size,
                 v.patch);
        ck_run(c, &call);
    }
}

static void call_vit(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    vit *v = args;
    (void)ws;
    k->vit_embed_fwd(q, v->x->p, v->patches->p, v->cls->p, v->pos->p, v->batch, v->n, v->cols);
}

static void want_vit(void *args)
{
    vit *v = args;
    for (int64_t i = 0; i < (int64_t)v->batch * (1 + v->n) * v->cols; i++) {
        const int64_t row = i / v->cols, b = row / (1 + v->n), t = row % (1 + v->n), j = i % v->cols;
        const double x = t ? ck_was(v->patches)[(b * v->n + t - 1) * v->cols + j] : ck_was(v->cls)[j];
        ck_want(v->x, i, (float)x + (float)ck_was(v->pos)[t * v->cols + j], 0);
    }
}

static void call_vit_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    vit *v = args;
    (void)ws;
    k->vit_embed_bwd(q, ck_ptr(v->patches), ck_ptr(v->cls), ck_ptr(v->pos), v->x->p, v->batch, v->n, v->cols);
}

static void add_to(ck_buf *b, int64_t i, double d)
{
    if (!b) return;
    b->want[i] += d;
    b->mag[i] += fabs(d);
}

static void want_vit_bwd(void *args)
{
    vit *v = args;
    for (int64_t i = 0; v->cls && i < v->cls->n; i++)
        ck_want(v->cls, i, ck_was(v->cls)[i], fabs(ck_was(v->cls)[i]));
    for (int64_t i = 0; v->pos && i < v->pos->n; i++)
        ck_want(v->pos, i, ck_was(v->pos)[i], fabs(ck_was(v->pos)[i]));
    for (int64_t i = 0; i < v->x->n; i++) {
        const int64_t row = i / v->cols, b = row / (1 + v->n), t = row % (1 + v->n), j = i % v->cols;
        const double d = ck_was(v->x)[i];
        if (t)
            ck_want(v->patches, (b * v->n + t - 1) * v->cols + j, d, 0);
        else
            add_to(v->cls, j, d);
        add_to(v->pos, t * v->cols + j, d);
    }
}

static void check_vit(ck *c)
{
    const bool bwd = strcmp(c->check->name, "vit_embed_bwd") == 0, all = !bwd || c->bench;
    for (int i = 0; i < (c->bench ? 2 : 24); i++) {
        vit v = {.batch = i == 0 ? 0 : ck_size(c, 9), .n = ck_size(c, 60), .cols = ck_size(c, 200)};
        if (c->bench) v = (vit){.batch = ck_items(c, i ? 64 : 0), .n = i ? 49 : 256, .cols = i ? 128 : 1408};
        if (c->bench && !v.batch) continue;
        const int64_t pn = (int64_t)v.batch * v.n * v.cols, xn = pn + (int64_t)v.batch * v.cols,
                      posn = (int64_t)(1 + v.n) * v.cols;
        v.x = bwd ? ck_in(c, CK_F32, xn, 1) : ck_out(c, CK_F32, 1, xn, xn);
        if (all || i % 4 != 1) v.patches = bwd ? ck_out(c, CK_F32, 1, pn, pn) : ck_in(c, CK_F32, pn, 1);
        if (all || i % 4 != 2)
            v.cls = bwd ? ck_inout(c, CK_F32, 1, v.cols, v.cols, 1) : ck_in(c, CK_F32, v.cols, 1);
        if (all || i % 4 != 3)
            v.pos = bwd ? ck_inout(c, CK_F32, 1, posn, posn, 1) : ck_in(c, CK_F32, posn, 1);
        ck_call call = {
            .args = &v, .call = bwd ? call_vit_bwd : call_vit, .want = bwd ? want_vit_bwd : want_vit};
        call.bytes = 8.0 * (double)xn + 4.0 * (double)posn;
        snprintf(call.shape, sizeof call.shape, "%d x (1 + %d) x %d%s", v.batch, v.n, v.cols,
                 !all && i % 4 ? ", one gradient not wanted" : "");
        ck_run(c, &call);
    }
}

/* ---- shared rows --------------------------------------------------------------------------------------- */

typedef struct tile {
    ck_buf *x, *y;
    int copies;
    int64_t n;
} tile;

static void call_tile(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    tile *t = args;
    (void)ws;
    k->tile_fwd(q, t->y->p, t->x->p, t->copies, t->n);
}

static void call_tile_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    tile *t = args;
    (void)ws;
    k->tile_bwd(q, t->x->p, t->y->p, t->copies, t->n);
}

static void want_tile(void *args)
{
    tile *t = args;
    for (int64_t i = 0; i < t->copies * t->n; i++) ck_want(t->y, i, ck_was(t->x)[i % t->n], 0);
}

static void want_tile_bwd(void *args)
{
    tile *t = args;
    for (int64_t i = 0; i < t->n; i++) ck_want(t->x, i, ck_was(t->x)[i], fabs(ck_was(t->x)[i]));
    for (int64_t i = 0; i < t->copies * t->n; i++) add_to(t->x, i % t->n, ck_was(t->y)[i]);
}

static void check_tile(ck *c)
{
    const bool bwd = strcmp(c->check->name, "tile_bwd") == 0;
    for (int i = 0; i < (c->bench ? 2 : 24); i++) {
        tile t = {.copies = i == 0 ? 0 : ck_size(c, 40), .n = i == 1 ? 0 : ck_size(c, 3000)};
        if (c->bench) t = (tile){.copies = ck_items(c, i ? 64 : 0), .n = i ? 32 * 128 : 32 * 768};
        if (c->bench && !t.copies) continue;
        const int64_t all = t.copies * t.n;
        t.x = bwd ? ck_inout(c, CK_F32, 1, t.n, t.n, 1) : ck_in(c, CK_F32, t.n, 1);
        t.y = bwd ? ck_in(c, CK_F32, all, 1) : ck_out(c, CK_F32, 1, all, all);
        ck_call call = {
            .args = &t, .call = bwd ? call_tile_bwd : call_tile, .want = bwd ? want_tile_bwd : want_tile};
        call.bytes = 4.0 * (double)all + 8.0 * (double)t.n;
        snprintf(call.shape, sizeof call.shape, "%d copies of %lld", t.copies, (long long)t.n);
        ck_run(c, &call);
    }
}

/* Copies, roundings to T and single additions are exact; sums over rows and copies are f32. */
const ck_check ck_embed[] = {
    {"embed_wf32", NULL, check_embed, {0, 0}},
    {"embed_wbf16", NULL, check_embed, {0, 0}},
    {"embed_bwd", NULL, check_embed, {1e-6, 1e-6}},
    {"patchify", NULL, check_patchify, {0, 0}},
    {"vit_embed_fwd", NULL, check_vit, {0, 0}},
    {"vit_embed_bwd", NULL, check_vit, {1e-6, 1e-6}},
    {"tile_fwd", NULL, check_tile, {0, 0}},
    {"tile_bwd", NULL, check_tile, {1e-6, 1e-6}},
    {0},
};
