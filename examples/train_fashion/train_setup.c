/* From settings to an open trainer's parts; whatever can be wrong is found here, before hours of work. */
#include <stdlib.h>
#include <string.h>
#include "examples/train_fashion/train.h"

void settings_defaults(settings *s)
{
    blip2_trainer_options o;
    blip2_trainer_options_init(&o);
    *s = (settings){.preset = "none",
                    .trainable = "lora",
                    .augment = "none",
                    .feature_cache = "auto",
                    .resume = "auto",
                    .dtype = "file",
                    .lora_targets = o.lora_targets,
                    .epochs = o.epochs,
                    .max_steps = o.max_steps,
                    .batch_size = o.batch,
                    .accumulate = o.accumulate,
                    .warmup = o.warmup,
                    .lora_rank = o.lora_rank,
                    .seed = (int64_t)o.seed,
                    .sample_every = 50,
                    .log_every = 10,
                    .max_new_tokens = 32,
                    .eval_batch = 32,
                    .lr = o.lr,
                    .weight_decay = o.weight_decay,
                    .beta1 = o.beta1,
                    .beta2 = o.beta2,
                    .eps = o.eps,
                    .clip = o.clip,
                    .lora_alpha = o.lora_alpha,
                    .lora_dropout = o.lora_dropout,
                    .dropout = o.dropout,
                    .recompute = o.recompute,
                    .shuffle = o.shuffle,
                    .rslora = o.lora_rslora,
                    .device = DEVICE_SETTINGS_INIT};
    s->schedule = o.schedule == BLIP2_CONSTANT ? "constant"
                  : o.schedule == BLIP2_LINEAR ? "linear"
                                               : "cosine";
}

int settings_check(const program *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    if (!s->train && !s->eval) return usage_error(p, "neither --train nor --eval is given");
    if (s->eval_every && !s->eval) return usage_error(p, "--eval-every needs --eval");
    if (s->init_adapter && strcmp(s->trainable, "lora"))
        return usage_error(p, "--init-adapter needs --trainable lora");
    if (!strcmp(s->feature_cache, "on") && strcmp(s->trainable, "lora"))
        return usage_error(p, "--feature-cache on: with --trainable %s the features change with every step",
                           s->trainable);
    if (s->checkpoint_every && !s->checkpoint_dir)
        return usage_error(p, "--checkpoint-every needs --checkpoint-dir");
    if (s->plan) return -1;
    if (same_folder(s->output, s->model))
        return usage_error(p, "--output: %s is the model's own folder", s->output);
    if (folder_prepare(s->output, &err) != BLIP2_OK) return failure(p, EXIT_USAGE, "--output: %s", err.text);
    if (s->checkpoint_dir && folder_prepare(s->checkpoint_dir, &err) != BLIP2_OK)
        return failure(p, EXIT_USAGE, "--checkpoint-dir: %s", err.text);
    return -1;
}

static blip2_status open_data(const run *r, const char *csv, int64_t limit, blip2_dataset **out,
                              blip2_error *err)
{
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    o.csv = csv;
    o.images = r->s->images;
    o.limit = limit;
    return csv ? blip2_dataset_open(&o, out, err) : BLIP2_OK;
}

static int augment_flags(const char *text)
{
    return (strstr(text, "flip") ? BLIP2_AUGMENT_FLIP : 0) |
           (strstr(text, "shift") ? BLIP2_AUGMENT_SHIFT : 0);
}

/* Names of the language model's linears alone; any other target may reach the ViT or the Q-Former. */
static bool text_side_only(const char *targets)
{
    static const char *const known[] = {"q", "k", "v", "o", "wi_0", "wi_1", "wi", "wo", "lm_head"};
    for (const char *t = targets; *t; t += strcspn(t, ","), t += *t == ',') {
        size_t i = 0, n = strcspn(t, ",");
        while (i < sizeof known / sizeof *known && (strlen(known[i]) != n || strncmp(known[i], t, n))) i++;
        if (i == sizeof known / sizeof *known) return false;
    }
    return true;
}

static blip2_status features_constant(const run *r, int *constant, blip2_error *err)
{
    blip2_adapter *a = NULL;
    blip2_adapter_info info = {.size = sizeof info};
    *constant = !strcmp(r->s->trainable, "lora") && text_side_only(r->s->lora_targets);
    if (!r->s->init_adapter) return BLIP2_OK;
    blip2_status s = blip2_adapter_open(r->model, r->s->init_adapter, &a, err);
    if (s == BLIP2_OK) blip2_adapter_get_info(a, &info);
    *constant = !info.touches_image;
    blip2_adapter_close(a);
    return s;
}

static blip2_status fill_options(run *r, blip2_error *err)
{
    const settings *s = r->s;
    blip2_trainer_options *o = &r->options;
    blip2_trainer_options_init(o);
    o->trainable = !strcmp(s->trainable, "lora")      ? BLIP2_TRAIN_LORA
                   : !strcmp(s->trainable, "qformer") ? BLIP2_TRAIN_QFORMER
                                                      : BLIP2_TRAIN_ALL;
    o->schedule = !strcmp(s->schedule, "constant") ? BLIP2_CONSTANT
                  : !strcmp(s->schedule, "linear") ? BLIP2_LINEAR
                                                   : BLIP2_COSINE;
    o->lora_rank = (int)s->lora_rank;
    o->lora_alpha = s->lora_alpha;
    o->lora_dropout = s->lora_dropout;
    o->lora_rslora = s->rslora;
    o->lora_targets = s->lora_targets;
    o->init_adapter = s->init_adapter;
    o->batch = (int)s->batch_size;
    o->accumulate = (int)s->accumulate;
    o->epochs = (int)s->epochs;
    o->max_steps = s->max_steps;
    o->lr = s->lr;
    o->weight_decay = s->weight_decay;
    o->beta1 = s->beta1;
    o->beta2 = s->beta2;
    o->eps = s->eps;
    o->clip = s->clip;
    o->warmup = s->warmup;
    o->dropout = s->dropout;
    o->recompute = s->recompute;
    o->augment = augment_flags(s->augment);
    o->shuffle = s->shuffle;
    o->seed = (uint64_t)s->seed;
    o->cache_path = s->cache_file;
    o->prompt_template = s->prompt_template;
    o->base_model_name = s->base_model_name;
    o->feature_cache = !strcmp(s->feature_cache, "on");
    if (strcmp(s->feature_cache, "auto") || !s->train) return BLIP2_OK;
    return features_constant(r, &o->feature_cache, err);
}

blip2_status run_open(run *r, blip2_error *err)
{
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_status s = blip2_dtype_parse(r->s->dtype, &o.dtype, err);
    if (s == BLIP2_OK) s = device_open(r->p, &r->s->device, &r->device, err);
    if (s == BLIP2_OK) s = blip2_model_open(r->device, r->s->model, &o, &r->model, err);
    if (s == BLIP2_OK) s = open_data(r, r->s->train, r->s->limit, &r->train, err);
    if (s == BLIP2_OK) s = open_data(r, r->s->eval, r->s->eval_limit, &r->eval, err);
    return s == BLIP2_OK ? fill_options(r, err) : s;
}

void run_close(run *r)
{
    if (r->metrics) fclose(r->metrics);
    free(r->metrics_path);
    blip2_session_close(r->session);
    blip2_trainer_close(r->trainer);
    blip2_dataset_close(r->train);
    blip2_dataset_close(r->eval);
    blip2_adapter_close(r->adapter);
    blip2_model_close(r->model);
    blip2_device_close(r->device);
}
