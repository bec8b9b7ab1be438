/* Checks of what surrounds attention: relative position bias. */
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

/* The table's gradient is a sum of up to 600 values in f32. */
const ck_check ck_cache[] = {
    {"relbias_fwd", NULL, check_bias, {0, 0}},
    {"relbias_bwd", NULL, check_bias, {1e-6, 1e-6}},
    {0},
};
