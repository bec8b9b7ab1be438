/* Writing safetensors: declared first, then streamed. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "io/st_set.h"

struct entry {
    char *name;
    b2_st_dtype dtype;
    int rank;
    int64_t shape[8];
    uint64_t bytes;
};

struct b2_st_writer {
    b2_writer file;
    struct entry *entry; /* in declared order */
    size_t n, cap;
    size_t *order;           /* [n] once begun: declared index of the i-th in the file */
    b2_str meta;             /* ,"key":"value" ... */
    uint64_t total, written; /* bytes of data */
    bool begun;
};

blip2_status b2_st_writer_open(b2_st_writer **out, const char *path, blip2_error *e)
{
    *out = NULL;
    b2_st_writer *w = calloc(1, sizeof *w);
    if (!w) return B2_NOMEM(e, path);
    blip2_status s = b2_writer_open(&w->file, path, e);
    if (s != BLIP2_OK)
        free(w);
    else
        *out = w;
    return s;
}

static blip2_status check_declaration(const b2_st_writer *w, const struct entry *t, blip2_error *e)
{
    const char *path = w->file.path;
    if (w->begun)
        return b2_fail(e, BLIP2_ERR_STATE, "%s: tensor \"%.200s\" declared after begin", path, t->name);
    if (!b2_utf8_valid(t->name, strlen(t->name)) || strcmp(t->name, "__metadata__") == 0)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: \"%.200s\" cannot be a tensor's name", path, t->name);
    if (b2_st_dtype_size(t->dtype) == 0)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: tensor \"%.200s\": a dtype that is not written", path,
                       t->name);
    return BLIP2_OK;
}

/* Copies the shape and computes the size. */
static blip2_status take_shape(const b2_st_writer *w, struct entry *t, int rank, const int64_t *shape,
                               blip2_error *e)
{
    const char *path = w->file.path;
    if (rank < 0 || rank > 8)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: tensor \"%.200s\": rank %d", path, t->name, rank);
    t->rank = rank;
    t->bytes = b2_st_dtype_size(t->dtype);
    for (int i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        if (shape[i] < 0 || __builtin_mul_overflow(t->bytes, (uint64_t)shape[i], &t->bytes) ||
            t->bytes > (uint64_t)1 << 53)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: tensor \"%.200s\": dimension %d is %lld", path,
                           t->name, i, (long long)shape[i]);
    }
    return BLIP2_OK;
}

static bool grow(b2_st_writer *w)
{
    if (w->n < w->cap) return true;
    size_t cap = w->cap ? 2 * w->cap : 64;
    struct entry *p = realloc(w->entry, cap * sizeof *p);
    if (!p) return false;
    w->entry = p;
    w->cap = cap;
    return true;
}

blip2_status b2_st_writer_declare(b2_st_writer *w, const char *name, b2_st_dtype t, int rank,
                                  const int64_t *shape, blip2_error *e)
{
    struct entry new = {.name = b2_strdup(name), .dtype = t};
    if (!new.name || !grow(w)) {
        free(new.name);
        return B2_NOMEM(e, name);
    }
    blip2_status s = check_declaration(w, &new, e);
    if (s == BLIP2_OK) s = take_shape(w, &new, rank, shape, e);
    if (s != BLIP2_OK)
        free(new.name);
    else
        w->entry[w->n++] = new;
    return s;
}

blip2_status b2_st_writer_metadata(b2_st_writer *w, const char *key, const char *value, blip2_error *e)
{
    if (w->begun) return b2_fail(e, BLIP2_ERR_STATE, "%s: metadata after begin", w->file.path);
    if (strcmp(key, "format") == 0 && strcmp(value, "pt") == 0) return BLIP2_OK;
    b2_str quoted = {0};
    b2_str_add(&quoted, ",");
    b2_str_add_json(&quoted, key);
    b2_str_add(&quoted, ":");
    bool twice = strcmp(key, "format") == 0 || (!quoted.failed && w->meta.p && strstr(w->meta.p, quoted.p));
    b2_str_add_json(&quoted, value);
    if (quoted.failed || twice) {
        b2_str_free(&quoted);
        return twice
                   ? b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: metadata \"%.200s\" given twice", w->file.path, key)
                   : B2_NOMEM(e, "metadata");
    }
    b2_str_addn(&w->meta, quoted.p, quoted.n);
    b2_str_free(&quoted);
    return w->meta.failed ? B2_NOMEM(e, "metadata") : BLIP2_OK;
}

