/* config.json of every era: nested dictionaries with class defaults for whatever is missing
 * (docs/pitfalls.md). */
#ifndef B2_MODEL_CONFIG_H
#define B2_MODEL_CONFIG_H
#include "base/json.h"
#include "base/str.h"
#include "kernels/kernels.h"

typedef struct b2_config {
    struct {
        int hidden, inter, layers, heads, image, patch;
        float eps;
        b2_act_fn act;
        bool qkv_bias;
    } vit;
    struct {
        int hidden, inter, layers, heads, cross_every, queries;
        float eps, drop, attn_drop;
        b2_act_fn act;
    } qf;
    struct {
        int d, dkv, heads, ff, enc_layers, dec_layers, vocab, buckets, max_distance;
        float eps, drop;
        bool gated, scale_out; /* scale_out: decoder output times d^-0.5 before lm_head (tied models) */
        b2_act_fn act;
        int pad, eos, bos, start;
    } t5;
    int image_token; /* id of the placeholder, or -1 (older files: image tokens are put in front) */
} b2_config;

/* `name` is used in messages. Refuses other model types, OPT language models, sizes that cannot be. */
blip2_status b2_config_parse(b2_config *c, const b2_json *root, const char *name, blip2_error *e);
blip2_status b2_config_load(b2_config *c, const char *path, blip2_error *e);
/* "fashion-tiny", "flan-t5-xl", "flan-t5-xxl". */
blip2_status b2_config_preset(b2_config *c, const char *name, blip2_error *e);
/* A whole config.json, every value spelt out. dtype: "float32" or "bfloat16". */
void b2_config_write(const b2_config *c, const char *dtype, b2_str *out);
static inline int b2_config_patches(const b2_config *c)
{
    return (c->vit.image / c->vit.patch) * (c->vit.image / c->vit.patch);
}
static inline int b2_config_vit_tokens(const b2_config *c) { return 1 + b2_config_patches(c); }
#endif
