/* Which modules an adapter's targets name, and adapters on a net. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "model/lora.h"
#include "model/model.h"

float b2_lora_scale(double alpha, int r, bool rslora)
{
    return (float)(alpha / (rslora ? sqrt((double)r) : (double)r));
}

static bool ends_with_target(const char *module, size_t n, const char *target, size_t k)
{
    if (k == 0 || k > n || memcmp(module + n - k, target, k) != 0) return false;
    return k == n || module[n - k - 1] == '.';
}

bool b2_lora_matches(const char *module, size_t n, const char *targets)
{
    for (const char *t = targets; t && *t;) {
        const size_t k = strcspn(t, ",");
        if (ends_with_target(module, n, t, k)) return true;
        t += k + (t[k] == ',');
    }
    return false;
}

static size_t module_length(const b2_param_ref *r) { return strlen(r->name) - strlen(".weight"); }

blip2_status b2_lora_select(const b2_net *n, const char *targets, int **out, int *count, blip2_error *e)
{
    int *refs = malloc((size_t)n->refs * sizeof *refs);
    *out = NULL;
    *count = 0;
    if (!refs) return B2_NOMEM(e, "the list of adapted modules");
    for (int i = 0; i < n->refs; i++) {
        const b2_param_ref *r = &n->ref[i];
        if (r->linear && r->rank == 2 && b2_lora_matches(r->name, module_length(r), targets))
            refs[(*count)++] = i;
    }
    if (*count == 0) {
        free(refs);
        return b2_fail(e, BLIP2_ERR_CONFIG,
                       "LoRA targets \"%s\" match no linear module of the model (for example \"q,v\" matches "
                       "T5's attention)",
                       targets);
    }
    *out = refs;
    return BLIP2_OK;
}

blip2_status b2_lora_slots(b2_net *n, const int *refs, int count, blip2_error *e)
{
    n->slots = calloc((size_t)count, sizeof *n->slots);
    if (!n->slots) return B2_NOMEM(e, "adapter slots");
    n->n_slots = count;
    for (int i = 0; i < count; i++) {
        const b2_param_ref *r = &n->ref[refs[i]];
        r->linear->lora[r->block] = &n->slots[i];
        n->slots[i].site = 0x10000u + (uint32_t)refs[i];
    }
    return BLIP2_OK;
}

/* Refs that any of the adapters touches, in order; *out is malloc'ed. */
static blip2_status touched(const b2_net *n, blip2_adapter *const *adapters, int count, int **out, int *k,
                            blip2_error *e)
{
    bool *used = calloc((size_t)n->refs, sizeof *used);
    int *refs = malloc((size_t)n->refs * sizeof *refs);
    *k = 0;
    if (!used || !refs) {
        free(used);
        free(refs);
        return B2_NOMEM(e, "the list of adapted modules");
    }
    for (int a = 0; a < count; a++) {
        for (int i = 0; i < adapters[a]->entries; i++) used[adapters[a]->entry[i].ref] = true;
    }
    for (int i = 0; i < n->refs; i++) {
        if (used[i]) refs[(*k)++] = i;
    }
    free(used);
    *out = refs;
    return BLIP2_OK;
}

blip2_status b2_adapters_attach(b2_net *n, blip2_adapter *const *adapters, int count, blip2_error *e)
{
    int *refs = NULL, k = 0;
    for (int a = 0; a < count; a++) {
        if (adapters[a]->model->net->refs != n->refs ||
            memcmp(&adapters[a]->model->config, &n->c, sizeof n->c) != 0)
            return b2_fail(e, BLIP2_ERR_CONFIG, "adapter %d was opened for a model of another configuration",
                           a);
    }
    B2_TRY(touched(n, adapters, count, &refs, &k, e));
    const blip2_status s = b2_lora_slots(n, refs, k, e);
    free(refs);
    if (s != BLIP2_OK) return s;
    for (int a = 0; a < count; a++) {
        for (int i = 0; i < adapters[a]->entries; i++) {
            const b2_adapter_entry *x = &adapters[a]->entry[i];
            const b2_param_ref *r = &n->ref[x->ref];
            r->linear->lora[r->block]->ab[a] =
                (b2_lora_ab){adapters[a]->run + (x->a - adapters[a]->data),
                             adapters[a]->run + (x->b - adapters[a]->data), x->r, x->scale};
        }
    }
    for (int i = 0; i < n->n_slots; i++) n->slots[i].n = count;
    return BLIP2_OK;
}

blip2_adapter *b2_adapter_ref(blip2_adapter *a)
{
    if (a) a->refs++;
    return a;
}

void blip2_adapter_close(blip2_adapter *a)
{
    if (!a || --a->refs > 0) return;
    b2_adapter_unplace(a);
    blip2_model_close(a->model);
    free(a->cfg.targets);
    free(a->entry);
    free(a->base_model);
    free(a->prompt_template);
    free(a->data);
    free(a);
}

void blip2_adapter_get_info(const blip2_adapter *a, blip2_adapter_info *info)
{
    if (!a || !info || info->size != sizeof *info) return;
    *info = (blip2_adapter_info){.size = sizeof *info,
                                 .rank = a->cfg.r,
                                 .alpha = a->cfg.alpha,
                                 .dropout = a->cfg.dropout,
                                 .rslora = a->cfg.rslora,
                                 .modules = a->entries,
                                 .modules_matched = a->matched,
                                 .touches_image = a->touches_image,
                                 .parameters = a->parameters,
                                 .targets = a->cfg.targets ? a->cfg.targets : "",
                                 .base_model = a->base_model ? a->base_model : "",
                                 .prompt_template = a->prompt_template};
}
