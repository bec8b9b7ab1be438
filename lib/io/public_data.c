/* blip2/data.h over the internal readers: CSV, JSON, IDX. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "blip2/data.h"
#include "io/csv.h"
#include "io/idx.h"

/* ---- CSV ---- */
struct blip2_csv {
    b2_csv table;
};

blip2_status blip2_csv_load(const char *path, blip2_csv_repair repair, blip2_csv **out, blip2_error *err)
{
    static const b2_csv_repair rule[] = {B2_CSV_STRICT, B2_CSV_JOIN_LAST, B2_CSV_SKIP};
    if (!path || !out || (unsigned)repair > BLIP2_CSV_SKIP)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_csv_load: no path, no out, or an unknown repair rule");
    *out = NULL;
    blip2_csv *c = calloc(1, sizeof *c);
    if (!c) return B2_NOMEM(err, path);
    blip2_status s = b2_csv_load(&c->table, path, rule[repair], err);
    if (s != BLIP2_OK) {
        free(c);
        return s;
    }
    *out = c;
    return BLIP2_OK;
}

void blip2_csv_close(blip2_csv *c)
{
    if (!c) return;
    b2_csv_free(&c->table);
    free(c);
}

void blip2_csv_get_info(const blip2_csv *c, blip2_csv_info *info)
{
    if (!c || !info) return;
    const b2_csv *t = &c->table;
    blip2_csv_info full = {info->size, t->rows, t->cols, t->repaired, t->skipped, t->short_rows};
    memcpy(info, &full, info->size < sizeof full ? info->size : sizeof full);
}

int blip2_csv_column(const blip2_csv *c, const char *name)
{
    return c && name ? b2_csv_column(&c->table, name) : -1;
}

const char *blip2_csv_at(const blip2_csv *c, size_t row, int column)
{
    if (!c || row >= c->table.rows || column < 0 || (size_t)column >= c->table.cols) return "";
    return b2_csv_at(&c->table, row, column);
}

size_t blip2_csv_line(const blip2_csv *c, size_t row)
{
    return c && row < c->table.rows ? c->table.line[row] : 0;
}

struct blip2_csv_writer {
    b2_writer file;
    b2_str row;
};

