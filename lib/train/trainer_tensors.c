/* What trains: choosing tensors, laying them out flat, pointing the net at them, first values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/quantise.h"
#include "train/trainer.h"

enum { GRAIN = 16 };        /* floats: a cache line */
#define LORA_SITES 0x10000u /* dropout sites of adapters lie above those of the net */

static b2_trained *add_tensor(blip2_trainer *t, int ref)
{
    b2_trained *x = &t->tensor[t->tensors++];
    *x = (b2_trained){.ref = ref, .slot = -1, .matrix = 'W', .decay = true};
    return x;
}

/* lm_head and shared are one tensor when the file ties them. */
static bool tied_head(const blip2_trainer *t)
{
    return t->model->net->head.w[0].p == t->model->net->shared.p;
}

static blip2_status select_weights(blip2_trainer *t, blip2_error *e)
{
    b2_net *net = t->net;
    const bool all = t->o.trainable == BLIP2_TRAIN_ALL, tied = tied_head(t);
    t->tensor = calloc((size_t)net->refs, sizeof *t->tensor);
    if (!t->tensor) return B2_NOMEM(e, "a trainer");
    for (int i = 0; i < net->refs; i++) {
        const b2_param_ref *r = &net->ref[i];
        if (!all && r->part != B2_PART_QFORMER && r->part != B2_PART_PROJECTION) continue;
        if (tied && r->param == &net->head.w[0]) continue;
        if (r->param->type >= B2_I8)
            return b2_fail(
                e, BLIP2_ERR_ARGUMENT,
                "trainable: \"%s\" is quantised, and such weights stay as they are: train LoRA, or "
                "start from a wide model",
                r->name);
        b2_trained *x = add_tensor(t, i);
        snprintf(x->name, sizeof x->name, "%s", r->name);
        x->n = (int64_t)r->param->rows * r->param->cols;
        x->rank = r->rank;
        memcpy(x->shape, r->shape, sizeof x->shape);
        x->decay = r->param->rows > 1;
    }
    return BLIP2_OK;
}

static void add_matrix(blip2_trainer *t, int ref, int slot, char matrix, int rows, int cols)
{
    const b2_param_ref *r = &t->net->ref[ref];
    b2_trained *x = add_tensor(t, ref);
    const size_t n = strlen(r->name), leaf = strlen(".weight");
    snprintf(x->name, sizeof x->name, "%.*s.lora_%c.weight", (int)(n > leaf ? n - leaf : n), r->name, matrix);
    x->slot = slot;
    x->matrix = matrix;
    x->rank = 2;
    x->shape[0] = rows;
    x->shape[1] = cols;
    x->n = (int64_t)rows * cols;
}

static blip2_status select_lora(blip2_trainer *t, blip2_error *e)
{
    int *refs = NULL, count = t->init ? t->init->entries : 0;
    if (t->init) {
        refs = malloc((size_t)(count ? count : 1) * sizeof *refs);
        if (!refs) return B2_NOMEM(e, "a trainer");
        for (int i = 0; i < count; i++) refs[i] = t->init->entry[i].ref;
    } else {
        B2_TRY(b2_lora_select(t->net, t->lora.targets, &refs, &count, e));
    }
    blip2_status s = b2_lora_slots(t->net, refs, count, e);
    t->tensor = calloc(2 * (size_t)(count ? count : 1), sizeof *t->tensor);
    if (s == BLIP2_OK && !t->tensor) s = B2_NOMEM(e, "a trainer");
    for (int i = 0; s == BLIP2_OK && i < count; i++) {
        const b2_param *w = t->net->ref[refs[i]].param;
        const int r = t->init ? t->init->entry[i].r : t->lora.r;
        b2_lora_slot *slot = &t->net->slots[i];
        *slot =
            (b2_lora_slot){.n = 1, .drop = (float)t->lora.dropout, .site = LORA_SITES + (uint32_t)refs[i]};
        slot->ab[0].r = r;
        slot->ab[0].scale =
            t->init ? t->init->entry[i].scale : b2_lora_scale(t->lora.alpha, r, t->lora.rslora);
        add_matrix(t, refs[i], i, 'A', r, w->cols);
        add_matrix(t, refs[i], i, 'B', w->rows, r);
    }
    free(refs);
    return s;
}

static void lay_out(blip2_trainer *t)
{
    int64_t at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < t->tensors; i++) {
            b2_trained *x = &t->tensor[i];
            if (x->decay != (pass == 0)) continue;
            x->at = at;
            at += (x->n + GRAIN - 1) / GRAIN * GRAIN;
        }
        if (pass == 0) t->flat.decayed = at;
    }
    t->flat.total = at;
}

static void set_dropout(blip2_trainer *t)
{
    const b2_config *c = &t->net->c;
    const double p = t->o.dropout;
    bool t5 = false, qf = false;
    for (int i = 0; i < t->tensors; i++) {
        t5 = t5 || t->net->ref[t->tensor[i].ref].part == B2_PART_T5;
        qf = qf || t->net->ref[t->tensor[i].ref].part == B2_PART_QFORMER;
    }
    b2_net_set_dropout(t->net,
                       !t5     ? 0.0f
                       : p < 0 ? c->t5.drop
                               : (float)p,
                       !qf     ? 0.0f
                       : p < 0 ? c->qf.drop
                               : (float)p,
                       !qf     ? 0.0f
                       : p < 0 ? c->qf.attn_drop
                               : (float)p);
}

