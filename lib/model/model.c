/* Opening and closing a model folder. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "model/weights.h"

blip2_status blip2_dtype_parse(const char *text, blip2_dtype *out, blip2_error *err)
{
    static const struct {
        const char *name;
        blip2_dtype type;
    } known[] = {{"f32", BLIP2_DTYPE_F32},       {"float32", BLIP2_DTYPE_F32}, {"bf16", BLIP2_DTYPE_BF16},
                 {"bfloat16", BLIP2_DTYPE_BF16}, {"int8", BLIP2_DTYPE_INT8},   {"int4", BLIP2_DTYPE_INT4},
                 {"file", BLIP2_DTYPE_FILE}};
    for (size_t i = 0; text && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, text)) continue;
        *out = known[i].type;
        return BLIP2_OK;
    }
    return b2_fail(err, BLIP2_ERR_ARGUMENT,
                   "dtype: expected f32 (float32), bf16 (bfloat16), int8, int4 or file, found \"%s\"",
                   text ? text : "(null)");
}

static blip2_status open_tokenizer(blip2_model *m, blip2_error *e)
{
    static const char *const files[] = {"spiece.model", "tokenizer.json"};
    bool any = false;
    for (int i = 0; i < 2 && B2_WITH_TEXT; i++) {
        char *path = b2_path_join(m->dir, files[i]);
        if (!path) return B2_NOMEM(e, "a path");
        any = any || b2_file_exists(path);
        free(path);
    }
    if (!any) return BLIP2_OK;
    B2_TRY(blip2_tokenizer_open(m->dir, &m->tok, e));
    if (blip2_tokenizer_size(m->tok) > m->config.t5.vocab)
        b2_logf(&m->device->log, B2_LOG_WARN,
                "%s: the tokenizer has %d ids, the model %d embeddings: larger ids will be refused", m->dir,
                (int)blip2_tokenizer_size(m->tok), m->config.t5.vocab);
    return BLIP2_OK;
}

static blip2_status open_parts(blip2_model *m, const char *dir, const blip2_model_options *o, blip2_error *e)
{
    m->dir = b2_strdup(dir);
    char *config = m->dir ? b2_path_join(dir, "config.json") : NULL;
    if (!config) return B2_NOMEM(e, "a path");
    blip2_status s = b2_config_load(&m->config, config, e);
    free(config);
    if (s != BLIP2_OK) return s;
    B2_TRY(b2_net_new(&m->net, &m->config, e));
    B2_TRY(b2_st_open_model(&m->file, dir, e));
    b2_account_add(b2_device_host(m->device), b2_st_mapped_bytes(m->file));
    m->weight_bytes = b2_st_mapped_bytes(m->file);
    B2_TRY(b2_weights_bind(m, o, e));
    B2_TRY(b2_model_place(m, e));
    B2_TRY(b2_preprocess_load(&m->prep, dir, m->config.vit.image, e));
    B2_TRY(open_tokenizer(m, e));
    return BLIP2_OK;
}

blip2_status blip2_model_open(blip2_device *d, const char *dir, const blip2_model_options *options,
                              blip2_model **out, blip2_error *err)
{
    const blip2_model_options defaults = BLIP2_MODEL_OPTIONS_INIT;
    const blip2_model_options *o = options ? options : &defaults;
    if (!d || !dir || !out)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_model_open: device, dir and out must not be NULL");
    *out = NULL;
    if (o->size != sizeof *o)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_model_options.size: expected %zu, found %zu",
                       sizeof *o, o->size);
    blip2_model *m = calloc(1, sizeof *m);
    if (!m) return B2_NOMEM(err, "a model");
    m->refs = 1;
    m->device = b2_device_ref(d);
    const blip2_status s = open_parts(m, dir, o, err);
    if (s != BLIP2_OK) {
        blip2_model_close(m);
        return s;
    }
    *out = m;
    return BLIP2_OK;
}

blip2_model *b2_model_ref(blip2_model *m)
{
    if (m) m->refs++;
    return m;
}

void blip2_model_close(blip2_model *m)
{
    if (!m || --m->refs > 0) return;
    b2_model_unplace(m);
    b2_weights_free(m);
    if (m->file) b2_account_sub(b2_device_host(m->device), b2_st_mapped_bytes(m->file));
    b2_st_close(m->file);
    b2_net_free(m->net);
    blip2_tokenizer_close(m->tok);
    blip2_device_close(m->device);
    free(m->dir);
    free(m);
}

void blip2_model_get_info(const blip2_model *m, blip2_model_info *info)
{
    if (!m || !info || info->size != sizeof *info) return;
    *info = (blip2_model_info){.size = sizeof *info,
                               .weight_bytes = m->weight_bytes,
                               .dtype = m->act == B2_F32 ? BLIP2_DTYPE_F32 : BLIP2_DTYPE_BF16,
                               .image_size = m->config.vit.image,
                               .queries = m->config.qf.queries,
                               .hidden = m->config.t5.d,
                               .vocab = m->config.t5.vocab,
                               .vit_layers = m->config.vit.layers,
                               .qformer_layers = m->config.qf.layers,
                               .encoder_layers = m->config.t5.enc_layers,
                               .decoder_layers = m->config.t5.dec_layers};
    const bool tied = m->net->head.w[0].p == m->net->shared.p;
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        if (!(tied && r->linear == &m->net->head))
            info->parameters += (int64_t)r->param->rows * r->param->cols;
        info->int8_tensors += r->param->type == B2_I8;
        info->int4_tensors += r->param->type == B2_I4;
    }
}

const blip2_tokenizer *blip2_model_tokenizer(const blip2_model *m) { return m ? m->tok : NULL; }