blip2_status blip2_csv_create(const char *path, blip2_csv_writer **out, blip2_error *err)
{
    if (!path || !out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_csv_create: no path or no out");
    *out = NULL;
    blip2_csv_writer *w = calloc(1, sizeof *w);
    if (!w) return B2_NOMEM(err, path);
    blip2_status s = b2_writer_open(&w->file, path, err);
    if (s != BLIP2_OK) {
        free(w);
        return s;
    }
    *out = w;
    return BLIP2_OK;
}

blip2_status blip2_csv_write(blip2_csv_writer *w, const char *const *fields, size_t n, blip2_error *err)
{
    if (!w || (n && !fields))
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_csv_write: no writer or no fields");
    b2_str_clear(&w->row);
    for (size_t i = 0; i < n; i++) {
        if (i) b2_str_add(&w->row, ",");
        b2_csv_quote(&w->row, fields[i] ? fields[i] : "");
    }
    b2_str_add(&w->row, "\n");
    if (w->row.failed) return B2_NOMEM(err, "a row of a CSV file");
    return b2_writer_put(&w->file, w->row.p, w->row.n, err);
}

blip2_status blip2_csv_commit(blip2_csv_writer *w, blip2_error *err)
{
    if (!w) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_csv_commit: no writer");
    blip2_status s = b2_writer_commit(&w->file, err);
    b2_str_free(&w->row);
    free(w);
    return s;
}

void blip2_csv_abort(blip2_csv_writer *w)
{
    if (!w) return;
    b2_writer_abort(&w->file);
    b2_str_free(&w->row);
    free(w);
}

/* ---- JSON: a public value is the internal one under another name ---- */
enum { JSON_BYTES = 64 << 20, JSON_VALUES = 4000000 };

static const b2_json *inside(const blip2_json *v) { return (const b2_json *)(const void *)v; }

static const blip2_json *outside(const b2_json *v) { return (const blip2_json *)(const void *)v; }

blip2_status blip2_json_load(const char *path, blip2_json **out, blip2_error *err)
{
    if (!path || !out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_json_load: no path or no out");
    b2_json *root = NULL;
    blip2_status s = b2_json_load(&root, path, JSON_BYTES, JSON_VALUES, err);
    *out = s == BLIP2_OK ? (blip2_json *)(void *)root : NULL;
    return s;
}

blip2_status blip2_json_parse(const char *text, size_t size, const char *name, blip2_json **out,
                              blip2_error *err)
{
    if (!text || !out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_json_parse: no text or no out");
    if (!name) name = "JSON text";
    *out = NULL;
    if (size > JSON_BYTES)
        return b2_fail(err, BLIP2_ERR_LIMIT, "%s: %zu bytes, at most %d are read", name, size, JSON_BYTES);
    b2_json *root = NULL;
    blip2_status s = b2_json_parse(&root, text, size, JSON_VALUES, name, err);
    if (s == BLIP2_OK) *out = (blip2_json *)(void *)root;
    return s;
}

void blip2_json_close(blip2_json *document)
{
    if (document) b2_json_free((b2_json *)(void *)document);
}

blip2_json_type blip2_json_kind(const blip2_json *v)
{
    const b2_json *x = inside(v);
    if (b2_json_is_null(x)) return BLIP2_JSON_NULL;
    if (b2_json_is_bool(x)) return BLIP2_JSON_BOOL;
    if (b2_json_is_number(x)) return BLIP2_JSON_NUMBER;
    if (b2_json_is_string(x)) return BLIP2_JSON_STRING;
    return b2_json_is_array(x) ? BLIP2_JSON_ARRAY : BLIP2_JSON_OBJECT;
}

const blip2_json *blip2_json_get(const blip2_json *object, const char *key)
{
    return object && key ? outside(b2_json_get(inside(object), key)) : NULL;
}

const blip2_json *blip2_json_first(const blip2_json *v)
{
    return v ? outside(b2_json_first(inside(v))) : NULL;
}

const blip2_json *blip2_json_next(const blip2_json *v) { return v ? outside(b2_json_next(inside(v))) : NULL; }

const char *blip2_json_key(const blip2_json *v) { return v ? b2_json_key(inside(v)) : NULL; }

const char *blip2_json_string(const blip2_json *v) { return v ? b2_json_string(inside(v)) : NULL; }

double blip2_json_number(const blip2_json *v, double fallback)
{
    return v ? b2_json_number(inside(v), fallback) : fallback;
}

blip2_status blip2_json_quote(const char *text, char *buffer, size_t capacity, size_t *size, blip2_error *err)
{
    if (!text) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_json_quote: no text");
    b2_str s = {0};
    b2_str_add_json(&s, text);
    blip2_status status = s.failed ? B2_NOMEM(err, "a JSON string") : BLIP2_OK;
    if (status == BLIP2_OK && size) *size = s.n;
    if (status == BLIP2_OK && buffer) {
        if (s.n + 1 > capacity)
            status = b2_fail(err, BLIP2_ERR_LIMIT, "blip2_json_quote: %zu bytes needed, %zu given", s.n + 1,
                             capacity);
        else
            memcpy(buffer, s.p, s.n + 1);
    }
    b2_str_free(&s);
    return status;
}

/* ---- IDX, hash ---- */
blip2_status blip2_idx_load(const char *path, size_t max_bytes, blip2_idx *out, blip2_error *err)
{
    if (!path || !out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_idx_load: no path or no out");
    b2_idx x = {0};
    *out = (blip2_idx){0};
    blip2_status s = b2_idx_load(&x, path, max_bytes, err);
    if (s != BLIP2_OK) return s;
    *out = (blip2_idx){x.dims, {x.size[0], x.size[1], x.size[2], x.size[3]}, x.data, x.bytes};
    return BLIP2_OK;
}

void blip2_idx_free(blip2_idx *x)
{
    if (!x) return;
    free(x->data);
    *x = (blip2_idx){0};
}

uint64_t blip2_hash(const void *bytes, size_t size) { return b2_hash64(0, bytes, size); }