static blip2_status lora_config(blip2_trainer *t, blip2_error *e)
{
    const blip2_trainer_options *o = &t->o;
    if (o->trainable != BLIP2_TRAIN_LORA) return BLIP2_OK;
    if (o->init_adapter) {
        B2_TRY(blip2_adapter_open(t->model, o->init_adapter, &t->init, e));
        if (t->init->touches_image && o->feature_cache)
            return b2_fail(e, BLIP2_ERR_ARGUMENT,
                           "feature_cache: the adapter %s also adapts the image side, whose features change "
                           "with every step",
                           o->init_adapter);
        if (t->init->cfg.dropout >= 1)
            return b2_fail(e, BLIP2_ERR_CONFIG,
                           "%s: lora_dropout: expected less than 1 to train on, found %g", o->init_adapter,
                           t->init->cfg.dropout);
        t->lora = t->init->cfg;
        t->lora.targets = NULL;
    } else {
        t->lora = (b2_lora_config){o->lora_rank, o->lora_alpha, o->lora_dropout, o->lora_rslora != 0, NULL};
    }
    t->lora.targets = b2_strdup(t->init ? t->init->cfg.targets : o->lora_targets);
    return t->lora.targets ? BLIP2_OK : B2_NOMEM(e, "a trainer");
}

blip2_status b2_trainer_select(blip2_trainer *t, blip2_error *e)
{
    B2_TRY(b2_net_new(&t->net, &t->model->config, e));
    b2_net_view(t->net, t->model->run);
    B2_TRY(lora_config(t, e));
    B2_TRY(t->o.trainable == BLIP2_TRAIN_LORA ? select_lora(t, e) : select_weights(t, e));
    lay_out(t);
    set_dropout(t);
    return BLIP2_OK;
}

void b2_trainer_bind(blip2_trainer *t, b2_arena *a)
{
    const size_t bytes = (size_t)t->flat.total * sizeof(float);
    t->flat.w = b2_arena_take(a, bytes);
    t->flat.g = b2_arena_take(a, bytes + sizeof(float));
    t->flat.m = b2_arena_take(a, bytes);
    t->flat.v = b2_arena_take(a, bytes);
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        float *w = t->flat.w + x->at, *g = t->flat.g + x->at;
        if (x->slot < 0) {
            b2_param *p = t->net->ref[x->ref].param;
            *p = (b2_param){w, B2_F32, p->rows, p->cols, g, NULL};
            continue;
        }
        b2_lora_slot *s = &t->net->slots[x->slot];
        if (x->matrix == 'A') {
            s->ab[0].a = w;
            s->ga = g;
        } else {
            s->ab[0].b = w;
            s->gb = g;
        }
    }
    if (t->o.trainable == BLIP2_TRAIN_ALL && tied_head(t)) t->net->head.w[0] = t->net->shared;
}

static void copy_weight(float *to, const b2_param *from)
{
    for (int64_t o = 0; o < from->rows; o++) b2_param_row(from, o, to + o * from->cols);
}

/* As PEFT does it: A uniform in +-1/sqrt(in) (kaiming_uniform_ with a = sqrt(5)), B zero. */
static void fresh_a(float *to, const blip2_trainer *t, const b2_trained *x)
{
    b2_rng r = {b2_mix64(b2_mix64(t->o.seed ^ 0x10AULL) ^ (uint64_t)x->ref), 0};
    const double bound = 1.0 / sqrt((double)x->shape[1]);
    for (int64_t i = 0; i < x->n; i++) to[i] = (float)((2.0 * b2_rng_uniform(&r) - 1.0) * bound);
}

blip2_status b2_trainer_init_values(blip2_trainer *t, blip2_error *e)
{
    float *w = b2_trainer_host(t, t->flat.w);
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        float *to = w + x->at;
        if (x->slot < 0) {
            copy_weight(to, t->model->net->ref[x->ref].param);
        } else if (t->init) {
            const b2_adapter_entry *en = &t->init->entry[x->slot];
            memcpy(to, x->matrix == 'A' ? en->a : en->b, (size_t)x->n * sizeof *to);
        } else if (x->matrix == 'A') {
            fresh_a(to, t, x);
        }
    }
    return b2_trainer_push(t, t->flat.w, e);
}

blip2_status b2_trainer_host_net(const blip2_trainer *t, const float *w, b2_net **out, blip2_error *e)
{
    B2_TRY(b2_net_new(out, &t->model->config, e));
    b2_net_view(*out, t->model->net);
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        b2_param *p = (*out)->ref[x->ref].param;
        if (x->slot < 0) *p = (b2_param){w + x->at, B2_F32, p->rows, p->cols, NULL, NULL};
    }
    if (t->o.trainable == BLIP2_TRAIN_ALL && tied_head(t)) (*out)->head.w[0] = (*out)->shared;
    return BLIP2_OK;
}

b2_adapter_entry *b2_trainer_entries(const blip2_trainer *t, const float *w, int *n)
{
    b2_adapter_entry *en = calloc((size_t)(t->net->n_slots ? t->net->n_slots : 1), sizeof *en);
    *n = t->net->n_slots;
    for (int i = 0; en && i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        const b2_lora_ab *ab = &t->net->slots[x->slot].ab[0];
        b2_adapter_entry *to = &en[x->slot];
        to->ref = x->ref;
        to->r = ab->r;
        to->scale = ab->scale;
        *(x->matrix == 'A' ? &to->a : &to->b) = w + x->at;
    }
    return en;
}
