/* The manifest of a checkpoint: whose it is, where it stands, what its files must be. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "train/checkpoint.h"

#define FORMAT "blip2-checkpoint-1"
#define SEAL   ",\"crc32\":\"00000000\"}\n"

const char *const b2_checkpoint_file[B2_CHECKPOINT_FILES] = {"trained.safetensors", "adam_m.safetensors",
                                                             "adam_v.safetensors"};

static void text(b2_str *s, const char *key, const char *value)
{
    if (s->n && s->p[s->n - 1] != '{') b2_str_add(s, ",");
    b2_str_add_json(s, key);
    b2_str_add(s, ":");
    b2_str_add_json(s, value);
}

static void real(b2_str *s, const char *key, double value)
{
    b2_str v = {0};
    b2_str_addf(&v, "%.17g", value);
    text(s, key, v.p ? v.p : "");
    s->failed = s->failed || v.failed;
    b2_str_free(&v);
}

static void hex(b2_str *s, const char *key, uint64_t value)
{
    char v[24];
    snprintf(v, sizeof v, "%016" PRIx64, value);
    text(s, key, v);
}

static uint64_t modules_hash(const blip2_trainer *t)
{
    uint64_t h = 0;
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        h = b2_hash64(h, x->name, strlen(x->name));
        h = b2_hash64(h, x->shape, (size_t)x->rank * sizeof x->shape[0]);
        if (x->slot >= 0) h = b2_hash64(h, &t->net->slots[x->slot].ab[0].scale, sizeof(float));
    }
    return h;
}

/* Everything that decides about a run's bytes, as a JSON object of texts. */
static void run_options(const blip2_trainer *t, b2_str *s)
{
    static const char *const trainable[] = {"lora", "qformer", "all"}, *const schedule[] = {
                                                                           "constant", "linear", "cosine"};
    const blip2_trainer_options *o = &t->o;
    b2_str_add(s, "{");
    hex(s, "model", b2_model_hash(t->model));
    text(s, "dtype", t->model->act == B2_F32 ? "f32" : "bf16");
    hex(s, "preprocessing", b2_preprocess_hash(&t->model->prep));
    hex(s, "data", t->data->hash);
    text(s, "trainable", trainable[o->trainable]);
    hex(s, "trained tensors", modules_hash(t));
    if (o->trainable == BLIP2_TRAIN_LORA) {
        real(s, "lora_rank", t->lora.r);
        real(s, "lora_alpha", t->lora.alpha);
        real(s, "lora_dropout", t->lora.dropout);
        text(s, "lora_targets", t->lora.targets);
    }
    real(s, "batch", o->batch);
    real(s, "accumulate", o->accumulate);
    real(s, "lr", o->lr);
    real(s, "weight_decay", o->weight_decay);
    real(s, "beta1", o->beta1);
    real(s, "beta2", o->beta2);
    real(s, "eps", o->eps);
    real(s, "clip", o->clip);
    text(s, "schedule", schedule[o->schedule]);
    real(s, "warmup", (double)t->schedule.warmup);
    if (o->schedule != BLIP2_CONSTANT) real(s, "steps", (double)t->lo.steps);
    real(s, "dropout", o->dropout < 0 ? -1 : o->dropout);
    real(s, "augment", o->augment);
    real(s, "shuffle", o->shuffle != 0);
    real(s, "feature_cache", o->feature_cache != 0);
    hex(s, "seed", o->seed);
    text(s, "prompt_template", o->prompt_template);
    real(s, "max_prompt_tokens", o->max_prompt_tokens);
    b2_str_add(s, "}");
}

blip2_status b2_manifest_write(const blip2_trainer *t, const char *folder, const b2_checkpoint_sum *sum,
                               blip2_error *e)
{
    b2_str s = {0};
    char *path = b2_path_join(folder, "manifest.json");
    b2_str_addf(&s,
                "{\"format\":\"" FORMAT "\",\"step\":%" PRId64
                ",\"epoch_loss\":%.17g,\"epoch_tokens\":%" PRId64 ",\"options\":",
                t->done, t->epoch_loss, t->epoch_tokens);
    run_options(t, &s);
    b2_str_add(&s, ",\"files\":{");
    for (int i = 0; i < B2_CHECKPOINT_FILES; i++)
        b2_str_addf(&s, "%s\"%s\":{\"bytes\":%" PRIu64 ",\"crc32\":\"%08" PRIx32 "\"}", i ? "," : "",
                    b2_checkpoint_file[i], sum[i].bytes, sum[i].crc);
    b2_str_add(&s, "}");
    if (!s.failed) b2_str_addf(&s, ",\"crc32\":\"%08" PRIx32 "\"}\n", b2_crc32(0, s.p, s.n));
    const blip2_status st =
        s.failed || !path ? B2_NOMEM(e, "a checkpoint's manifest") : b2_write_file(path, s.p, s.n, e);
    b2_str_free(&s);
    free(path);
    return st;
}

