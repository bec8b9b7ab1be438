/* LoRA adapters in PEFT's folder format: adapter_config.json and adapter_model.safetensors. */
#ifndef BLIP2_ADAPTER_H
#define BLIP2_ADAPTER_H

#include "blip2/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blip2_adapter blip2_adapter; /* immutable, reference-counted, any thread */

/* Reads a PEFT folder for this model. Every key must belong to a module of the model; none at all, DoRA,
 * or an option that changes the mathematics is an error that names it. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_adapter_open(const blip2_model *m, const char *dir,
                                                           blip2_adapter **out, blip2_error *err);
BLIP2_API void blip2_adapter_close(blip2_adapter *a); /* NULL allowed */

typedef struct blip2_adapter_info {
    size_t size;
    int rank; /* of the configuration; single modules may differ by pattern */
    double alpha, dropout;
    int rslora;
    int modules, modules_matched; /* modules in the file; modules of the model the targets name */
    int touches_image;            /* also adapts the ViT or the Q-Former: features depend on it */
    int64_t parameters;
    const char *targets;         /* comma-separated; these strings live as long as the adapter */
    const char *base_model;      /* base_model_name_or_path, "" when absent */
    const char *prompt_template; /* as stored with the adapter, NULL when it stores none */
} blip2_adapter_info;
BLIP2_API void blip2_adapter_get_info(const blip2_adapter *a,
                                      blip2_adapter_info *info); /* set info->size first */

/* Writes a plain model folder: base weights (plus scale*B*A where a is not NULL; the sum is made in f32
 * and rounded once), config, tokenizer and processor files. dtype FILE keeps each tensor's own (quantised
 * ones that an adapter adds to become bf16); INT8 and INT4 write what the model holds when it was opened
 * so, and F32 and BF16 then the quantised values. Streams: one tensor in memory. m must have been opened
 * with dtype FILE for an exact copy. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_model_export(const blip2_model *m, const blip2_adapter *a,
                                                           blip2_dtype dtype, const char *out_dir,
                                                           blip2_error *err);

#ifdef __cplusplus
}
#endif
#endif
