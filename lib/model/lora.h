/* Adapters on a net: which modules targets name, attaching, PEFT folders. */
#ifndef B2_MODEL_LORA_H
#define B2_MODEL_LORA_H
#include "blip2/adapter.h"
#include "model/net.h"

typedef struct b2_lora_config {
    int r;
    double alpha, dropout;
    bool rslora;
    char *targets; /* comma-separated suffixes, e.g. "q,v" */
} b2_lora_config;
float b2_lora_scale(double alpha, int r, bool rslora);

/* Does the module NAME (a ref's name without ".weight") match one of the suffixes: equal, or ends with
 * ".suffix"? */
bool b2_lora_matches(const char *module, size_t n, const char *targets);
/* Refs (indices into net->ref, linears only) that `targets` names; *out is malloc'ed. BLIP2_ERR_CONFIG
 * when none. */
blip2_status b2_lora_select(const b2_net *n, const char *targets, int **out, int *count, blip2_error *e);
/* Gives net slots for refs[0..count): net->slots[i] belongs to refs[i]; all empty. Freed by b2_net_free. */
blip2_status b2_lora_slots(b2_net *n, const int *refs, int count, blip2_error *e);

/* One adapted module of an adapter. */
typedef struct b2_adapter_entry {
    int ref; /* index into net->ref */
    int r;
    float scale;
    const float *a, *b; /* [r,in], [out,r], f32 */
} b2_adapter_entry;
struct blip2_adapter {
    _Atomic int refs;
    blip2_model *model;
    b2_lora_config cfg;
    b2_adapter_entry *entry;
    int entries, matched;
    bool touches_image;
    int64_t parameters;
    char *base_model, *prompt_template;
    float *data; /* the host's */
    float *run;  /* the same where the kernels run */
};
/* Fills run from data; gives it back. */
blip2_status b2_adapter_place(blip2_adapter *a, blip2_error *e);
void b2_adapter_unplace(blip2_adapter *a);
blip2_adapter *b2_adapter_ref(blip2_adapter *a);
/* Binds n (<= 8) adapters to a net: slot k of every adapted linear holds adapter k (r = 0 where it has
 * nothing). */
blip2_status b2_adapters_attach(b2_net *n, blip2_adapter *const *adapters, int count, blip2_error *e);

/* Writes a PEFT folder: adapter_config.json (keys sorted), adapter_model.safetensors (f32), the prompt
 * template (blip2_prompt.json), tokenizer and processor files from the model's folder. */
typedef struct b2_adapter_write {
    const b2_net *net;
    const b2_adapter_entry *entry;
    int entries;
    const b2_lora_config *cfg;
    const char *base_model, *prompt_template, *model_dir;
} b2_adapter_write;
blip2_status b2_adapter_save(const b2_adapter_write *w, const char *dir, blip2_error *e);
#endif
