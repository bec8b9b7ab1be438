/* Reading a PEFT folder: adapter_config.json and adapter_model.safetensors (huggingface/peft,
 * tuners/lora). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/weights.h"

/* The folder while it is being read. */
typedef struct reading {
    const char *dir;
    char *config_path;
    b2_json *config;
    b2_st_set *file;
    blip2_adapter *a;
    const b2_st_tensor **ta, **tb; /* by ref: the A and B found */
    bool by_pattern;               /* target_modules is a regular expression or "all-linear", not a list */
    blip2_error *e;
} reading;

/* Options that change the mathematics and are not implemented: any value other than empty, false or null. */
static blip2_status check_options(const reading *r)
{
    static const char *const refused[] = {
        "use_dora",   "layer_replication", "trainable_token_indices", "target_parameters",
        "lora_bias",  "fan_in_fan_out",    "modules_to_save",         "corda_config",
        "eva_config", "use_qalora",        "alora_invocation_tokens"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const b2_json *v = b2_json_get(r->config, refused[i]);
        if (b2_json_is_null(v) || (b2_json_is_bool(v) && !b2_json_bool(v, true))) continue;
        if ((b2_json_is_array(v) || b2_json_is_object(v)) && b2_json_size(v) == 0) continue;
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED,
                       "%s: \"%s\" is set: expected it absent, false, null or empty", r->config_path,
                       refused[i]);
    }
    const char *type = b2_json_string(b2_json_get(r->config, "peft_type")),
               *bias = b2_json_string(b2_json_get(r->config, "bias"));
    if (!type || strcmp(type, "LORA") != 0)
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED, "%s: peft_type: expected \"LORA\", found \"%s\"",
                       r->config_path, type ? type : "nothing");
    if (bias && strcmp(bias, "none") != 0)
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED, "%s: bias: expected \"none\", found \"%s\"",
                       r->config_path, bias);
    return BLIP2_OK;
}

static blip2_status read_targets(reading *r)
{
    const b2_json *t = b2_json_get(r->config, "target_modules");
    b2_str s = {0};
    if (b2_json_is_string(t)) b2_str_add(&s, b2_json_string(t));
    for (const b2_json *v = b2_json_is_array(t) ? b2_json_first(t) : NULL; v; v = b2_json_next(v)) {
        if (!b2_json_is_string(v)) {
            b2_str_free(&s);
            return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: target_modules: expected strings", r->config_path);
        }
        b2_str_addf(&s, s.n ? ",%s" : "%s", b2_json_string(v));
    }
    if (s.failed || !s.p) {
        const bool failed = s.failed;
        b2_str_free(&s);
        if (failed) return B2_NOMEM(r->e, "an adapter's configuration");
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: target_modules: expected a list of module names",
                       r->config_path);
    }
    r->a->cfg.targets = s.p;
    r->by_pattern = b2_json_is_string(t);
    return BLIP2_OK;
}

/* A number from lo to hi, when the configuration gives one. */
static blip2_status read_number(const reading *r, const b2_json *v, const char *key, double lo, double hi,
                                double *out)
{
    if (b2_json_is_null(v)) return BLIP2_OK;
    const double x = b2_json_number(v, NAN);
    if (!(x >= lo && x <= hi))
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s: expected a number from %g to %g", r->config_path, key,
                       lo, hi);
    *out = x;
    return BLIP2_OK;
}

/* rank_pattern, alpha_pattern: an object of numbers. */
static blip2_status check_pattern(const reading *r, const char *key, double lo, double hi)
{
    const b2_json *p = b2_json_get(r->config, key);
    double ignored;
    if (b2_json_is_null(p)) return BLIP2_OK;
    if (!b2_json_is_object(p))
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s: expected an object of numbers", r->config_path, key);
    for (const b2_json *v = b2_json_first(p); v; v = b2_json_next(v)) {
        if (b2_json_is_null(v))
            return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s: expected numbers, found null", r->config_path,
                           key);
        B2_TRY(read_number(r, v, key, lo, hi, &ignored));
    }
    return BLIP2_OK;
}

