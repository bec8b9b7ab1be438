/* Any bytes as JSON: parsed or refused, and every node of a parsed one reached by key. */
#include <stdlib.h>
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const b2_json *v)
{
    int64_t i;
    b2_json_int(v, INT64_MIN, INT64_MAX, &i);
    size_t n = 0;
    for (const b2_json *c = b2_json_first(v); c; c = b2_json_next(c), n++) {
        if (b2_json_is_object(v) && b2_json_get(v, b2_json_key(c)) != c)
            abort(); /* doubled keys are refused */
        walk(c);
    }
    if (n != b2_json_size(v)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    b2_json *v;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = b2_json_parse(&v, (const char *)data, size, 10000, "fuzz", &e);
    if (s != BLIP2_OK) {
        if (v || !e.text[0] || s == BLIP2_ERR_MEMORY) abort(); /* cJSON failed on what the scan had passed */
        return 0;
    }
    walk(v);
    b2_json_free(v);
    return 0;
}
