/* What a training run leaves: a PEFT folder, or a model folder. */
#include <stdlib.h>
#include "train/trainer.h"

static blip2_status save_adapter(const blip2_trainer *t, const float *values, const char *dir, blip2_error *e)
{
    b2_adapter_write w = {.net = t->net,
                          .cfg = &t->lora,
                          .base_model = t->o.base_model_name,
                          .prompt_template = t->o.prompt_template,
                          .model_dir = t->model->dir};
    b2_adapter_entry *entry = b2_trainer_entries(t, values, &w.entries);
    if (!entry) return B2_NOMEM(e, "an adapter");
    w.entry = entry;
    const blip2_status s = b2_adapter_save(&w, dir, e);
    free(entry);
    return s;
}

static blip2_status save_model(const blip2_trainer *t, const float *values, const char *dir, blip2_error *e)
{
    b2_net *net = NULL;
    blip2_status s = b2_trainer_host_net(t, values, &net, e);
    if (s == BLIP2_OK) s = b2_model_write(t->model, net, NULL, BLIP2_DTYPE_FILE, dir, e);
    b2_net_free(net);
    return s;
}

blip2_status blip2_trainer_save(const blip2_trainer *t, const char *dir, blip2_error *e)
{
    if (!t || !dir)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_trainer_save: a trainer and a folder are needed");
    const float *values = NULL;
    B2_TRY(b2_trainer_pull(t, t->flat.w, &values, e));
    return t->o.trainable == BLIP2_TRAIN_LORA ? save_adapter(t, values, dir, e)
                                              : save_model(t, values, dir, e);
}
