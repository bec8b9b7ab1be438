/* Options of a trainer: defaults that work, and what is refused. */
#include <math.h>
#include "model/lora.h"
#include "text/text.h"
#include "train/trainer.h"

void blip2_trainer_options_init(blip2_trainer_options *o)
{
    *o = (blip2_trainer_options){.size = sizeof *o,
                                 .trainable = BLIP2_TRAIN_LORA,
                                 .lora_rank = 8,
                                 .lora_alpha = 32.0,
                                 .lora_dropout = 0.05,
                                 .lora_targets = "q,v",
                                 .batch = 16,
                                 .accumulate = 1,
                                 .epochs = 3,
                                 .lr = 5e-4,
                                 .weight_decay = 0.01,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .eps = 1e-8,
                                 .clip = 1.0,
                                 .schedule = BLIP2_COSINE,
                                 .warmup = -1,
                                 .dropout = -1.0,
                                 .shuffle = 1,
                                 .seed = 1,
                                 .max_prompt_tokens = 256,
                                 .max_answer_tokens = 128};
}

/* One numeric field and the interval it must lie in; open: the upper end does not belong to it. */
typedef struct range {
    const char *name;
    double value, lo, hi;
    bool open;
} range;

static blip2_status check_ranges(const range *r, size_t n, blip2_error *e)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(r[i].value) && r[i].value >= r[i].lo &&
            (r[i].open ? r[i].value < r[i].hi : r[i].value <= r[i].hi))
            continue;
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: expected %g to %s%g, found %g", r[i].name, r[i].lo,
                       r[i].open ? "below " : "", r[i].hi, r[i].value);
    }
    return BLIP2_OK;
}

static blip2_status check_numbers(const blip2_trainer_options *o, blip2_error *e)
{
    const range r[] = {
        {"batch", o->batch, 1, 65536, false},
        {"accumulate", o->accumulate, 1, 65536, false},
        {"epochs", o->epochs, o->max_steps > 0 ? 0 : 1, 1e6, false},
        {"max_steps", (double)o->max_steps, 0, 1e12, false},
        {"lr", o->lr, 0, 100, false},
        {"weight_decay", o->weight_decay, 0, 10, false},
        {"beta1", o->beta1, 0, 1, true},
        {"beta2", o->beta2, 0, 1, true},
        {"eps", o->eps, 1e-30, 1, false},
        {"clip", o->clip, 0, 1e9, false},
        {"warmup", (double)o->warmup, -1, 1e12, false},
        {"dropout", o->dropout < 0 ? 0 : o->dropout, 0, 1, true},
        {"max_prompt_tokens", o->max_prompt_tokens, 1, 3500, false},
        {"max_answer_tokens", o->max_answer_tokens, 1, 3500, false},
    };
    return check_ranges(r, sizeof r / sizeof r[0], e);
}

blip2_status b2_trainer_options_check(const blip2_trainer_options *o, blip2_error *e)
{
    const range lora[] = {{"lora_rank", o->lora_rank, 1, 4096, false},
                          {"lora_alpha", o->lora_alpha, 1e-6, 1e6, false},
                          {"lora_dropout", o->lora_dropout, 0, 1, true}};
    if (o->size != sizeof *o)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_trainer_options.size: expected %zu, found %zu",
                       sizeof *o, o->size);
    B2_TRY(check_numbers(o, e));
    if (o->trainable < BLIP2_TRAIN_LORA || o->trainable > BLIP2_TRAIN_ALL)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "trainable: unknown value %d", (int)o->trainable);
    if (o->schedule < BLIP2_CONSTANT || o->schedule > BLIP2_COSINE)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "schedule: unknown value %d", (int)o->schedule);
    if (o->augment & ~(BLIP2_AUGMENT_FLIP | BLIP2_AUGMENT_SHIFT))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "augment: unknown flags %d", o->augment);
    if (o->trainable != BLIP2_TRAIN_LORA) {
        if (o->feature_cache)
            return b2_fail(e, BLIP2_ERR_ARGUMENT,
                           "feature_cache: the image side trains, its features change with every step");
        if (o->init_adapter)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "init_adapter: only a LoRA run can start from an adapter");
    } else {
        if (!o->init_adapter) B2_TRY(check_ranges(lora, 3, e));
        if (!o->init_adapter && !o->lora_targets)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "lora_targets: names of modules are needed, e.g. \"q,v\"");
    }
    return o->prompt_template ? b2_prompt_check(o->prompt_template, e) : BLIP2_OK;
}