static blip2_status read_config(reading *r)
{
    int64_t rank = 8;
    b2_lora_config *c = &r->a->cfg;
    if (!b2_json_is_object(r->config))
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: expected a JSON object", r->config_path);
    B2_TRY(check_options(r));
    if (!b2_json_is_null(b2_json_get(r->config, "r")) &&
        !b2_json_int(b2_json_get(r->config, "r"), 1, 4096, &rank))
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: r: expected a whole number from 1 to 4096",
                       r->config_path);
    c->r = (int)rank;
    c->alpha = 8.0;
    B2_TRY(read_number(r, b2_json_get(r->config, "lora_alpha"), "lora_alpha", -1e6, 1e6, &c->alpha));
    B2_TRY(read_number(r, b2_json_get(r->config, "lora_dropout"), "lora_dropout", 0, 1, &c->dropout));
    B2_TRY(check_pattern(r, "rank_pattern", 1, 4096));
    B2_TRY(check_pattern(r, "alpha_pattern", -1e6, 1e6));
    const b2_json *rslora = b2_json_get(r->config, "use_rslora");
    if (!b2_json_is_null(rslora) && !b2_json_is_bool(rslora))
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: use_rslora: expected true or false", r->config_path);
    c->rslora = b2_json_bool(rslora, false);
    const char *base = b2_json_string(b2_json_get(r->config, "base_model_name_or_path"));
    if (base && !(r->a->base_model = b2_strdup(base))) return B2_NOMEM(r->e, "an adapter's configuration");
    return read_targets(r);
}

/* PEFT's get_pattern_key: a pattern names modules whose name is, or ends with ".", the key (read as plain
 * text). */
static double pattern(const reading *r, const char *key, const char *module, size_t n, double fallback)
{
    for (const b2_json *v = b2_json_first(b2_json_get(r->config, key)); v; v = b2_json_next(v)) {
        const char *k = b2_json_key(v);
        if (k && *k == '^') k++;
        if (k && b2_lora_matches(module, n, k)) return b2_json_number(v, fallback);
    }
    return fallback;
}

/* "base_model.model.M.lora_A[.default].weight" → M and which half; false when it is no such key. */
static bool split_key(const char *key, char *module, size_t cap, bool *is_b)
{
    static const char *const prefixes[] = {"base_model.model.", "base_model."};
    for (int i = 0; i < 2; i++) {
        if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0) {
            key += strlen(prefixes[i]);
            break;
        }
    }
    const char *at = strstr(key, ".lora_A."), *b = strstr(key, ".lora_B.");
    *is_b = !at;
    if (!at) at = b;
    if (!at || (size_t)(at - key) + 1 > cap) return false;
    const char *tail = at + strlen(".lora_A.");
    if (strcmp(tail, "weight") != 0 && strcmp(tail, "default.weight") != 0) return false;
    memcpy(module, key, (size_t)(at - key));
    module[at - key] = 0;
    return true;
}

static int find_module(const b2_net *n, const char *module)
{
    const size_t k = strlen(module);
    for (int i = 0; i < n->refs; i++) {
        if (n->ref[i].linear && strncmp(n->ref[i].name, module, k) == 0 &&
            strcmp(n->ref[i].name + k, ".weight") == 0)
            return i;
    }
    return -1;
}

static blip2_status place(const reading *r, const b2_st_tensor *t)
{
    char module[160];
    bool is_b;
    if (!split_key(t->name, module, sizeof module, &is_b))
        return b2_fail(r->e, BLIP2_ERR_CONFIG,
                       "%s: key \"%s\" is no LoRA weight (expected ….lora_A.weight or ….lora_B.weight)",
                       t->file, t->name);
    const int ref = find_module(r->a->model->net, module);
    if (ref < 0)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: key \"%s\": the model has no linear module \"%s\"",
                       t->file, t->name, module);
    const b2_param *w = r->a->model->net->ref[ref].param;
    const int64_t want = is_b ? w->rows : w->cols, have = t->rank == 2 ? t->shape[is_b ? 0 : 1] : -1;
    if (have != want)
        return b2_fail(r->e, BLIP2_ERR_SHAPE, "%s: \"%s\": expected %s, found rank %d with %lld", t->file,
                       t->name, is_b ? "[out, r] with out of the module" : "[r, in] with in of the module",
                       t->rank, (long long)have);
    const b2_st_tensor **slot = is_b ? &r->tb[ref] : &r->ta[ref];
    if (*slot)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: \"%s\" and \"%s\" are the same weight", t->file, t->name,
                       (*slot)->name);
    *slot = t;
    return BLIP2_OK;
}

