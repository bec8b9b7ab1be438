/* What a training run leaves: a PEFT folder, or a model folder. */
#include <stdlib.h>
#include "train/trainer.h"

blip2_status blip2_trainer_save(const blip2_trainer *t, const char *dir, blip2_error *e)
{
    if (!t || !dir)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_trainer_save: a trainer and a folder are needed");
    if (t->o.trainable != BLIP2_TRAIN_LORA)
        return b2_model_write(t->model, t->net, NULL, BLIP2_DTYPE_FILE, dir, e);
    b2_adapter_write w = {.net = t->net,
                          .cfg = &t->lora,
                          .base_model = t->o.base_model_name,
                          .prompt_template = t->o.prompt_template,
                          .model_dir = t->model->dir};
    b2_adapter_entry *entry = b2_trainer_entries(t, &w.entries);
    if (!entry) return B2_NOMEM(e, "an adapter");
    w.entry = entry;
    const blip2_status s = b2_adapter_save(&w, dir, e);
    free(entry);
    return s;
}
