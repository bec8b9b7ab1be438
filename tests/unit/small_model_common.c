/* A small random model folder (see small_model_common.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/rng.h"
#include "model/lora.h"
#include "model/model.h"
#include "tests/unit/small_model_common.h"
#include "tests/unit/unit.h"

static const char config[] = "{\"model_type\":\"blip-2\",\"num_query_tokens\":3,"
                             "\"vision_config\":{\"hidden_size\":24,\"intermediate_size\":40,\"num_hidden_"
                             "layers\":2,\"num_attention_heads\":3,\"image_size\":9,\"patch_size\":4},"
                             "\"qformer_config\":{\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_"
                             "layers\":3,\"num_attention_heads\":2},"
                             "\"text_config\":{\"model_type\":\"t5\",\"d_model\":20,\"d_kv\":8,\"num_heads\":"
                             "3,\"d_ff\":28,\"num_layers\":2,\"num_decoder_layers\":3,\"vocab_size\":67,"
                             "\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\",\"tie_word_"
                             "embeddings\":false,\"bos_token_id\":1}}";

static void write_config(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(config, 1, sizeof config - 1, f), sizeof config - 1);
    assert_int_equal(fclose(f), 0);
}

void small_model_open(small_model *s, int threads, blip2_dtype dtype)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_device_options d = BLIP2_DEVICE_OPTIONS_INIT;
    blip2_init_options init = BLIP2_INIT_OPTIONS_INIT;
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    char path[300];
    const char *tmp = getenv("TMPDIR");
    memset(s, 0, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "%s/blip2-test-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(s->dir));
    snprintf(path, sizeof path, "%s/config.json", s->dir);
    snprintf(s->model_dir, sizeof s->model_dir, "%s/model", s->dir);
    write_config(path);
    init.config_path = path;
    init.dtype = BLIP2_DTYPE_F32;
    init.seed = 11;
    if (blip2_model_init(s->model_dir, &init, &e) != BLIP2_OK) fail_msg("%s", e.text);
    d.threads = threads;
    o.dtype = dtype;
    if (blip2_device_open(unit_device(), &d, &s->device, &e) != BLIP2_OK) fail_msg("%s", e.text);
    if (blip2_model_open(s->device, s->model_dir, &o, &s->model, &e) != BLIP2_OK) fail_msg("%s", e.text);
}

void small_model_close(small_model *s)
{
    char line[400];
    blip2_model_close(s->model);
    blip2_device_close(s->device);
    snprintf(line, sizeof line, "rm -rf '%s'", s->dir);
    assert_int_equal(system(line), 0);
}

void small_adapter_write(const small_model *s, const char *name, const char *targets, int rank, uint64_t seed)
{
    blip2_error e = BLIP2_ERROR_INIT;
    const b2_net *n = s->model->net;
    int *refs = NULL, count = 0;
    char dir[300];
    b2_rng r = {seed, 0};
    snprintf(dir, sizeof dir, "%s/%s", s->dir, name);
    assert_int_equal(b2_lora_select(n, targets, &refs, &count, &e), BLIP2_OK);
    b2_adapter_entry *entry = calloc((size_t)count, sizeof *entry);
    for (int i = 0; i < count; i++) {
        const b2_param *w = n->ref[refs[i]].param;
        float *a = malloc((size_t)(rank * w->cols) * sizeof *a),
              *b = malloc((size_t)(rank * w->rows) * sizeof *b);
        for (int k = 0; k < rank * w->cols; k++) a[k] = (float)(0.3 * b2_rng_normal(&r));
        for (int k = 0; k < rank * w->rows; k++) b[k] = (float)(0.3 * b2_rng_normal(&r));
        entry[i] = (b2_adapter_entry){refs[i], rank, 1.0f, a, b};
    }
    char *copy = strdup(targets);
    const b2_lora_config cfg = {rank, 2.0 * rank, 0.1, false, copy};
    const b2_adapter_write w = {n, entry, count, &cfg, "base", "Q: {} A: ", s->model_dir};
    if (b2_adapter_save(&w, dir, &e) != BLIP2_OK) fail_msg("%s", e.text);
    for (int i = 0; i < count; i++) {
        free((void *)(uintptr_t)entry[i].a);
        free((void *)(uintptr_t)entry[i].b);
    }
    free(copy);
    free(entry);
    free(refs);
}

float *small_pixels(const small_model *s, uint64_t seed)
{
    b2_rng r = {seed, 0};
    const int n = 3 * s->model->config.vit.image * s->model->config.vit.image;
    float *p = malloc((size_t)n * sizeof *p);
    for (int i = 0; i < n; i++) p[i] = (float)b2_rng_normal(&r);
    return p;
}

blip2_features *small_features(blip2_session *session, const small_model *s, uint64_t seed, int adapter)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_features *f = NULL;
    float *p = small_pixels(s, seed);
    if (blip2_session_encode_pixels(session, p, 1, adapter, &f, &e) != BLIP2_OK) fail_msg("%s", e.text);
    free(p);
    return f;
}
