/* Checks of what surrounds attention: relative position bias and the key-value cache. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct bias {
    ck_buf *bias, *table;
    int heads, buckets, max_distance, both, zero, n;
} bias;

/* Buckets of T5 with 32 buckets and distance 128, as tables: the distances at which each bucket from the
 * first logarithmic one on begins. */
static const int both_from[] = {8, 12, 16, 23, 32, 46, 64, 91};
static const int back_from[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};

static int t5_bucket(int r, bool both)
{
    const int *from = both ? both_from : back_from, steps = both ? 8 : 16;
    const int n = both ? r < 0 ? -r : r : r < 0 ? -r : 0;
    int b = n;
    if (n >= steps) {
        b = steps - 1;
        for (int i = 0; i < steps && n >= from[i]; i++) b++;
    }
    return b + (both && r > 0 ? 16 : 0);
}

/* Any other configuration, from the formula in double; none of those below has a distance on a bucket's edge
 * that f32 could round to the other side. */
static int any_bucket(const bias *b, int r)
{
    const int buckets = b->both ? b->buckets / 2 : b->buckets, exact = buckets / 2,
              base = b->both && r > 0 ? buckets : 0;
    const int n = b->both ? r < 0 ? -r : r : r < 0 ? -r : 0;
    if (n < exact) return base + n;
    const int far =
        exact +
        (int)(log((double)n / exact) / log((double)b->max_distance / exact) * (buckets - exact) + 1e-9);
    return base + (far < buckets ? far : buckets - 1);
}

static int bucket(const bias *b, int r)
{
    return b->buckets == 32 && b->max_distance == 128 ? t5_bucket(r, b->both) : any_bucket(b, r);
}

static void call_fwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    bias *b = args;
    (void)ws;
    k->relbias_fwd(q, b->bias->p, b->table->p, b->heads, b->buckets, b->max_distance, b->both, b->zero, b->n);
}

static void call_bwd(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    bias *b = args;
    (void)ws;
    k->relbias_bwd(q, b->table->p, b->bias->p, b->heads, b->buckets, b->max_distance, b->both, b->zero, b->n);
}

static void want_fwd(void *args)
{
    bias *b = args;
    for (int h = 0; h < b->heads; h++) {
        for (int i = 0; i < b->n; i++) {
            ck_want(b->bias, (int64_t)h * b->n + i, ck_was(b->table)[bucket(b, i - b->zero) * b->heads + h],
                    0);
        }
    }
}

static void want_bwd(void *args)
{
    bias *b = args;
    for (int64_t i = 0; i < b->table->n; i++)
        ck_want(b->table, i, ck_was(b->table)[i], fabs(ck_was(b->table)[i]));
    for (int h = 0; h < b->heads; h++) {
        for (int i = 0; i < b->n; i++) {
            const int at = bucket(b, i - b->zero) * b->heads + h;
            b->table->want[at] += ck_was(b->bias)[(int64_t)h * b->n + i];
            b->table->mag[at] += fabs(ck_was(b->bias)[(int64_t)h * b->n + i]);
        }
    }
}

static void check_bias(ck *c)
{
    const bool bwd = strcmp(c->check->name, "relbias_bwd") == 0;
    for (int i = 0; i < (c->bench ? ck_items(c, 2) : 24); i++) {
        bias b = {
            .heads = ck_size(c, 40), .buckets = 32, .max_distance = 128, .both = i % 2, .n = ck_size(c, 600)};
        if (i % 4 == 3) b.buckets = 8, b.max_distance = 20;
        if (c->bench) b.heads = 32, b.n = i ? 95 : 48;
        b.zero = c->bench ? 47 : ck_below(c, b.n);
        const int64_t n = (int64_t)b.heads * b.n, cells = (int64_t)b.buckets * b.heads;
        b.table = bwd ? ck_inout(c, CK_F32, 1, cells, cells, 1) : ck_in(c, CK_F32, cells, 1);
        b.bias = bwd ? ck_in(c, CK_F32, n, 1) : ck_out(c, CK_F32, 1, n, n);
        ck_call call = {.args = &b,
                        .call = bwd ? call_bwd : call_fwd,
                        .want = bwd ? want_bwd : want_fwd,
                        .bytes = 4.0 * (double)n};
        snprintf(call.shape, sizeof call.shape, "%d heads, %d to %d, %d buckets to %d, %s", b.heads, -b.zero,
                 b.n - 1 - b.zero, b.buckets, b.max_distance, b.both ? "both ways" : "backwards");
        ck_run(c, &call);
    }
}

typedef struct cache {
    ck_buf *k, *v, *kv, *pos;
    int batch, cap, cols, ld, k0, v0;
} cache;

static void call_append(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    cache *t = args;
    (void)ws;
    k->kv_append(q, t->k->p, t->v->p, t->kv->p, t->ld, t->k0, t->v0, t->pos->p, t->batch, t->cap, t->cols);
}

static void want_append(void *args)
{
    cache *t = args;
    for (int64_t i = 0; i < t->k->n; i++) {
        ck_want(t->k, i, ck_was(t->k)[i], 0);
        ck_want(t->v, i, ck_was(t->v)[i], 0);
    }
    for (int b = 0; b < t->batch; b++) {
        const int64_t row = ((int64_t)b * t->cap + (int)ck_was(t->pos)[b]) * t->cols;
        for (int64_t j = 0; j < t->cols; j++) {
            ck_want(t->k, row + j, ck_was(t->kv)[(int64_t)b * t->ld + t->k0 + j], 0);
            ck_want(t->v, row + j, ck_was(t->kv)[(int64_t)b * t->ld + t->v0 + j], 0);
        }
    }
}

static void check_append(ck *c)
{
    for (int i = 0; i < (c->bench ? 1 : 24); i++) {
        cache t = {.batch = i == 0 ? 0 : ck_size(c, 9), .cap = ck_size(c, 40), .cols = ck_size(c, 300)};
        if (c->bench) t = (cache){.batch = c->batch, .cap = 32, .cols = 2048};
        t.k0 = c->bench ? 2048 : ck_below(c, 200);
        t.v0 = t.k0 + t.cols;
        t.ld = t.v0 + t.cols + (c->bench ? 0 : ck_below(c, 3));
        const int64_t n = (int64_t)t.batch * t.cap * t.cols;
        t.k = ck_inout(c, CK_F32, 1, n, n, 1);
        t.v = ck_inout(c, CK_F32, 1, n, n, 1);
        t.kv = ck_in(c, CK_F32, (int64_t)t.batch * t.ld, 1);
        t.pos = ck_in(c, CK_I32, t.batch, 0);
        for (int b = 0; b < t.batch; b++) ck_set(t.pos, b, ck_below(c, t.cap));
        ck_call call = {
            .args = &t, .call = call_append, .want = want_append, .bytes = 16.0 * t.batch * t.cols};
        snprintf(call.shape, sizeof call.shape, "%d items, %d rows of %d", t.batch, t.cap, t.cols);
        ck_run(c, &call);
    }
}

/* Copies are exact; the table's gradient is a sum of up to 600 values in f32. */
const ck_check ck_cache[] = {
    {"relbias_fwd", NULL, check_bias, {0, 0}},
    {"relbias_bwd", NULL, check_bias, {1e-6, 1e-6}},
    {"kv_append", NULL, check_append, {0, 0}},
    {0},
};
