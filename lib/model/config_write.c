/* Presets, and writing config.json with every value spelt out. */
#include <string.h>
#include "model/config.h"

static const b2_config flan_t5_xl = {.vit = {.hidden = 1408,
                                             .inter = 6144,
                                             .layers = 39,
                                             .heads = 16,
                                             .image = 224,
                                             .patch = 14,
                                             .eps = 1e-6f,
                                             .act = B2_GELU,
                                             .qkv_bias = true},
                                     .qf = {.hidden = 768,
                                            .inter = 3072,
                                            .layers = 12,
                                            .heads = 12,
                                            .cross_every = 2,
                                            .queries = 32,
                                            .eps = 1e-12f,
                                            .drop = 0.1f,
                                            .attn_drop = 0.1f,
                                            .act = B2_GELU},
                                     .t5 = {.d = 2048,
                                            .dkv = 64,
                                            .heads = 32,
                                            .ff = 5120,
                                            .enc_layers = 24,
                                            .dec_layers = 24,
                                            .vocab = 32128,
                                            .buckets = 32,
                                            .max_distance = 128,
                                            .eps = 1e-6f,
                                            .drop = 0.1f,
                                            .gated = true,
                                            .act = B2_GELU,
                                            .pad = 0,
                                            .eos = 1,
                                            .bos = 1,
                                            .start = 0},
                                     .image_token = -1};

/* The quickstart's model: 28 x 28 photos, a few million parameters. */
static const b2_config fashion_tiny = {.vit = {.hidden = 128,
                                               .inter = 384,
                                               .layers = 4,
                                               .heads = 4,
                                               .image = 28,
                                               .patch = 4,
                                               .eps = 1e-6f,
                                               .act = B2_GELU,
                                               .qkv_bias = true},
                                       .qf = {.hidden = 128,
                                              .inter = 384,
                                              .layers = 4,
                                              .heads = 4,
                                              .cross_every = 2,
                                              .queries = 8,
                                              .eps = 1e-12f,
                                              .drop = 0.05f,
                                              .attn_drop = 0.05f,
                                              .act = B2_GELU},
                                       .t5 = {.d = 128,
                                              .dkv = 32,
                                              .heads = 4,
                                              .ff = 256,
                                              .enc_layers = 2,
                                              .dec_layers = 2,
                                              .vocab = 256,
                                              .buckets = 32,
                                              .max_distance = 128,
                                              .eps = 1e-6f,
                                              .drop = 0.05f,
                                              .gated = true,
                                              .act = B2_GELU,
                                              .pad = 0,
                                              .eos = 1,
                                              .bos = 1,
                                              .start = 0},
                                       .image_token = -1};

blip2_status b2_config_preset(b2_config *c, const char *name, blip2_error *e)
{
    *c = flan_t5_xl;
    if (strcmp(name, "flan-t5-xl") == 0) return BLIP2_OK;
    if (strcmp(name, "flan-t5-xxl") == 0) {
        c->t5.d = 4096;
        c->t5.heads = 64;
        c->t5.ff = 10240;
        return BLIP2_OK;
    }
    *c = fashion_tiny;
    if (strcmp(name, "fashion-tiny") == 0) return BLIP2_OK;
    return b2_fail(e, BLIP2_ERR_ARGUMENT,
                   "preset: expected fashion-tiny, flan-t5-xl or flan-t5-xxl, found \"%s\"", name);
}

static const char *act_name(b2_act_fn fn)
{
    static const char *const names[] = {
        [B2_RELU] = "relu", [B2_GELU] = "gelu", [B2_GELU_NEW] = "gelu_new", [B2_SILU] = "silu"};
    return names[fn];
}