blip2_status b2_file_sum(const char *folder, const char *name, b2_checkpoint_sum *sum, blip2_error *e)
{
    b2_map map = {0};
    char *path = b2_path_join(folder, name);
    const blip2_status s = path ? b2_map_open(&map, path, e) : B2_NOMEM(e, "a file name");
    if (s == BLIP2_OK) *sum = (b2_checkpoint_sum){map.size, b2_crc32(0, map.p, map.size)};
    b2_map_close(&map);
    free(path);
    return s;
}

static blip2_status check_files(const b2_json *m, const char *folder, blip2_error *e)
{
    for (int i = 0; i < B2_CHECKPOINT_FILES; i++) {
        char crc[16];
        b2_checkpoint_sum sum;
        const char *name = b2_checkpoint_file[i];
        const b2_json *f = b2_json_get(b2_json_get(m, "files"), name);
        const char *want = b2_json_string(b2_json_get(f, "crc32"));
        if (!want)
            return b2_fail(e, BLIP2_ERR_FORMAT, "%s/manifest.json: says nothing about %s", folder, name);
        B2_TRY(b2_file_sum(folder, name, &sum, e));
        snprintf(crc, sizeof crc, "%08" PRIx32, sum.crc);
        if ((double)sum.bytes != b2_json_number(b2_json_get(f, "bytes"), -1) || strcmp(crc, want) != 0)
            return b2_fail(e, BLIP2_ERR_FORMAT, "%s/%s: expected CRC-32 %s, found %s in %" PRIu64 " bytes",
                           folder, name, want, crc, sum.bytes);
    }
    return BLIP2_OK;
}

static blip2_status read_manifest(b2_json **out, const char *path, blip2_error *e)
{
    const size_t seal = strlen(SEAL);
    char want[sizeof SEAL], *p = NULL;
    size_t n = 0;
    B2_TRY(b2_read_file(path, (size_t)1 << 20, &p, &n, e));
    snprintf(want, sizeof want, ",\"crc32\":\"%08" PRIx32 "\"}\n", n > seal ? b2_crc32(0, p, n - seal) : 0);
    blip2_status s = BLIP2_OK;
    if (n <= seal || memcmp(p + n - seal, want, seal) != 0)
        s = b2_fail(e, BLIP2_ERR_FORMAT, "%s: its checksum is wrong or missing", path);
    if (s == BLIP2_OK) s = b2_json_parse(out, p, n, 10000, path, e);
    free(p);
    return s;
}

blip2_status b2_manifest_load(b2_json **out, const char *folder, blip2_error *e)
{
    char *path = b2_path_join(folder, "manifest.json");
    *out = NULL;
    blip2_status s = path ? read_manifest(out, path, e) : B2_NOMEM(e, "a file name");
    const char *format = b2_json_string(b2_json_get(*out, "format"));
    if (s == BLIP2_OK && (!format || strcmp(format, FORMAT) != 0))
        s = b2_fail(e, BLIP2_ERR_FORMAT, "%s: expected format " FORMAT ", found %s", path,
                    format ? format : "none");
    if (s == BLIP2_OK) s = check_files(*out, folder, e);
    if (s != BLIP2_OK) {
        b2_json_free(*out);
        *out = NULL;
    }
    free(path);
    return s;
}

blip2_status b2_manifest_compare(const blip2_trainer *t, const b2_json *manifest, const char *folder,
                                 blip2_error *e)
{
    b2_str s = {0};
    b2_json *mine = NULL;
    run_options(t, &s);
    blip2_status st =
        s.failed ? B2_NOMEM(e, "a run's options") : b2_json_parse(&mine, s.p, s.n, 1000, "options", e);
    const b2_json *theirs = b2_json_get(manifest, "options");
    for (const b2_json *x = b2_json_first(mine); st == BLIP2_OK && x; x = b2_json_next(x)) {
        const char *have = b2_json_string(b2_json_get(theirs, b2_json_key(x))), *want = b2_json_string(x);
        if (!have || strcmp(have, want) != 0)
            st = b2_fail(e, BLIP2_ERR_STATE, "%s: is of another run: %s was %s there and is %s now", folder,
                         b2_json_key(x), have ? have : "not given", want);
    }
    b2_json_free(mine);
    b2_str_free(&s);
    return st;
}

blip2_status b2_manifest_position(const blip2_trainer *t, const b2_json *m, int64_t *step, double *loss,
                                  int64_t *tokens, const char *folder, blip2_error *e)
{
    *loss = b2_json_number(b2_json_get(m, "epoch_loss"), -1);
    if (*loss < 0 || !b2_json_int(b2_json_get(m, "step"), 0, INT64_MAX / 2, step) ||
        !b2_json_int(b2_json_get(m, "epoch_tokens"), 0, INT64_MAX / 2, tokens))
        return b2_fail(e, BLIP2_ERR_FORMAT,
                       "%s/manifest.json: step, epoch_loss or epoch_tokens is missing or out of range",
                       folder);
    if (*step > t->lo.steps)
        return b2_fail(e, BLIP2_ERR_STATE, "%s: stands at step %" PRId64 ", this run has only %" PRId64,
                       folder, *step, t->lo.steps);
    return BLIP2_OK;
}
