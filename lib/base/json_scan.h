/* A strict look at a JSON text before it is parsed. */
#ifndef B2_BASE_JSON_SCAN_H
#define B2_BASE_JSON_SCAN_H
#include <stddef.h>
#include "base/err.h"

#define B2_JSON_DEPTH 64 /* arrays and objects inside each other */

/* Accepts exactly RFC 8259 (UTF-8, one value, blanks around it) within B2_JSON_DEPTH and max_values; refuses
 * the escape \u0000, which a C string cannot hold, and halves of surrogate pairs. Allocates nothing; `name`
 * is for messages. */
blip2_status b2_json_scan(const char *text, size_t n, size_t max_values, const char *name, blip2_error *e);
#endif
