/* The header of a safetensors file: every rule of the format, checked before a byte of data is used. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "io/st_set.h"

/* Names, sizes in bits, and the kind we compute with. Source: safetensors/src/tensor.rs, enum Dtype. */
static const struct dtype {
    char name[12];
    unsigned bits;
    b2_st_dtype kind;
} dtypes[] = {
    {"F32", 32, B2_ST_F32},
    {"BF16", 16, B2_ST_BF16},
    {"F16", 16, B2_ST_F16},
    {"I64", 64, B2_ST_I64},
    {"I32", 32, B2_ST_I32},
    {"I8", 8, B2_ST_I8},
    {"U8", 8, B2_ST_U8},
    {"BOOL", 8, B2_ST_OTHER},
    {"I16", 16, B2_ST_OTHER},
    {"U16", 16, B2_ST_OTHER},
    {"U32", 32, B2_ST_OTHER},
    {"U64", 64, B2_ST_OTHER},
    {"F64", 64, B2_ST_OTHER},
    {"C64", 64, B2_ST_OTHER},
    {"F8_E5M2", 8, B2_ST_OTHER},
    {"F8_E4M3", 8, B2_ST_OTHER},
    {"F8_E8M0", 8, B2_ST_OTHER},
    {"F8_E4M3FNUZ", 8, B2_ST_OTHER},
    {"F8_E5M2FNUZ", 8, B2_ST_OTHER},
    {"F6_E2M3", 6, B2_ST_OTHER},
    {"F6_E3M2", 6, B2_ST_OTHER},
    {"F4", 4, B2_ST_OTHER},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

const char *b2_st_dtype_name(b2_st_dtype t)
{
    return (unsigned)t < (unsigned)B2_ST_OTHER ? dtypes[t].name : "OTHER";
}

size_t b2_st_dtype_size(b2_st_dtype t)
{
    return (unsigned)t < (unsigned)B2_ST_OTHER ? dtypes[t].bits / 8 : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const b2_st_tensor *)a)->name, ((const b2_st_tensor *)b)->name);
}

/* By place in the file; an empty tensor stands before the one that begins where it lies. */
static int by_place(const void *a, const void *b)
{
    const b2_st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

void b2_st_sort(b2_st_tensor *t, size_t n)
{
    if (n) qsort(t, n, sizeof *t, by_name);
}

const b2_st_tensor *b2_st_lookup(const b2_st_tensor *sorted, size_t n, const char *name)
{
    b2_st_tensor key = {.name = name};
    return n ? bsearch(&key, sorted, n, sizeof *sorted, by_name) : NULL;
}

/* What a file is made of. */
struct bytes {
    const uint8_t *data;
    size_t size; /* of the data */
    const char *path;
};

static blip2_status bad(const struct bytes *b, const char *tensor, const char *what, blip2_error *e)
{
    return b2_fail(e, BLIP2_ERR_FORMAT, "%s: tensor \"%.200s\": %s", b->path, tensor, what);
}

static blip2_status read_dtype(b2_st_tensor *t, unsigned *bits, const b2_json *v, const struct bytes *b,
                               blip2_error *e)
{
    const char *name = b2_json_string(b2_json_get(v, "dtype"));
    if (!name) return bad(b, t->name, "no dtype", e);
    for (int i = 0; i < DTYPES; i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        memcpy(t->dtype_name, dtypes[i].name, sizeof t->dtype_name);
        t->dtype = dtypes[i].kind;
        *bits = dtypes[i].bits;
        return BLIP2_OK;
    }
    return b2_fail(e, BLIP2_ERR_FORMAT, "%s: tensor \"%.200s\": unknown dtype \"%.40s\"", b->path, t->name,
                   name);
}

static blip2_status read_shape(b2_st_tensor *t, const b2_json *v, const struct bytes *b, blip2_error *e)
{
    const b2_json *shape = b2_json_get(v, "shape");
    if (!b2_json_is_array(shape)) return bad(b, t->name, "no shape", e);
    for (const b2_json *d = b2_json_first(shape); d; d = b2_json_next(d)) {
        if (t->rank == 8) return bad(b, t->name, "more than 8 dimensions", e);
        if (!b2_json_int(d, 0, (int64_t)1 << 53, &t->shape[t->rank]))
            return bad(b, t->name, "a dimension that is not a whole number from 0 to 2^53", e);
        t->rank++;
    }
    return BLIP2_OK;
}

/* The bytes that dtype and shape make. */
static blip2_status wanted_bytes(const b2_st_tensor *t, unsigned bits, const struct bytes *b, uint64_t *out,
                                 blip2_error *e)
{
    uint64_t total = bits;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(total, (uint64_t)t->shape[i], &total))
            return bad(b, t->name, "its size overflows", e);
    if (total % 8) return bad(b, t->name, "its bits do not fill whole bytes", e);
    *out = total / 8;
    return BLIP2_OK;
}

