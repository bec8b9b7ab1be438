/* Sharded safetensors: model.safetensors.index.json says which file holds which tensor. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/str.h"
#include "io/st_set.h"

/* One entry of weight_map; the strings belong to the document. */
struct entry {
    const char *tensor, *file;
};

struct map {
    struct entry *entry; /* [n], sorted by file */
    size_t n, files;
    const char *path; /* of the index */
};

static int by_file(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = strcmp(x->file, y->file);
    return c ? c : strcmp(x->tensor, y->tensor);
}

/* A shard lies beside its index: a path would reach outside the folder. */
static bool plain_name(const char *s)
{
    return *s && !strchr(s, '/') && !strchr(s, '\\') && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

static blip2_status read_entries(struct map *m, const b2_json *weights, blip2_error *e)
{
    for (const b2_json *v = b2_json_first(weights); v; v = b2_json_next(v)) {
        const char *file = b2_json_string(v);
        if (!file || !plain_name(file))
            return b2_fail(e, BLIP2_ERR_FORMAT,
                           "%s: weight_map of \"%.200s\" is not a plain file name: \"%.200s\"", m->path,
                           b2_json_key(v), file ? file : "(no string)");
        m->entry[m->n++] = (struct entry){b2_json_key(v), file};
    }
    qsort(m->entry, m->n, sizeof *m->entry, by_file);
    for (size_t i = 0; i < m->n; i++)
        m->files += i == 0 || strcmp(m->entry[i - 1].file, m->entry[i].file) != 0;
    return BLIP2_OK;
}

static blip2_status load_shard(b2_st_set *s, size_t i, const char *dir, const struct entry *first,
                               const char *index, blip2_error *e)
{
    char *path = b2_path_join(dir, first->file);
    if (!path) return B2_NOMEM(e, first->file);
    blip2_status status;
    if (b2_file_exists(path))
        status = b2_st_set_load(s, i, path, e);
    else
        status = b2_fail(e, BLIP2_ERR_IO, "%s: not there, but %s says that it holds \"%.200s\"", path, index,
                         first->tensor);
    free(path);
    return status;
}

/* Opens every file once and takes from it what the index maps to it. */
static blip2_status load_all(b2_st_set *s, const struct map *m, const char *dir, blip2_error *e)
{
    size_t file = 0;
    for (size_t i = 0; i < m->n; i++) {
        bool fresh = i == 0 || strcmp(m->entry[i - 1].file, m->entry[i].file) != 0;
        if (fresh) B2_TRY(load_shard(s, file++, dir, &m->entry[i], m->path, e));
        const b2_st_shard *d = &s->shard[file - 1];
        const b2_st_tensor *t = b2_st_lookup(d->header.tensor, d->header.n, m->entry[i].tensor);
        if (!t)
            return b2_fail(e, BLIP2_ERR_FORMAT, "%s: tensor \"%.200s\" is not in it, but %s says so", d->path,
                           m->entry[i].tensor, m->path);
        s->tensor[s->n++] = *t;
    }
    b2_st_sort(s->tensor, s->n);
    return BLIP2_OK;
}

static blip2_status open_map(b2_st_set **out, const struct map *m, const char *dir, blip2_error *e)
{
    b2_st_set *s = b2_st_set_new(m->files);
    if (!s) return B2_NOMEM(e, m->path);
    s->tensor = malloc((m->n + 1) * sizeof *s->tensor);
    blip2_status status = s->tensor ? load_all(s, m, dir, e) : B2_NOMEM(e, m->path);
    if (status != BLIP2_OK)
        b2_st_close(s);
    else
        *out = s;
    return status;
}

blip2_status b2_st_open_index(b2_st_set **out, const char *dir, const char *index_path, blip2_error *e)
{
    b2_json *root;
    *out = NULL;
    B2_TRY(b2_json_load(&root, index_path, B2_ST_HEADER_MAX, B2_ST_VALUES_MAX,
                        e)); /* refuses a tensor mapped twice */
    const b2_json *weights = b2_json_get(root, "weight_map");
    struct map m = {.path = index_path};
    blip2_status s;
    if (!b2_json_is_object(weights) || b2_json_size(weights) == 0)
        s = b2_fail(e, BLIP2_ERR_FORMAT, "%s: no weight_map", index_path);
    else if (!(m.entry = malloc(b2_json_size(weights) * sizeof *m.entry)))
        s = B2_NOMEM(e, index_path);
    else
        s = read_entries(&m, weights, e);
    if (s == BLIP2_OK) s = open_map(out, &m, dir, e);
    free(m.entry);
    b2_json_free(root);
    return s;
}
