/* JSON reading behind guards (byte cap, value count, depth, no trailing text, no embedded NUL,
 * duplicate-safe, case-sensitive). The only file that includes cJSON is json.c. Nodes belong to their
 * document. */
#ifndef B2_BASE_JSON_H
#define B2_BASE_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

typedef struct b2_json b2_json; /* a node; the root is what parse returns */

/* `name` is used in messages (a file name). max_values bounds memory (cJSON needs about 40 bytes a byte). */
blip2_status b2_json_parse(b2_json **out, const char *text, size_t n, size_t max_values, const char *name,
                           blip2_error *e);
blip2_status b2_json_load(b2_json **out, const char *path, size_t max_bytes, size_t max_values,
                          blip2_error *e);
void b2_json_free(b2_json *root);

bool b2_json_is_object(const b2_json *v);
bool b2_json_is_array(const b2_json *v);
bool b2_json_is_string(const b2_json *v);
bool b2_json_is_number(const b2_json *v);
bool b2_json_is_bool(const b2_json *v);
bool b2_json_is_null(const b2_json *v);                             /* also true for v == NULL */
const b2_json *b2_json_get(const b2_json *object, const char *key); /* NULL when absent or not an object */
const b2_json *b2_json_first(const b2_json *v); /* children of an object or array in order */
const b2_json *b2_json_next(const b2_json *v);
const char *b2_json_key(const b2_json *v); /* key of an object's member, else NULL */
size_t b2_json_size(const b2_json *v);
const char *b2_json_string(const b2_json *v); /* NULL when not a string */
bool b2_json_bool(const b2_json *v, bool fallback);
double b2_json_number(const b2_json *v, double fallback);
bool b2_json_int(const b2_json *v, int64_t lo, int64_t hi, int64_t *out); /* integral and in range */
#endif
