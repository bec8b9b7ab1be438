/* Writing a PEFT folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "image/image.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "text/text.h"

/* Keys sorted, indent 2, as PEFT writes them. */
static void config_text(const b2_adapter_write *w, b2_str *o)
{
    b2_str_add(o, "{\n  \"alpha_pattern\": {},\n  \"auto_mapping\": {\n    \"base_model_class\": "
                  "\"Blip2ForConditionalGeneration\",\n"
                  "    \"parent_library\": \"transformers.models.blip_2.modeling_blip_2\"\n  },\n  "
                  "\"base_model_name_or_path\": ");
    b2_str_add_json(o, w->base_model ? w->base_model : "");
    b2_str_add(o, ",\n  \"bias\": \"none\",\n  \"exclude_modules\": null,\n  \"fan_in_fan_out\": false,\n  "
                  "\"inference_mode\": true,\n"
                  "  \"init_lora_weights\": true,\n  \"layer_replication\": null,\n  \"layers_pattern\": "
                  "null,\n  \"layers_to_transform\": null,\n"
                  "  \"loftq_config\": {},\n");
    b2_str_addf(o, "  \"lora_alpha\": %.17g,\n  \"lora_bias\": false,\n  \"lora_dropout\": %.17g,\n",
                w->cfg->alpha, w->cfg->dropout);
    b2_str_add(o, "  \"megatron_config\": null,\n  \"megatron_core\": \"megatron.core\",\n  "
                  "\"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n");
    b2_str_addf(o, "  \"r\": %d,\n  \"rank_pattern\": {},\n  \"revision\": null,\n  \"target_modules\": [",
                w->cfg->r);
    int first = 1;
    for (const char *t = w->cfg->targets; t && *t;) {
        const size_t k = strcspn(t, ",");
        char *one = b2_strndup(t, k);
        b2_str_add(o, first ? "\n    " : ",\n    ");
        if (one)
            b2_str_add_json(o, one);
        else
            o->failed = true;
        free(one);
        first = 0;
        t += k + (t[k] == ',');
    }
    b2_str_addf(o, "\n  ],\n  \"task_type\": null,\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
                w->cfg->rslora ? "true" : "false");
}

static blip2_status write_text(const char *dir, const char *name, b2_str *s, blip2_error *e)
{
    char *path = b2_path_join(dir, name);
    blip2_status st = path && !s->failed ? BLIP2_OK : B2_NOMEM(e, name);
    if (st == BLIP2_OK) st = b2_write_file(path, s->p, s->n, e);
    free(path);
    b2_str_free(s);
    return st;
}

static blip2_status declare(b2_st_writer *w, const b2_adapter_write *a, const b2_adapter_entry *x, bool b,
                            blip2_error *e)
{
    char name[200];
    const b2_param_ref *r = &a->net->ref[x->ref];
    const int n = (int)(strlen(r->name) - strlen(".weight"));
    const int64_t shape[2] = {b ? r->param->rows : x->r, b ? x->r : r->param->cols};
    snprintf(name, sizeof name, "base_model.model.%.*s.lora_%c.weight", n, r->name, b ? 'B' : 'A');
    return b2_st_writer_declare(w, name, B2_ST_F32, 2, shape, e);
}

static blip2_status feed(b2_st_writer *w, const b2_adapter_write *a, blip2_error *e)
{
    for (int i = 0; i < a->entries; i++) {
        B2_TRY(declare(w, a, &a->entry[i], false, e));
        B2_TRY(declare(w, a, &a->entry[i], true, e));
    }
    B2_TRY(b2_st_writer_begin(w, e));
    for (size_t i = 0; i < 2 * (size_t)a->entries; i++) {
        const size_t k = b2_st_writer_order(w, i);
        const b2_adapter_entry *x = &a->entry[k / 2];
        const b2_param *p = a->net->ref[x->ref].param;
        const size_t n = (size_t)x->r * (size_t)(k % 2 ? p->rows : p->cols);
        B2_TRY(b2_st_writer_data(w, k % 2 ? x->b : x->a, n * sizeof(float), e));
    }
    return BLIP2_OK;
}

static blip2_status write_weights(const b2_adapter_write *a, const char *dir, blip2_error *e)
{
    b2_st_writer *w = NULL;
    char *path = b2_path_join(dir, "adapter_model.safetensors");
    if (!path) return B2_NOMEM(e, "a path");
    blip2_status s = b2_st_writer_open(&w, path, e);
    free(path);
    if (s != BLIP2_OK) return s;
    s = feed(w, a, e);
    if (s == BLIP2_OK) return b2_st_writer_commit(w, e);
    b2_st_writer_abort(w);
    return s;
}

static blip2_status copy_processor(const char *from, const char *to, blip2_error *e)
{
    char *a = b2_path_join(from, "preprocessor_config.json"),
         *b = b2_path_join(to, "preprocessor_config.json");
    blip2_status s = a && b ? BLIP2_OK : B2_NOMEM(e, "a path");
    if (s == BLIP2_OK && b2_file_exists(a)) s = b2_copy_file(a, b, e);
    free(a);
    free(b);
    return s;
}

blip2_status b2_adapter_save(const b2_adapter_write *w, const char *dir, blip2_error *e)
{
    b2_str config = {0}, prompt = {0};
    if (w->model_dir && b2_same_folder(w->model_dir, dir))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: the model's own folder cannot be the output", dir);
    B2_TRY(b2_make_dirs(dir, e));
    b2_sweep_leftovers(dir, NULL);
    B2_TRY(write_weights(w, dir, e));
    config_text(w, &config);
    B2_TRY(write_text(dir, "adapter_config.json", &config, e));
    b2_str_add(&prompt, "{\n  \"prompt_template\": ");
    b2_str_add_json(&prompt, w->prompt_template ? w->prompt_template : B2_DEFAULT_TEMPLATE);
    b2_str_add(&prompt, "\n}\n");
    B2_TRY(write_text(dir, "blip2_prompt.json", &prompt, e));
    if (!w->model_dir) return BLIP2_OK;
    B2_TRY(b2_tokenizer_copy(w->model_dir, dir, e));
    return copy_processor(w->model_dir, dir, e);
}
