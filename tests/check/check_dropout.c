/* Checks of dropout: the masks are compared one by one, so they must be the very same. */
#include "harness.h"
#include <math.h>
#include <string.h>

typedef struct drop {
    ck_buf *x, *y; /* x NULL: in place */
    const b2_step *step;
    int64_t per_sample;
    int samples;
    float p, beta;
    uint32_t site;
} drop;

static void call_drop(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    drop *d = args;
    (void)ws;
    k->dropout(q, d->y->p, ck_ptr(d->x ? d->x : d->y), d->per_sample, d->samples, d->p, d->site);
}

static void call_drop_add(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    drop *d = args;
    (void)ws;
    k->dropout_add(q, d->y->p, ck_ptr(d->x ? d->x : d->y), d->per_sample, d->samples, d->p, d->site, d->beta);
}

static void want_drop(void *args)
{
    drop *d = args;
    const double *x = ck_was(d->x ? d->x : d->y), *y = ck_was(d->y);
    for (int s = 0; s < d->samples; s++) {
        const uint64_t key = b2_drop_key(d->step->seed, d->step->step, d->step->sample[s], d->site);
        for (int64_t e = 0; e < d->per_sample; e++) {
            const int64_t i = s * d->per_sample + e;
            const double kept =
                b2_drop_keep(key, (uint32_t)e, b2_drop_limit(d->p)) ? x[i] / (1 - (double)d->p) : 0;
            const double old = d->beta ? d->beta * y[i] : 0;
            ck_want(d->y, i, old + kept, fabs(old) + fabs(kept));
        }
    }
}

static void check_drop(ck *c)
{
    const bool add = strcmp(c->check->name, "dropout_add") == 0;
    static const float p[] = {0, 0.05f, 0.1f, 0.5f, 0.99f};
    for (int i = 0; i < (c->bench ? 2 : 40); i++) {
        drop d = {.step = &c->step,
                  .per_sample = ck_size(c, 3000),
                  .samples = i == 0 ? 0 : ck_size(c, 12),
                  .p = p[i % 5]};
        if (i == 1) d.per_sample = 0;
        if (c->bench)
            d = (drop){.step = &c->step,
                       .per_sample = i ? 48 * 2048 : 50 * 128,
                       .samples = ck_items(c, i ? 0 : 64),
                       .p = 0.1f};
        if (c->bench && !d.samples) continue;
        d.site = (uint32_t)ck_below(c, 5000);
        d.beta = add ? (float)ck_flip(c) : 0;
        const int64_t n = d.per_sample * d.samples;
        const ck_type type = add ? CK_F32 : CK_ACT;
        const bool in_place = !d.beta && !c->bench && ck_flip(c);
        if (!in_place) d.x = ck_in(c, type, n, 3);
        d.y = in_place || d.beta ? ck_inout(c, type, 1, n, n, 3) : ck_out(c, type, 1, n, n);
        ck_call call = {.args = &d, .call = add ? call_drop_add : call_drop, .want = want_drop};
        call.bytes = (double)n * (add ? d.beta ? 12 : 8 : c->dtype ? 4 : 8);
        snprintf(call.shape, sizeof call.shape, "%d x %lld p %g beta %g%s", d.samples,
                 (long long)d.per_sample, (double)d.p, (double)d.beta, in_place ? ", in place" : "");
        ck_run(c, &call);
    }
}

/* 1/(1-p) rounded once, the product once. */
const ck_check ck_dropout[] = {
    {"dropout", NULL, check_drop, {3e-7, 3e-7}},
    {"dropout_add", NULL, check_drop, {3e-7, 3e-7}},
    {0},
};