static void write_text(const b2_config *c, b2_str *o)
{
    b2_str_addf(o, "  \"text_config\": {\n    \"model_type\": \"t5\",\n    \"architectures\": "
                   "[\"T5ForConditionalGeneration\"],\n");
    b2_str_addf(o, "    \"d_model\": %d,\n    \"d_kv\": %d,\n    \"num_heads\": %d,\n    \"d_ff\": %d,\n",
                c->t5.d, c->t5.dkv, c->t5.heads, c->t5.ff);
    b2_str_addf(o, "    \"num_layers\": %d,\n    \"num_decoder_layers\": %d,\n    \"vocab_size\": %d,\n",
                c->t5.enc_layers, c->t5.dec_layers, c->t5.vocab);
    b2_str_addf(o,
                "    \"relative_attention_num_buckets\": %d,\n    \"relative_attention_max_distance\": %d,\n",
                c->t5.buckets, c->t5.max_distance);
    b2_str_addf(
        o, "    \"feed_forward_proj\": \"%s%s\",\n    \"dense_act_fn\": \"%s\",\n    \"is_gated_act\": %s,\n",
        c->t5.gated ? "gated-" : "", c->t5.act == B2_GELU_NEW ? "gelu" : act_name(c->t5.act),
        act_name(c->t5.act), c->t5.gated ? "true" : "false");
    b2_str_addf(
        o, "    \"layer_norm_epsilon\": %g,\n    \"dropout_rate\": %g,\n    \"tie_word_embeddings\": %s,\n",
        (double)c->t5.eps, (double)c->t5.drop, c->t5.scale_out ? "true" : "false");
    b2_str_addf(o,
                "    \"pad_token_id\": %d,\n    \"eos_token_id\": %d,\n    \"bos_token_id\": %d,\n    "
                "\"decoder_start_token_id\": %d\n  },\n",
                c->t5.pad, c->t5.eos, c->t5.bos, c->t5.start);
}

void b2_config_write(const b2_config *c, const char *dtype, b2_str *o)
{
    b2_str_addf(o,
                "{\n  \"architectures\": [\"Blip2ForConditionalGeneration\"],\n  \"model_type\": "
                "\"blip-2\",\n  \"torch_dtype\": \"%s\",\n",
                dtype);
    b2_str_addf(o,
                "  \"num_query_tokens\": %d,\n  \"use_decoder_only_language_model\": false,\n  "
                "\"initializer_factor\": 1.0,\n  \"initializer_range\": 0.02,\n",
                c->qf.queries);
    b2_str_addf(o, "  \"tie_word_embeddings\": %s,\n", c->t5.scale_out ? "true" : "false");
    if (c->image_token >= 0) b2_str_addf(o, "  \"image_token_index\": %d,\n", c->image_token);
    write_text(c, o);
    b2_str_addf(o,
                "  \"vision_config\": {\n    \"model_type\": \"blip_2_vision_model\",\n    \"hidden_size\": "
                "%d,\n    \"intermediate_size\": %d,\n",
                c->vit.hidden, c->vit.inter);
    b2_str_addf(o,
                "    \"num_hidden_layers\": %d,\n    \"num_attention_heads\": %d,\n    \"image_size\": %d,\n "
                "   \"patch_size\": %d,\n",
                c->vit.layers, c->vit.heads, c->vit.image, c->vit.patch);
    b2_str_addf(o,
                "    \"hidden_act\": \"%s\",\n    \"layer_norm_eps\": %g,\n    \"attention_dropout\": 0.0,\n "
                "   \"qkv_bias\": %s\n  },\n",
                act_name(c->vit.act), (double)c->vit.eps, c->vit.qkv_bias ? "true" : "false");
    b2_str_addf(o,
                "  \"qformer_config\": {\n    \"model_type\": \"blip_2_qformer\",\n    \"hidden_size\": "
                "%d,\n    \"intermediate_size\": %d,\n",
                c->qf.hidden, c->qf.inter);
    b2_str_addf(o,
                "    \"num_hidden_layers\": %d,\n    \"num_attention_heads\": %d,\n    "
                "\"cross_attention_frequency\": %d,\n    \"encoder_hidden_size\": %d,\n",
                c->qf.layers, c->qf.heads, c->qf.cross_every, c->vit.hidden);
    b2_str_addf(o,
                "    \"hidden_act\": \"%s\",\n    \"layer_norm_eps\": %g,\n    \"hidden_dropout_prob\": "
                "%g,\n    \"attention_probs_dropout_prob\": %g\n  }\n}\n",
                act_name(c->qf.act), (double)c->qf.eps, (double)c->qf.drop, (double)c->qf.attn_drop);
}
