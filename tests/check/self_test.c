/* Tests the check tool itself: kernels with planted faults take the reference's place in a tier; each must be
 * found. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct add {
    ck_buf *x, *y;
    int64_t n;
} add;

static void call_add(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    add *a = args;
    (void)ws;
    k->add(q, a->y->p, a->x->p, a->n);
}

static void want_add(void *args)
{
    add *a = args;
    for (int64_t i = 0; i < a->n; i++) ck_want(a->y, i, (float)ck_was(a->y)[i] + (float)ck_was(a->x)[i], 0);
}

static size_t ws_add(const b2_kernels *k, void *args, int threads)
{
    (void)k, (void)args;
    return (size_t)threads * 16;
}

static void right(b2_queue *q, float *y, const float *x, int64_t n)
{
    (void)q;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void wrong_value(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    y[n / 2] += 1e-3f;
}

static void wrong_nan(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    y[0] = NAN;
}

static void missing_last(b2_queue *q, float *y, const float *x, int64_t n) { right(q, y, x, n - 1); }

static void past_the_end(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    y[n] = 0;
}

static void before_the_start(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    y[-1] = 0;
}

static void changed_input(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    float *in = (float *)(uintptr_t)x;
    in[n - 1] += 1;
}

static void changed_step(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    q->step->lr += 1;
}

static void threads_matter(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    if (b2_pool_threads(q->pool) == 3) memset(y, 0, sizeof *y);
}

/* Right at first, then not: step.lr counts. */
static void drifts(b2_queue *q, float *y, const float *x, int64_t n)
{
    right(q, y, x, n);
    if ((q->step->lr += 1) > 4) y[0] += 1;
}

/* ---- the workspace: one more byte than was asked for */
static void call_past_ws(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    call_add(k, q, args, ws);
    ((unsigned char *)ws)[(size_t)b2_pool_threads(q->pool) * 16] = 0;
}

static void run_case(ck *c, void (*call)(const b2_kernels *, b2_queue *, void *, void *))
{
    add a = {.n = 100};
    a.x = ck_in(c, CK_F32, a.n, 1);
    a.y = ck_inout(c, CK_F32, 1, a.n, a.n, 1);
    ck_call k = {.args = &a, .call = call, .want = want_add, .ws = ws_add, .shape = "self-test"};
    k.bytes = 12.0 * (double)a.n;
    ck_run(c, &k);
}

/* Timing must not hand out times of wrong kernels, and not refuse a right one. */
static int missed_by_timing(ck *c)
{
    void (*const kernels[])(b2_queue *, float *, const float *, int64_t) = {wrong_value, past_the_end, drifts,
                                                                            right};
    ck_tier *t = &c->tier[1];
    int missed = 0;
    c->timed = true;
    c->repeats = 5;
    c->step.lr = 0;
    for (int i = 0; i < 4; i++) {
        t->table[B2_F32].add = kernels[i];
        t->stat = (ck_stat){0};
        c->cases = 0;
        run_case(c, call_add);
        missed += t->stat.failed != (i < 3);
    }
    return missed;
}

int ck_self_test(ck *real)
{
    static const ck_check check = {"add", NULL, NULL, {0, 0}};
    static ck_tier tiers[CK_TIERS];
    void (*const faulty[])(b2_queue *, float *, const float *,
                           int64_t) = {wrong_value,      wrong_nan,     missing_last, past_the_end,
                                       before_the_start, changed_input, changed_step, threads_matter};
    ck c = *real;
    int missed = 0;
    c.tier = tiers;
    c.check = &check;
    c.quiet = true;
    c.shape = NULL;
    c.once = false; /* one fault shows with several threads only */
    c.slot = offsetof(b2_kernels, add);
    c.ws_slot = 0;
    c.dtype = B2_F32;
    for (int i = 0; i < 2; i++) {
        b2_ref_tables(tiers[i].table);
        tiers[i].name = "self-test";
        tiers[i].available = tiers[i].selected = true;
    }
    for (size_t i = 0; i < sizeof faulty / sizeof faulty[0]; i++) {
        tiers[1].table[B2_F32].add = faulty[i];
        tiers[1].stat = (ck_stat){0};
        run_case(&c, call_add);
        missed += tiers[1].stat.failed == 0;
    }
    tiers[1].table[B2_F32].add = right;
    tiers[1].stat = (ck_stat){0};
    run_case(&c, call_add);
    missed += tiers[1].stat.failed != 0; /* a sound kernel must pass */
    tiers[1].stat = (ck_stat){0};
    run_case(&c, call_past_ws);
    missed += tiers[1].stat.failed == 0;
    return missed + missed_by_timing(&c);
}
