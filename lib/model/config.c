/* Reading config.json. Defaults are transformers' class defaults (configuration_blip_2.py,
 * configuration_t5.py). */
#include <math.h>
#include <string.h>
#include "model/config.h"

typedef struct reader {
    const b2_json *node;
    const char *file, *section;
    blip2_error *e;
    blip2_status status;
} reader;

static int get_int(reader *r, const char *key, int fallback, int lo, int hi)
{
    const b2_json *v = b2_json_get(r->node, key);
    int64_t x = fallback;
    if (r->status != BLIP2_OK || b2_json_is_null(v)) return fallback;
    if (!b2_json_int(v, lo, hi, &x))
        r->status = b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s.%s: expected a whole number from %d to %d",
                            r->file, r->section, key, lo, hi);
    return (int)x;
}

static float get_float(reader *r, const char *key, double fallback)
{
    const b2_json *v = b2_json_get(r->node, key);
    if (r->status != BLIP2_OK || b2_json_is_null(v)) return (float)fallback;
    if (!b2_json_is_number(v) || !isfinite(b2_json_number(v, 0)) || b2_json_number(v, 0) < 0)
        r->status = b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s.%s: expected a number of at least 0", r->file,
                            r->section, key);
    return (float)b2_json_number(v, fallback);
}

static b2_act_fn get_act(reader *r, const char *key, const char *fallback)
{
    static const struct {
        const char *name;
        b2_act_fn fn;
    } known[] = {{"gelu", B2_GELU}, {"gelu_new", B2_GELU_NEW}, {"relu", B2_RELU},
                 {"silu", B2_SILU}, {"swish", B2_SILU},        {"gelu_pytorch_tanh", B2_GELU_NEW}};
    const char *name = b2_json_string(b2_json_get(r->node, key));
    if (!name) name = fallback;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) == 0) return known[i].fn;
    }
    if (r->status == BLIP2_OK)
        r->status =
            b2_fail(r->e, BLIP2_ERR_CONFIG, "%s: %s.%s: expected gelu, gelu_new, relu or silu, found \"%s\"",
                    r->file, r->section, key, name);
    return B2_GELU;
}

static void read_vision(b2_config *c, reader *r)
{
    c->vit.hidden = get_int(r, "hidden_size", 1408, 1, 1 << 16);
    c->vit.inter = get_int(r, "intermediate_size", 6144, 1, 1 << 18);
    c->vit.layers = get_int(r, "num_hidden_layers", 39, 1, 1000);
    c->vit.heads = get_int(r, "num_attention_heads", 16, 1, 255);
    c->vit.image = get_int(r, "image_size", 224, 1, 4096);
    c->vit.patch = get_int(r, "patch_size", 14, 1, 4096);
    c->vit.eps = get_float(r, "layer_norm_eps", 1e-6);
    c->vit.act = get_act(r, "hidden_act", "gelu");
    c->vit.qkv_bias = b2_json_bool(b2_json_get(r->node, "qkv_bias"), true);
}

static void read_qformer(b2_config *c, reader *r)
{
    c->qf.hidden = get_int(r, "hidden_size", 768, 1, 1 << 16);
    c->qf.inter = get_int(r, "intermediate_size", 3072, 1, 1 << 18);
    c->qf.layers = get_int(r, "num_hidden_layers", 12, 1, 1000);
    c->qf.heads = get_int(r, "num_attention_heads", 12, 1, 255);
    c->qf.cross_every = get_int(r, "cross_attention_frequency", 2, 1, 1000);
    c->qf.eps = get_float(r, "layer_norm_eps", 1e-12);
    c->qf.drop = get_float(r, "hidden_dropout_prob", 0.1);
    c->qf.attn_drop = get_float(r, "attention_probs_dropout_prob", 0.1);
    c->qf.act = get_act(r, "hidden_act", "gelu");
    if (r->status == BLIP2_OK && b2_json_bool(b2_json_get(r->node, "use_qformer_text_input"), false))
        r->status = b2_fail(
            r->e, BLIP2_ERR_UNSUPPORTED,
            "%s: qformer_config.use_qformer_text_input: expected false (InstructBLIP is not supported)",
            r->file);
}

/* "gated-gelu" → gated, gelu_new unless dense_act_fn says otherwise (transformers assigns it after
 * feed_forward_proj). */
static void read_feed_forward(b2_config *c, reader *r)
{
    const char *proj = b2_json_string(b2_json_get(r->node, "feed_forward_proj"));
    if (!proj) proj = "relu";
    c->t5.gated = strncmp(proj, "gated-", 6) == 0;
    const char *act = c->t5.gated ? proj + 6 : proj;
    if (c->t5.gated && strcmp(act, "gelu") == 0) act = "gelu_new";
    c->t5.act = get_act(r, "dense_act_fn", act);
    const b2_json *gated = b2_json_get(r->node, "is_gated_act");
    if (b2_json_is_bool(gated)) c->t5.gated = b2_json_bool(gated, c->t5.gated);
}