/* Wide dtypes first, so that all data stay aligned; then by name. */
static int in_file_order(const void *a, const void *b, void *entries)
{
    const struct entry *x = (const struct entry *)entries + *(const size_t *)a;
    const struct entry *y = (const struct entry *)entries + *(const size_t *)b;
    size_t p = b2_st_dtype_size(x->dtype), q = b2_st_dtype_size(y->dtype);
    if (p != q) return p > q ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *entries)
{
    const struct entry *all = entries;
    return strcmp(all[*(const size_t *)a].name, all[*(const size_t *)b].name);
}

static blip2_status fix_order(b2_st_writer *w, blip2_error *e)
{
    w->order = malloc((w->n + 1) * sizeof *w->order);
    if (!w->order) return B2_NOMEM(e, w->file.path);
    for (size_t i = 0; i < w->n; i++) w->order[i] = i;
    if (w->n == 0) return BLIP2_OK;
    qsort_r(w->order, w->n, sizeof *w->order, by_name, w->entry);
    for (size_t i = 1; i < w->n; i++)
        if (strcmp(w->entry[w->order[i - 1]].name, w->entry[w->order[i]].name) == 0)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: tensor \"%.200s\" is declared twice", w->file.path,
                           w->entry[w->order[i]].name);
    qsort_r(w->order, w->n, sizeof *w->order, in_file_order, w->entry);
    return BLIP2_OK;
}

static void add_entry(b2_str *h, const struct entry *t, uint64_t begin)
{
    b2_str_add(h, ",");
    b2_str_add_json(h, t->name);
    b2_str_addf(h, ":{\"dtype\":\"%s\",\"shape\":[", b2_st_dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++) b2_str_addf(h, i ? ",%lld" : "%lld", (long long)t->shape[i]);
    b2_str_addf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                (unsigned long long)(begin + t->bytes));
}

static blip2_status write_header(b2_st_writer *w, b2_str *h, blip2_error *e)
{
    b2_str_add(h, "{\"__metadata__\":{\"format\":\"pt\"");
    if (w->meta.p) b2_str_addn(h, w->meta.p, w->meta.n);
    b2_str_add(h, "}");
    for (size_t i = 0; i < w->n; i++) {
        const struct entry *t = &w->entry[w->order[i]];
        add_entry(h, t, w->total);
        w->total += t->bytes;
        if (w->total > (uint64_t)1 << 53)
            return b2_fail(e, BLIP2_ERR_LIMIT, "%s: more than 2^53 bytes", w->file.path);
    }
    b2_str_add(h, "}");
    while (h->n % 8 && !h->failed) b2_str_addn(h, " ", 1);
    if (h->failed) return B2_NOMEM(e, w->file.path);
    if (h->n > B2_ST_HEADER_MAX)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s: a header of %zu bytes", w->file.path, h->n);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)h->n >> 8 * i);
    B2_TRY(b2_writer_put(&w->file, length, sizeof length, e));
    return b2_writer_put(&w->file, h->p, h->n, e);
}

blip2_status b2_st_writer_begin(b2_st_writer *w, blip2_error *e)
{
    if (w->begun) return b2_fail(e, BLIP2_ERR_STATE, "%s: begun twice", w->file.path);
    w->begun = true;
    B2_TRY(fix_order(w, e));
    b2_str h = {0};
    blip2_status s = write_header(w, &h, e);
    b2_str_free(&h);
    return s;
}

size_t b2_st_writer_order(const b2_st_writer *w, size_t i)
{
    return w->order && i < w->n ? w->order[i] : SIZE_MAX;
}

blip2_status b2_st_writer_data(b2_st_writer *w, const void *p, size_t n, blip2_error *e)
{
    if (!w->begun) return b2_fail(e, BLIP2_ERR_STATE, "%s: data before begin", w->file.path);
    if (n > w->total - w->written)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: more data than the %llu bytes declared", w->file.path,
                       (unsigned long long)w->total);
    w->written += n;
    return b2_writer_put(&w->file, p, n, e);
}

blip2_status b2_st_writer_commit(b2_st_writer *w, blip2_error *e)
{
    blip2_status s;
    if (!w->begun || w->written != w->total)
        s = b2_fail(e, BLIP2_ERR_STATE, "%s: %llu of %llu bytes were supplied", w->file.path,
                    (unsigned long long)w->written, (unsigned long long)w->total);
    else
        s = b2_writer_commit(&w->file, e);
    b2_st_writer_abort(w);
    return s;
}

void b2_st_writer_abort(b2_st_writer *w)
{
    if (!w) return;
    b2_writer_abort(&w->file);
    for (size_t i = 0; i < w->n; i++) free(w->entry[i].name);
    free(w->entry);
    free(w->order);
    b2_str_free(&w->meta);
    free(w);
}
