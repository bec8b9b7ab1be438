/* JSON documents: cJSON behind the strict scan. The only file that includes cJSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/json_scan.h"
#include "base/str.h"

/* A b2_json is a cJSON node. An object with many members keeps its members sorted by key in the string field
 * that objects do not use: cJSON_Delete frees it with the node. valueint holds their number. */
#define INDEX_FROM 16

static const cJSON *node(const b2_json *v) { return (const cJSON *)(const void *)v; }

static const b2_json *wrap(const cJSON *v) { return (const b2_json *)(const void *)v; }

static int by_key(const void *a, const void *b)
{
    const cJSON *const *x = a, *const *y = b;
    return strcmp((*x)->string, (*y)->string);
}

static int key_of(const void *key, const void *member)
{
    const cJSON *const *m = member;
    return strcmp(key, (*m)->string);
}

static size_t count_children(const cJSON *v)
{
    size_t n = 0;
    for (const cJSON *c = v->child; c; c = c->next) n++;
    return n;
}

/* Sorts an object's members, refuses equal keys, keeps the index when it pays. */
static blip2_status index_object(cJSON *v, const char *name, blip2_error *e)
{
    size_t n = count_children(v), i = 0;
    if (n < 2) return BLIP2_OK;
    cJSON **index = cJSON_malloc(n * sizeof(cJSON *));
    if (!index) return B2_NOMEM(e, name);
    for (cJSON *c = v->child; c; c = c->next) index[i++] = c;
    qsort(index, n, sizeof *index, by_key);
    blip2_status s = BLIP2_OK;
    for (i = 1; i < n && s == BLIP2_OK; i++)
        if (strcmp(index[i - 1]->string, index[i]->string) == 0)
            s = b2_fail(e, BLIP2_ERR_FORMAT, "%s: the key \"%.200s\" stands twice in one object", name,
                        index[i]->string);
    if (s != BLIP2_OK || n < INDEX_FROM) {
        cJSON_free(index);
        return s;
    }
    v->valuestring = (char *)(void *)index;
    v->valueint = (int)n;
    return BLIP2_OK;
}

/* Checks what the scan cannot see. The depth is bounded by the scan. */
static blip2_status finish(cJSON *v, const char *name, blip2_error *e)
{
    if (cJSON_IsNumber(v) && !isfinite(v->valuedouble))
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: a number is too large for a double", name);
    if (cJSON_IsObject(v)) B2_TRY(index_object(v, name, e));
    for (cJSON *c = v->child; c; c = c->next)
        if (c->child || cJSON_IsNumber(c)) B2_TRY(finish(c, name, e));
    return BLIP2_OK;
}

blip2_status b2_json_parse(b2_json **out, const char *text, size_t n, size_t max_values, const char *name,
                           blip2_error *e)
{
    *out = NULL;
    if (max_values > INT32_MAX) max_values = INT32_MAX;
    B2_TRY(b2_json_scan(text, n, max_values, name, e));
    char *copy = malloc(n + 1); /* cJSON wants the NUL, and reads it */
    if (!copy) return B2_NOMEM(e, name);
    memcpy(copy, text, n);
    copy[n] = 0;
    void *locale = b2_c_locale_enter();
    cJSON *root = cJSON_ParseWithLengthOpts(copy, n + 1, NULL, 1);
    b2_c_locale_leave(locale);
    free(copy);
    if (!root) return B2_NOMEM(e, name); /* the text is valid: nothing else can have failed */
    blip2_status s = finish(root, name, e);
    if (s != BLIP2_OK)
        cJSON_Delete(root);
    else
        *out = (b2_json *)(void *)root;
    return s;
}

blip2_status b2_json_load(b2_json **out, const char *path, size_t max_bytes, size_t max_values,
                          blip2_error *e)
{
    *out = NULL;
    char *text;
    size_t n;
    B2_TRY(b2_read_file(path, max_bytes, &text, &n, e));
    blip2_status s = b2_json_parse(out, text, n, max_values, path, e);
    free(text);
    return s;
}

void b2_json_free(b2_json *root) { cJSON_Delete((cJSON *)(void *)root); }

bool b2_json_is_object(const b2_json *v) { return cJSON_IsObject(node(v)); }

bool b2_json_is_array(const b2_json *v) { return cJSON_IsArray(node(v)); }

bool b2_json_is_string(const b2_json *v) { return cJSON_IsString(node(v)); }

bool b2_json_is_number(const b2_json *v) { return cJSON_IsNumber(node(v)); }

bool b2_json_is_bool(const b2_json *v) { return cJSON_IsBool(node(v)); }

bool b2_json_is_null(const b2_json *v) { return !v || cJSON_IsNull(node(v)); }

const b2_json *b2_json_get(const b2_json *object, const char *key)
{
    const cJSON *o = node(object);
    if (!cJSON_IsObject(o)) return NULL;
    if (o->valuestring) {
        cJSON *const *m = bsearch(key, o->valuestring, (size_t)o->valueint, sizeof(cJSON *), key_of);
        return m ? wrap(*m) : NULL;
    }
    return wrap(cJSON_GetObjectItemCaseSensitive(o, key));
}

const b2_json *b2_json_first(const b2_json *v) { return v ? wrap(node(v)->child) : NULL; }

const b2_json *b2_json_next(const b2_json *v) { return v ? wrap(node(v)->next) : NULL; }

const char *b2_json_key(const b2_json *v) { return v ? node(v)->string : NULL; }

size_t b2_json_size(const b2_json *v) { return v ? count_children(node(v)) : 0; }

const char *b2_json_string(const b2_json *v) { return b2_json_is_string(v) ? node(v)->valuestring : NULL; }

bool b2_json_bool(const b2_json *v, bool fallback)
{
    return b2_json_is_bool(v) ? cJSON_IsTrue(node(v)) : fallback;
}

double b2_json_number(const b2_json *v, double fallback)
{
    return b2_json_is_number(v) ? node(v)->valuedouble : fallback;
}

bool b2_json_int(const b2_json *v, int64_t lo, int64_t hi, int64_t *out)
{
    double d = b2_json_number(v, NAN);
    if (!(fabs(d) <= 0x1p53) || d != floor(d)) return false; /* beyond 2^53 a double skips integers */
    int64_t i = (int64_t)d;
    if (i < lo || i > hi) return false;
    *out = i;
    return true;
}
