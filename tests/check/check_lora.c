/* Check of LoRA's forward: an adapter for each item, or none. */
#include "harness.h"
#include <math.h>

#define ADAPTERS 4
#define MAX_RANK 40

typedef struct lora {
    ck_buf *x, *y, *u, *a[ADAPTERS], *b[ADAPTERS], *which;
    b2_lora_ab room[1 + ADAPTERS], *set; /* set = room + 1; room[0] is in wait of whoever uses adapter -1 */
    int nset, rmax, items, per_item, n, k, ld;
} lora;

static void call_lora(const b2_kernels *k, b2_queue *q, void *args, void *ws)
{
    lora *l = args;
    k->lora_fwd(q, l->y->p, l->ld, ck_ptr(l->u), l->x->p, l->set, l->nset, ck_ptr(l->which), l->items,
                l->per_item, l->n, l->k, ws);
}

static size_t ws_lora(const b2_kernels *k, void *args, int threads)
{
    lora *l = args;
    return k->lora_ws(l->items * l->per_item, l->n, l->k, l->rmax, threads);
}

static void want_row(lora *l, int adapter, int64_t row)
{
    const double *x = ck_was(l->x) + row * l->k, *y = ck_was(l->y) + row * l->ld;
    const int r = adapter < 0 ? 0 : l->set[adapter].r;
    double u[MAX_RANK], size[MAX_RANK];
    for (int j = 0; j < r; j++) {
        u[j] = size[j] = 0;
        for (int c = 0; c < l->k; c++) {
            const double p = ck_was(l->a[adapter])[(int64_t)j * l->k + c] * x[c];
            u[j] += p;
            size[j] += fabs(p);
        }
        ck_want(l->u, row * r + j, u[j], size[j]);
    }
    for (int64_t o = 0; o < l->n; o++) {
        double sum = 0, terms = 0;
        for (int j = 0; j < r; j++) {
            const double b = ck_was(l->b[adapter])[o * r + j];
            sum += b * u[j];
            terms += fabs(b) * size[j];
        }
        const double scale = adapter < 0 ? 0 : l->set[adapter].scale;
        ck_want(l->y, row * l->ld + o, y[o] + scale * sum, fabs(y[o]) + fabs(scale) * terms);
    }
}

static void want_lora(void *args)
{
    lora *l = args;
    for (int i = 0; i < l->items; i++) {
        const int adapter = l->which ? (int)ck_was(l->which)[i] : 0;
        for (int j = 0; j < l->per_item; j++) want_row(l, adapter, (int64_t)i * l->per_item + j);
    }
}

static void adapters(ck *c, lora *l)
{
    static const int ranks[] = {8, 0, 1, 4, 16, 5, 33};
    l->set = l->room + 1;
    l->room[0] = (b2_lora_ab){ck_in(c, CK_F32, l->k, 1)->p, ck_in(c, CK_F32, l->n, 1)->p, 1, 1};
    for (int s = 0; s < l->nset; s++) {
        const int r = c->bench ? 8 : ranks[ck_below(c, 7)];
        l->a[s] = ck_in(c, CK_F32, (int64_t)r * l->k, 1.7 / sqrt(l->k));
        l->b[s] = ck_in(c, CK_F32, (int64_t)l->n * r, 1);
        l->set[s] = (b2_lora_ab){l->a[s]->p, l->b[s]->p, r, (float)(0.5 + fabs(ck_uniform(c, 4)))};
        if (r > l->rmax) l->rmax = r;
    }
}

static void lora_case(ck *c, int items, int per_item, int n, int k, int nset)
{
    lora l = {.nset = nset, .items = items, .per_item = per_item, .n = n, .k = k, .ld = n};
    const int64_t m = (int64_t)items * per_item;
    adapters(c, &l);
    if (!c->bench && ck_flip(c)) l.ld += 1 + ck_below(c, 20);
    if (nset > 1) {
        l.which = ck_in(c, CK_I32, items, 0);
        for (int i = 0; i < items; i++) ck_set(l.which, i, ck_below(c, nset + 1) - 1);
    } else if (c->bench || ck_flip(c)) {
        l.u = ck_out(c, CK_F32, m, l.set[0].r, l.set[0].r);
    }
    l.x = ck_in(c, CK_ACT, m * k, 1.7);
    l.y = ck_inout(c, CK_F32, m, n, l.ld, 1);
    ck_call call = {.args = &l, .call = call_lora, .ws = ws_lora, .want = want_lora};
    call.flops = 2.0 * (double)m * l.rmax * (n + k);
    call.bytes = (8.0 * n + (c->dtype ? 2.0 : 4.0) * k) * (double)m + 4.0 * l.rmax * (n + k);
    snprintf(call.shape, sizeof call.shape, "%d x %d rows, %d -> %d ld %d, %d adapters of rank <= %d%s",
             items, per_item, k, n, l.ld, nset, l.rmax, l.u ? ", u kept" : "");
    ck_run(c, &call);
}

static void check_lora(ck *c)
{
    if (c->bench) {
        if (ck_items(c, 64)) lora_case(c, 64, 50, 128, 128, 1);
        lora_case(c, c->batch, 48, 2048, 2048, 1);
        lora_case(c, c->batch, 1, 2048, 2048, 4);
        return;
    }
    lora_case(c, 0, 5, 16, 16, 1);
    lora_case(c, 5, 0, 16, 16, 1);
    lora_case(c, 64, 50, 32, 128, 1);
    lora_case(c, 1, 258, 65, 257, 1);
    for (int i = 0; i < 30; i++) {
        lora_case(c, ck_size(c, 9), ck_size(c, 34), ck_size(c, 300), ck_size(c, 300),
                  1 + ck_below(c, ADAPTERS));
    }
}

/* Two sums in f32, as in the other products. */
const ck_check ck_lora[] = {
    {"lora_fwd", "lora_ws", check_lora, {2e-6, 2e-6}},
    {0},
};
