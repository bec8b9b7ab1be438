/* Checks of cross-entropy and argmax, with infinities and NaN. */
#include "harness.h"
#include <math.h>

typedef struct loss {
    ck_buf *logits, *labels,
        *row_loss; /* argmax: labels are the forbidden ids or NULL, row_loss is logp or NULL */
    ck_buf *ids;
    int rows, vocab, want_grad;
} loss;

/* The largest of the allowed ids, the lowest on ties, NaN first; -1: all are forbidden. */
static int best_of(const double *x, int n, int skip)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (i == skip || (best >= 0 && isnan(x[best]))) continue;
        if (best < 0 || x[i] > x[best] || isnan(x[i])) best = i;
    }
    return best;
}

static double log_sum(const double *x, int n, int skip, double top)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += i == skip ? 0 : exp(x[i] - top);
    return top + log(sum);
}

static void spoil(ck *c, loss *l)
{
    const double values[] = {-INFINITY, -INFINITY, -INFINITY, NAN, INFINITY, -1e30};
    for (int i = 0; i < l->rows; i++) {
        const int kind = ck_below(c, 4); /* 0, 1: ordinary rows */
        if (kind < 2) continue;
        const int64_t at = (int64_t)i * l->vocab;
        for (int j = 0; j < l->vocab; j += 1 + ck_below(c, 40))
            ck_set(l->logits, at + j, values[ck_below(c, kind == 2 ? 3 : 6)]);
        for (int j = 0; ck_below(c, 8) == 0 && j < l->vocab; j++) ck_set(l->logits, at + j, -INFINITY);
    }
}

static void size_of_case(ck *c, loss *l, int i)
{
    *l = (loss){.rows = i == 0 ? 0 : ck_size(c, 40), .vocab = 1 + ck_size(c, 700), .want_grad = ck_flip(c)};
    if (i == 1) l->vocab = 32128;
    if (i == 1) l->rows = 3;
    if (c->bench) /* a step's, those of answers of 8 tokens, the quickstart's */
        *l = (loss){.rows = (int[]){c->batch, 8 * c->batch, ck_items(c, 512)}[i],
                    .vocab = i < 2 ? 32128 : 512,
                    .want_grad = 1};
}

static void call_xent(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    loss *l = args;
    (void)ws;
    k->xent(q, ck_ptr(l->row_loss), l->logits->p, l->labels->p, l->rows, l->vocab, l->want_grad);
}

static void want_xent_row(loss *l, int i)
{
    const double *x = ck_was(l->logits) + (int64_t)i * l->vocab;
    const int label = (int)ck_was(l->labels)[i];
    const double top = x[best_of(x, l->vocab, -1)], all = log_sum(x, l->vocab, -1, top);
    if (label < 0)
        ck_want(l->row_loss, i, 0, 0);
    else
        ck_want(l->row_loss, i, all - x[label], fabs(x[label]) + fabs(top) + 1);
    for (int j = 0; j < l->vocab; j++) {
        const int64_t at = (int64_t)i * l->vocab + j;
        const double p = exp(x[j] - all);
        if (!l->want_grad)
            ck_want(l->logits, at, x[j], 0);
        else if (label < 0)
            ck_want(l->logits, at, 0, 0);
        else
            ck_want(l->logits, at, p - (j == label),
                    (p + (j == label)) * (1 + fabs(x[j]) + fabs(top)) + 1e-30);
    }
}

static void want_xent(void *args)
{
    loss *l = args;
    for (int i = 0; i < l->rows; i++) want_xent_row(l, i);
}

static void check_xent(ck *c)
{
    for (int i = 0; i < (c->bench ? 3 : 40); i++) {
        loss l;
        size_of_case(c, &l, i);
        if (c->bench && !l.rows) continue;
        l.logits = ck_inout(c, CK_F32, l.rows, l.vocab, l.vocab, 12);
        if (!c->bench && i % 3 == 2) spoil(c, &l);
        l.labels = ck_in(c, CK_I32, l.rows, 0);
        for (int r = 0; r < l.rows; r++)
            ck_set(l.labels, r, ck_below(c, 4) ? ck_below(c, l.vocab) : -1 - ck_below(c, 100));
        if (c->bench || ck_below(c, 6)) l.row_loss = ck_out(c, CK_F32, 1, l.rows, l.rows);
        ck_call call = {.args = &l, .call = call_xent, .want = want_xent, .bytes = 8.0 * l.rows * l.vocab};
        snprintf(call.shape, sizeof call.shape, "%d x %d%s%s", l.rows, l.vocab,
                 l.want_grad ? ", gradient" : "", !c->bench && i % 3 == 2 ? ", inf and NaN" : "");
        ck_run(c, &call);
    }
}

static void call_argmax(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    loss *l = args;
    (void)ws;
    k->argmax(q, l->ids->p, ck_ptr(l->row_loss), l->logits->p, ck_ptr(l->labels), l->rows, l->vocab);
}

static void want_argmax(void *args)
{
    loss *l = args;
    for (int i = 0; i < l->rows; i++) {
        const double *x = ck_was(l->logits) + (int64_t)i * l->vocab;
        const int skip = l->labels ? (int)ck_was(l->labels)[i] : -1, best = best_of(x, l->vocab, skip);
        ck_want(l->ids, i, best, 0);
        ck_want(l->row_loss, i, x[best] - log_sum(x, l->vocab, skip, x[best]), 1);
    }
}

static void check_argmax(ck *c)
{
    for (int i = 0; i < (c->bench ? 3 : 60); i++) {
        loss l;
        size_of_case(c, &l, i);
        if (c->bench && !l.rows) continue;
        l.logits = ck_in(c, CK_F32, (int64_t)l.rows * l.vocab, 12);
        for (int64_t j = 0; i % 4 == 1 && j < l.logits->n; j++)
            ck_set(l.logits, j, ck_below(c, 9)); /* ties */
        if (!c->bench && i % 3 == 2) spoil(c, &l);
        if (c->bench || ck_below(c, 3)) l.labels = ck_in(c, CK_I32, l.rows, 0);
        for (int r = 0; l.labels && r < l.rows; r++) {
            ck_set(l.labels, r, ck_flip(c) ? -1 : ck_below(c, l.vocab));
        }
        l.ids = ck_out(c, CK_I32, 1, l.rows, l.rows);
        if (c->bench || ck_below(c, 4)) l.row_loss = ck_out(c, CK_F32, 1, l.rows, l.rows);
        ck_call call = {
            .args = &l, .call = call_argmax, .want = want_argmax, .bytes = 4.0 * l.rows * l.vocab};
        snprintf(call.shape, sizeof call.shape, "%d x %d%s%s", l.rows, l.vocab,
                 l.labels ? ", forbidden ids" : "", !c->bench && i % 3 == 2 ? ", inf and NaN" : "");
        ck_run(c, &call);
    }
}

/* exp and log good to a few half-steps; the difference of a logit and the largest is exact to one. */
const ck_check ck_loss[] = {
    {"xent", NULL, check_xent, {1e-6, 1e-6}},
    {"argmax", NULL, check_argmax, {2e-6, 2e-6}},
    {0},
};