static blip2_status read_tensor(b2_st_tensor *t, const b2_json *v, const struct bytes *b, blip2_error *e)
{
    unsigned bits = 0;
    uint64_t want = 0;
    int64_t begin, end;
    if (!b2_json_is_object(v)) return bad(b, t->name, "not described by an object", e);
    B2_TRY(read_dtype(t, &bits, v, b, e));
    B2_TRY(read_shape(t, v, b, e));
    B2_TRY(wanted_bytes(t, bits, b, &want, e));
    const b2_json *o = b2_json_get(v, "data_offsets"), *first = b2_json_first(o),
                  *second = b2_json_next(first);
    if (!b2_json_is_array(o) || !second || b2_json_next(second) ||
        !b2_json_int(first, 0, (int64_t)1 << 53, &begin) || !b2_json_int(second, 0, (int64_t)1 << 53, &end))
        return bad(b, t->name, "data_offsets are not two whole numbers", e);
    if (begin > end || (uint64_t)end > b->size)
        return b2_fail(e, BLIP2_ERR_FORMAT,
                       "%s: tensor \"%.200s\": data_offsets [%lld,%lld] in %zu bytes of data", b->path,
                       t->name, (long long)begin, (long long)end, b->size);
    if ((uint64_t)(end - begin) != want)
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: tensor \"%.200s\": %lld bytes, dtype and shape make %llu",
                       b->path, t->name, (long long)(end - begin), (unsigned long long)want);
    t->data = b->data + begin;
    t->bytes = (size_t)want;
    t->file = b->path;
    return BLIP2_OK;
}

/* Copies s to *at and steps behind it. */
static const char *keep(char **at, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = memcpy(*at, s, n);
    *at += n;
    return copy;
}

static blip2_status check_meta(const b2_json *meta, const char *path, blip2_error *e)
{
    if (!b2_json_is_object(meta))
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: __metadata__ is not an object", path);
    for (const b2_json *m = b2_json_first(meta); m; m = b2_json_next(m))
        if (!b2_json_is_string(m))
            return b2_fail(e, BLIP2_ERR_FORMAT, "%s: __metadata__ \"%.200s\" is not a string", path,
                           b2_json_key(m));
    return BLIP2_OK;
}

static size_t text_bytes(const b2_json *root, const b2_json *meta)
{
    size_t n = 1;
    for (const b2_json *v = b2_json_first(root); v; v = b2_json_next(v)) n += strlen(b2_json_key(v)) + 1;
    for (const b2_json *v = b2_json_first(meta); v; v = b2_json_next(v))
        n += strlen(b2_json_key(v)) + strlen(b2_json_string(v)) + 2;
    return n;
}

