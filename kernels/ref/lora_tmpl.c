/* Reference of LoRA: row by row, block by block. */
#include "base/rng.h"
#include "kernels/act.h"

static int largest_rank(const b2_lora *l)
{
    int r = 0;
    for (int b = 0; b < l->blocks; b++) {
        for (int a = 0; a < B2_MAX_ADAPTERS; a++) r = l->block[b].ab[a].r > r ? l->block[b].ab[a].r : r;
    }
    return r;
}

/* What element c of row i of x is multiplied with: 1/(1-drop), or 0 where it is dropped. */
static float factor(const b2_queue *q, const b2_lora *l, const b2_lora_block *b, int i, int c)
{
    if (b->drop <= 0) return 1;
    const int item = i / l->per_item;
    const uint64_t key = b2_drop_key(q->step->seed, q->step->step, q->step->sample[item], b->site);
    const int64_t e = (int64_t)(i % l->per_item) * l->k + c;
    return b2_drop_keep(key, (uint32_t)e, b2_drop_limit(b->drop)) ? 1 / (1 - b->drop) : 0;
}

/* xd = row i of x, dropped out. */
static void dropped_row(float *xd, const b2_queue *q, const void *x, const b2_lora *l, const b2_lora_block *b,
                        int i)
{
    const act_t *row = (const act_t *)x + (int64_t)i * l->k;
    for (int c = 0; c < l->k; c++) {
        const float f = factor(q, l, b, i, c);
        xd[c] = f == 0 ? 0 : act_load(act_store(act_load(row[c]) * f));
    }
}

/* Element `at` of y becomes v. */
static void put(b2_out y, int64_t at, float v)
{
    if (y.type == B2_F32)
        ((float *)y.p)[at] = v;
    else
        ((act_t *)y.p)[at] = act_store(v);
}

/* y[at+o] = base[o] + scale * sum_j b[o,j] u[j],  u = a xd */
static void forward_row(b2_out y, int64_t at, const float *base, float *u, const float *xd,
                        const b2_lora_ab *ab, int n, int k)
{
    for (int j = 0; j < ab->r; j++) {
        u[j] = 0;
        for (int c = 0; c < k; c++) u[j] += ab->a[(int64_t)j * k + c] * xd[c];
    }
    for (int o = 0; o < n; o++) {
        float sum = 0;
        for (int j = 0; j < ab->r; j++) sum += ab->b[(int64_t)o * ab->r + j] * u[j];
        put(y, at + o, base[o] + ab->scale * sum);
    }
}

void B2_REF(lora_fwd)(b2_queue *q, b2_out y, float *base, int ldbase, const void *x, const b2_lora *l,
                      void *ws)
{
    static const b2_lora_ab none;
    float *xd = ws, *room = xd + l->k;
    for (const b2_lora_block *b = l->block; b < l->block + l->blocks; b++) {
        for (int i = 0; i < l->items * l->per_item; i++) {
            const int adapter = l->which ? l->which[i / l->per_item] : 0;
            const b2_lora_ab *ab = adapter < 0 ? &none : &b->ab[adapter];
            dropped_row(xd, q, x, l, b, i);
            forward_row(y, (int64_t)i * y.ld + b->c0, base + (int64_t)i * ldbase + b->c0,
                        b->u ? b->u + (int64_t)i * ab->r : room, xd, ab, b->n, l->k);
        }
    }
}

size_t B2_REF(lora_fwd_ws)(const b2_lora *l, int threads)
{
    (void)threads;
    return ((size_t)l->k + (size_t)largest_rank(l)) * sizeof(float);
}

static float get(b2_in x, int64_t at)
{
    return x.type == B2_F32 ? ((const float *)x.p)[at] : act_load(((const act_t *)x.p)[at]);
}

/* du of a row (from element `at` of dy on), and its share of gb (NULL: not wanted). */
static void backward_b(float *du, float *gb, b2_in dy, int64_t at, const float *u, const b2_lora_ab *ab,
                       int n)
{
    for (int j = 0; j < ab->r; j++) du[j] = 0;
    for (int o = 0; o < n; o++) {
        const float g = get(dy, at + o);
        for (int j = 0; j < ab->r; j++) {
            du[j] += g * ab->b[(int64_t)o * ab->r + j];
            if (gb) gb[(int64_t)o * ab->r + j] += ab->scale * g * u[j];
        }
    }
    for (int j = 0; j < ab->r; j++) du[j] *= ab->scale;
}

void B2_REF(lora_bwd)(b2_queue *q, float *dx, b2_in dy, const void *x, const b2_lora *l, void *ws)
{
    float *xd = ws, *du = xd + l->k;
    const int k = l->k;
    for (const b2_lora_block *b = l->block; b < l->block + l->blocks; b++) {
        const b2_lora_ab *ab = &b->ab[0];
        for (int i = 0; i < l->items * l->per_item; i++) {
            const float *u = b->gb ? b->u + (int64_t)i * ab->r : NULL;
            backward_b(du, b->gb, dy, (int64_t)i * dy.ld + b->c0, u, ab, b->n);
            dropped_row(xd, q, x, l, b, i);
            for (int j = 0; b->ga && j < ab->r; j++) {
                for (int c = 0; c < k; c++) b->ga[(int64_t)j * k + c] += du[j] * xd[c];
            }
            for (int c = 0; dx && c < k; c++) {
                const float f = factor(q, l, b, i, c);
                float sum = 0;
                for (int j = 0; j < ab->r; j++) sum += du[j] * ab->a[(int64_t)j * k + c];
                if (f != 0) dx[(int64_t)i * k + c] += sum * f;
            }
        }
    }
}

size_t B2_REF(lora_bwd_ws)(const b2_lora *l, int threads) { return B2_REF(lora_fwd_ws)(l, threads); }