static void read_text(b2_config *c, reader *r)
{
    c->t5.d = get_int(r, "d_model", 512, 1, 1 << 16);
    c->t5.dkv = get_int(r, "d_kv", 64, 1, 1 << 12);
    c->t5.heads = get_int(r, "num_heads", 8, 1, 255);
    c->t5.ff = get_int(r, "d_ff", 2048, 1, 1 << 18);
    c->t5.enc_layers = get_int(r, "num_layers", 6, 1, 1000);
    c->t5.dec_layers = get_int(r, "num_decoder_layers", c->t5.enc_layers, 1, 1000);
    c->t5.vocab = get_int(r, "vocab_size", 32128, 3, 1 << 24);
    c->t5.buckets = get_int(r, "relative_attention_num_buckets", 32, 4, 1 << 12);
    c->t5.max_distance = get_int(r, "relative_attention_max_distance", 128, 2, 1 << 20);
    c->t5.eps = get_float(r, "layer_norm_epsilon", 1e-6);
    c->t5.drop = get_float(r, "dropout_rate", 0.1);
    read_feed_forward(c, r);
    const bool tied = b2_json_bool(b2_json_get(r->node, "tie_word_embeddings"), true);
    c->t5.scale_out = b2_json_bool(b2_json_get(r->node, "scale_decoder_outputs"), tied);
    c->t5.pad = get_int(r, "pad_token_id", 0, 0, c->t5.vocab - 1);
    c->t5.eos = get_int(r, "eos_token_id", 1, 0, c->t5.vocab - 1);
    c->t5.bos = get_int(r, "bos_token_id", 1, 0, c->t5.vocab - 1);
    c->t5.start = get_int(r, "decoder_start_token_id", c->t5.pad, 0, c->t5.vocab - 1);
}

static blip2_status check(const b2_config *c, const char *file, blip2_error *e)
{
    if (c->vit.hidden % c->vit.heads)
        return b2_fail(e, BLIP2_ERR_CONFIG,
                       "%s: vision_config: hidden_size %d is not a multiple of num_attention_heads %d", file,
                       c->vit.hidden, c->vit.heads);
    if (c->qf.hidden % c->qf.heads)
        return b2_fail(e, BLIP2_ERR_CONFIG,
                       "%s: qformer_config: hidden_size %d is not a multiple of num_attention_heads %d", file,
                       c->qf.hidden, c->qf.heads);
    if (c->vit.image < c->vit.patch)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: vision_config: image_size %d is smaller than patch_size %d",
                       file, c->vit.image, c->vit.patch);
    if (b2_config_vit_tokens(c) > 4096)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: vision_config: %d image patches, at most 4095 are supported",
                       file, b2_config_patches(c));
    if ((int64_t)c->t5.heads * c->t5.dkv > 1 << 18)
        return b2_fail(e, BLIP2_ERR_CONFIG,
                       "%s: text_config: num_heads x d_kv is %d, at most %d is supported", file,
                       c->t5.heads * c->t5.dkv, 1 << 18);
    return BLIP2_OK;
}

static blip2_status check_kind(const b2_json *root, const char *file, blip2_error *e)
{
    const char *type = b2_json_string(b2_json_get(root, "model_type"));
    const char *text = b2_json_string(b2_json_get(b2_json_get(root, "text_config"), "model_type"));
    if (!b2_json_is_object(root)) return b2_fail(e, BLIP2_ERR_CONFIG, "%s: expected a JSON object", file);
    if (type && strcmp(type, "blip-2") != 0)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: model_type: expected \"blip-2\", found \"%s\"", file, type);
    if (!b2_json_is_object(b2_json_get(root, "text_config")))
        return b2_fail(
            e, BLIP2_ERR_CONFIG,
            "%s: text_config: expected an object with model_type \"t5\", found none (such a file means OPT)",
            file);
    if (!text || strcmp(text, "t5") != 0)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: text_config.model_type: expected \"t5\", found \"%s\"", file,
                       text ? text : "nothing (which means OPT)");
    return BLIP2_OK;
}

blip2_status b2_config_parse(b2_config *c, const b2_json *root, const char *name, blip2_error *e)
{
    memset(c, 0, sizeof *c);
    B2_TRY(check_kind(root, name, e));
    reader r = {b2_json_get(root, "vision_config"), name, "vision_config", e, BLIP2_OK};
    read_vision(c, &r);
    r.node = b2_json_get(root, "qformer_config");
    r.section = "qformer_config";
    read_qformer(c, &r);
    r.node = b2_json_get(root, "text_config");
    r.section = "text_config";
    read_text(c, &r);
    r.node = root;
    r.section = "config";
    c->qf.queries = get_int(&r, "num_query_tokens", 32, 1, 4095);
    c->image_token = get_int(&r, "image_token_index", -1, 0, 1 << 24);
    if (b2_json_is_null(b2_json_get(root, "image_token_index")))
        c->image_token = get_int(&r, "image_token_id", -1, 0, 1 << 24);
    return r.status != BLIP2_OK ? r.status : check(c, name, e);
}

blip2_status b2_config_load(b2_config *c, const char *path, blip2_error *e)
{
    b2_json *root = NULL;
    B2_TRY(b2_json_load(&root, path, 1 << 20, 100000, e));
    const blip2_status s = b2_config_parse(c, root, path, e);
    b2_json_free(root);
    return s;
}