static blip2_status pair(const reading *r, int ref, int64_t *floats)
{
    const b2_st_tensor *ta = r->ta[ref], *tb = r->tb[ref];
    const b2_param_ref *p = &r->a->model->net->ref[ref];
    if (!ta != !tb)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: module of \"%s\": only one of lora_A and lora_B is there",
                       (ta ? ta : tb)->file, p->name);
    if (!ta) return BLIP2_OK;
    if (ta->shape[0] != tb->shape[1] || ta->shape[0] < 1 || ta->shape[0] > 4096)
        return b2_fail(r->e, BLIP2_ERR_SHAPE, "%s: \"%s\" has rank %lld, \"%s\" %lld", ta->file, ta->name,
                       (long long)ta->shape[0], tb->name, (long long)tb->shape[1]);
    const size_t n = strlen(p->name) - strlen(".weight");
    const int rank = (int)ta->shape[0], declared = (int)pattern(r, "rank_pattern", p->name, n, r->a->cfg.r);
    if (declared != rank)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: \"%s\" has rank %d, adapter_config.json says %d",
                       ta->file, ta->name, rank, declared);
    b2_adapter_entry *x = &r->a->entry[r->a->entries++];
    *x = (b2_adapter_entry){.ref = ref,
                            .r = rank,
                            .scale = b2_lora_scale(pattern(r, "alpha_pattern", p->name, n, r->a->cfg.alpha),
                                                   rank, r->a->cfg.rslora)};
    *floats += (int64_t)rank * (p->param->rows + p->param->cols);
    r->a->touches_image = r->a->touches_image || p->part != B2_PART_T5;
    return BLIP2_OK;
}

static blip2_status load_values(const reading *r, int64_t floats)
{
    blip2_adapter *a = r->a;
    a->data = malloc((size_t)floats * sizeof(float));
    if (!a->data) return B2_NOMEM(r->e, "an adapter's weights");
    a->parameters = floats;
    float *at = a->data;
    for (int i = 0; i < a->entries; i++) {
        b2_adapter_entry *x = &a->entry[i];
        const b2_param *w = a->model->net->ref[x->ref].param;
        const int64_t na = (int64_t)x->r * w->cols, nb = (int64_t)x->r * w->rows;
        B2_TRY(b2_weights_read(r->ta[x->ref], 0, na, at, r->e));
        B2_TRY(b2_weights_read(r->tb[x->ref], 0, nb, at + na, r->e));
        x->a = at;
        x->b = at + na;
        at += na + nb;
    }
    return b2_adapter_place(a, r->e);
}

static int matched(const b2_net *n, const char *targets)
{
    int count = 0;
    for (int i = 0; i < n->refs; i++) {
        const b2_param_ref *p = &n->ref[i];
        if (p->linear && p->rank == 2 &&
            b2_lora_matches(p->name, strlen(p->name) - strlen(".weight"), targets))
            count++;
    }
    return count;
}

/* The adapted modules as a list: by their last names, each once, or by their whole names. */
static void list_modules(const blip2_adapter *a, bool whole, b2_str *out)
{
    for (int i = 0; i < a->entries; i++) {
        const char *name = a->model->net->ref[a->entry[i].ref].name;
        const int n = (int)(strlen(name) - strlen(".weight"));
        int from = whole ? 0 : n;
        while (from > 0 && name[from - 1] != '.') from--;
        if (!whole && out->p && b2_lora_matches(name, (size_t)n, out->p)) continue;
        b2_str_addf(out, out->n ? ",%.*s" : "%.*s", n - from, name + from);
    }
}

/* A pattern is Python's affair: what it chose is in the file, and is named as a list. */
static blip2_status targets_from_modules(const reading *r)
{
    b2_str list = {0};
    list_modules(r->a, false, &list);
    if (!list.failed && matched(r->a->model->net, list.p) != r->a->entries) {
        b2_str_free(&list);
        list_modules(r->a, true, &list);
    }
    if (list.failed) {
        b2_str_free(&list);
        return B2_NOMEM(r->e, "an adapter's targets");
    }
    free(r->a->cfg.targets);
    r->a->cfg.targets = list.p;
    return BLIP2_OK;
}