static blip2_status fill(b2_st_header *h, const b2_json *root, const struct bytes *b, blip2_error *e)
{
    const b2_json *meta = b2_json_get(root, "__metadata__");
    if (meta) B2_TRY(check_meta(meta, b->path, e));
    h->tensor = calloc(b2_json_size(root) + 1, sizeof *h->tensor);
    h->meta = calloc(2 * b2_json_size(meta) + 1, sizeof *h->meta);
    h->text = malloc(text_bytes(root, meta));
    if (!h->tensor || !h->meta || !h->text) return B2_NOMEM(e, b->path);
    char *at = h->text;
    for (const b2_json *m = b2_json_first(meta); m; m = b2_json_next(m), h->metas++) {
        h->meta[2 * h->metas] = keep(&at, b2_json_key(m));
        h->meta[2 * h->metas + 1] = keep(&at, b2_json_string(m));
    }
    for (const b2_json *v = b2_json_first(root); v; v = b2_json_next(v)) {
        if (v == meta) continue;
        h->tensor[h->n].name = keep(&at, b2_json_key(v));
        B2_TRY(read_tensor(&h->tensor[h->n++], v, b, e));
    }
    return BLIP2_OK;
}

/* The tensors must tile the data: from its first byte to its last, no gap, no byte twice. */
static blip2_status check_tiling(b2_st_header *h, const struct bytes *b, blip2_error *e)
{
    size_t at = 0;
    if (h->n) qsort(h->tensor, h->n, sizeof *h->tensor, by_place);
    for (size_t i = 0; i < h->n; i++) {
        size_t begin = (size_t)(h->tensor[i].data - b->data);
        if (begin != at)
            return b2_fail(e, BLIP2_ERR_FORMAT,
                           "%s: tensor \"%.200s\" begins at byte %zu of the data, expected %zu (%s)", b->path,
                           h->tensor[i].name, begin, at, begin < at ? "overlap" : "gap");
        at += h->tensor[i].bytes;
    }
    if (at == b->size) return BLIP2_OK;
    return b2_fail(e, BLIP2_ERR_FORMAT, "%s: %zu bytes of data, the tensors hold %zu", b->path, b->size, at);
}

/* Two keys can differ in the file and be one name (escapes), so the sorted names are compared. */
static blip2_status check_names(b2_st_header *h, const struct bytes *b, blip2_error *e)
{
    b2_st_sort(h->tensor, h->n);
    for (size_t i = 1; i < h->n; i++)
        if (strcmp(h->tensor[i - 1].name, h->tensor[i].name) == 0)
            return bad(b, h->tensor[i].name, "stands twice", e);
    return BLIP2_OK;
}

static blip2_status parse_json(b2_st_header *h, const char *json, size_t n, const struct bytes *b,
                               blip2_error *e)
{
    b2_json *root;
    if (n == 0 || json[0] != '{')
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: the header does not begin with {", b->path);
    blip2_status s = b2_json_parse(&root, json, n, B2_ST_VALUES_MAX, b->path, e);
    if (s != BLIP2_OK) return b2_fail_context(e, s, "safetensors header");
    s = fill(h, root, b, e);
    b2_json_free(root);
    if (s == BLIP2_OK) s = check_tiling(h, b, e);
    if (s == BLIP2_OK) s = check_names(h, b, e);
    return s;
}

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

blip2_status b2_st_header_parse(b2_st_header *h, const uint8_t *p, size_t size, const char *path,
                                blip2_error *e)
{
    *h = (b2_st_header){0};
    if (size < 8)
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", path, size);
    uint64_t n = load_le64(p);
    if (n > B2_ST_HEADER_MAX)
        return b2_fail(e, BLIP2_ERR_FORMAT,
                       "%s: a header of %llu bytes, at most %u are allowed (is it safetensors?)", path,
                       (unsigned long long)n, B2_ST_HEADER_MAX);
    if (n > size - 8)
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: a header of %llu bytes in a file of %zu (truncated?)", path,
                       (unsigned long long)n, size);
    struct bytes b = {.data = p + 8 + n, .size = size - 8 - (size_t)n, .path = path};
    blip2_status s = parse_json(h, (const char *)p + 8, (size_t)n, &b, e);
    if (s != BLIP2_OK) b2_st_header_free(h);
    return s;
}

void b2_st_header_free(b2_st_header *h)
{
    free(h->tensor);
    free(h->meta);
    free(h->text);
    *h = (b2_st_header){0};
}
