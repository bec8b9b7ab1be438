/* Opening safetensors files and model folders; finding tensors. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "io/st_set.h"

b2_st_set *b2_st_set_new(size_t shards)
{
    b2_st_set *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->shard = calloc(shards ? shards : 1, sizeof *s->shard);
    if (!s->shard) {
        free(s);
        return NULL;
    }
    s->shards = shards;
    return s;
}

blip2_status b2_st_set_load(b2_st_set *s, size_t i, const char *path, blip2_error *e)
{
    b2_st_shard *d = &s->shard[i];
    d->path = b2_strdup(path);
    if (!d->path) return B2_NOMEM(e, path);
    B2_TRY(b2_map_open(&d->map, path, e));
    return b2_st_header_parse(&d->header, d->map.p, d->map.size, d->path, e);
}

static blip2_status take_all(b2_st_set *s, blip2_error *e)
{
    const b2_st_header *h = &s->shard[0].header;
    s->tensor = malloc((h->n + 1) * sizeof *s->tensor);
    if (!s->tensor) return B2_NOMEM(e, s->shard[0].path);
    memcpy(s->tensor, h->tensor, h->n * sizeof *s->tensor);
    s->n = h->n;
    return BLIP2_OK;
}

blip2_status b2_st_open_file(b2_st_set **out, const char *path, blip2_error *e)
{
    *out = NULL;
    b2_st_set *s = b2_st_set_new(1);
    if (!s) return B2_NOMEM(e, path);
    blip2_status status = b2_st_set_load(s, 0, path, e);
    if (status == BLIP2_OK) status = take_all(s, e);
    if (status != BLIP2_OK)
        b2_st_close(s);
    else
        *out = s;
    return status;
}

/* Does the folder hold weights in pickle files? */
static bool has_pickle(const char *dir)
{
    DIR *d = opendir(dir);
    bool found = false;
    if (!d) return false;
    for (const struct dirent *f; !found && (f = readdir(d));)
        found = strncmp(f->d_name, "pytorch_model", 13) == 0 &&
                (b2_str_ends(f->d_name, ".bin") || b2_str_ends(f->d_name, ".bin.index.json"));
    closedir(d);
    return found;
}

static blip2_status no_weights(const char *dir, blip2_error *e)
{
    if (has_pickle(dir))
        return b2_fail(
            e, BLIP2_ERR_UNSUPPORTED,
            "%s holds only pytorch_model*.bin (pickle, which is not read). Convert it once with: "
            "python3 -c \"import sys; from transformers import Blip2ForConditionalGeneration as M; "
            "M.from_pretrained(sys.argv[1], torch_dtype='auto').save_pretrained(sys.argv[1])\" '%s'",
            dir, dir);
    return b2_fail(e, BLIP2_ERR_IO, "%s: neither model.safetensors nor model.safetensors.index.json is there",
                   dir);
}

blip2_status b2_st_open_model(b2_st_set **out, const char *dir, blip2_error *e)
{
    *out = NULL;
    char *single = b2_path_join(dir, "model.safetensors"),
         *index = b2_path_join(dir, "model.safetensors.index.json");
    blip2_status s;
    if (!single || !index)
        s = B2_NOMEM(e, dir);
    else if (b2_file_exists(single))
        s = b2_st_open_file(out, single, e);
    else if (b2_file_exists(index))
        s = b2_st_open_index(out, dir, index, e);
    else
        s = no_weights(dir, e);
    free(single);
    free(index);
    return s;
}

void b2_st_close(b2_st_set *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->shards; i++) {
        b2_st_header_free(&s->shard[i].header);
        b2_map_close(&s->shard[i].map);
        free(s->shard[i].path);
    }
    free(s->shard);
    free(s->tensor);
    free(s);
}

size_t b2_st_count(const b2_st_set *s) { return s->n; }

const b2_st_tensor *b2_st_at(const b2_st_set *s, size_t i) { return i < s->n ? &s->tensor[i] : NULL; }

const b2_st_tensor *b2_st_find(const b2_st_set *s, const char *name)
{
    return b2_st_lookup(s->tensor, s->n, name);
}

const char *b2_st_metadata(const b2_st_set *s, const char *key)
{
    if (s->shards != 1) return NULL;
    const b2_st_header *h = &s->shard[0].header;
    for (size_t i = 0; i < h->metas; i++)
        if (strcmp(h->meta[2 * i], key) == 0) return h->meta[2 * i + 1];
    return NULL;
}

size_t b2_st_mapped_bytes(const b2_st_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->shards; i++) n += s->shard[i].map.size;
    return n;
}