static blip2_status read_weights(reading *r)
{
    const b2_net *n = r->a->model->net;
    int64_t floats = 0;
    r->ta = calloc((size_t)n->refs, sizeof *r->ta);
    r->tb = calloc((size_t)n->refs, sizeof *r->tb);
    r->a->entry = calloc((size_t)n->refs, sizeof *r->a->entry);
    if (!r->ta || !r->tb || !r->a->entry) return B2_NOMEM(r->e, "an adapter");
    for (size_t i = 0; i < b2_st_count(r->file); i++) B2_TRY(place(r, b2_st_at(r->file, i)));
    for (int i = 0; i < n->refs; i++) B2_TRY(pair(r, i, &floats));
    if (r->a->entries == 0)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: adapter_model.safetensors holds no LoRA weights", r->dir);
    if (r->by_pattern) B2_TRY(targets_from_modules(r));
    r->a->matched = matched(n, r->a->cfg.targets);
    if (r->a->matched == 0)
        return b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: target_modules: no module of the model is named \"%s\"",
                       r->config_path, r->a->cfg.targets);
    return load_values(r, floats);
}

/* The prompt template that the adapter was trained with (blip2_prompt.json), if it says one. */
static blip2_status read_prompt(const reading *r)
{
    b2_json *j = NULL;
    char *path = b2_path_join(r->dir, "blip2_prompt.json");
    if (!path) return B2_NOMEM(r->e, "a path");
    blip2_status s = BLIP2_OK;
    if (b2_file_exists(path)) s = b2_json_load(&j, path, 1 << 16, 100, r->e);
    const char *t = b2_json_string(b2_json_get(j, "prompt_template"));
    if (s == BLIP2_OK && t && !(r->a->prompt_template = b2_strdup(t)))
        s = B2_NOMEM(r->e, "a prompt template");
    b2_json_free(j);
    free(path);
    return s;
}

static blip2_status read_all(reading *r)
{
    r->config_path = b2_path_join(r->dir, "adapter_config.json");
    char *weights = b2_path_join(r->dir, "adapter_model.safetensors"),
         *bin = b2_path_join(r->dir, "adapter_model.bin");
    blip2_status s = r->config_path && weights && bin ? BLIP2_OK : B2_NOMEM(r->e, "a path");
    if (s == BLIP2_OK) s = b2_json_load(&r->config, r->config_path, 1 << 20, 50000, r->e);
    if (s == BLIP2_OK) s = read_config(r);
    if (s == BLIP2_OK && !b2_file_exists(weights) && b2_file_exists(bin))
        s = b2_fail(r->e, BLIP2_ERR_UNSUPPORTED,
                    "%s: only adapter_model.bin (a Python pickle) is there; convert it: python3 -c \"import "
                    "torch, safetensors.torch as s; "
                    "s.save_file(torch.load('adapter_model.bin', map_location='cpu', weights_only=True), "
                    "'adapter_model.safetensors')\"",
                    r->dir);
    if (s == BLIP2_OK) s = b2_st_open_file(&r->file, weights, r->e);
    if (s == BLIP2_OK) s = read_weights(r);
    if (s == BLIP2_OK) s = read_prompt(r);
    free(weights);
    free(bin);
    return s;
}

blip2_status blip2_adapter_open(const blip2_model *m, const char *dir, blip2_adapter **out, blip2_error *err)
{
    if (!m || !dir || !out)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_adapter_open: model, dir and out must not be NULL");
    *out = NULL;
    blip2_adapter *a = calloc(1, sizeof *a);
    if (!a) return B2_NOMEM(err, "an adapter");
    a->refs = 1;
    a->model = b2_model_ref((blip2_model *)(uintptr_t)m);
    reading r = {.dir = dir, .a = a, .e = err};
    const blip2_status s = read_all(&r);
    b2_json_free(r.config);
    b2_st_close(r.file);
    free(r.config_path);
    free(r.ta);
    free(r.tb);
    if (s != BLIP2_OK) {
        blip2_adapter_close(a);
        return s;
    }
    *out = a;
    return BLIP2_OK;
}
