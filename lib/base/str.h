/* Strings that grow, and small helpers. A failed allocation makes the string sticky-failed. */
#ifndef B2_BASE_STR_H
#define B2_BASE_STR_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

typedef struct b2_str {
    char *p; /* NUL-terminated once anything was added; NULL when empty */
    size_t n, cap;
    bool failed;
} b2_str;
void b2_str_add(b2_str *s, const char *text);
void b2_str_addn(b2_str *s, const char *text, size_t n);
void b2_str_addf(b2_str *s, const char *fmt, ...) B2_PRINTF(2, 3); /* numbers as in the C locale, always */
void b2_str_addv(b2_str *s, const char *fmt, va_list ap) B2_PRINTF(2, 0);
void b2_str_add_json(b2_str *s, const char *text); /* a quoted, escaped JSON string */
void b2_str_add_xml(b2_str *s, const char *text);  /* & < > " escaped */
void b2_str_clear(b2_str *s);                      /* empty, memory kept */
void b2_str_free(b2_str *s);

char *b2_strdup(const char *s);
char *b2_strndup(const char *s, size_t n);
char *b2_path_join(const char *dir, const char *name); /* malloc'ed; NULL when out of memory */
bool b2_str_ends(const char *s, const char *suffix);
/* The whole string must be the number: no blanks, no trailing text; a double is finite and decimal. */
bool b2_parse_int(const char *s, long long lo, long long hi, long long *out);
bool b2_parse_double(const char *s, double *out);
size_t b2_utf8_complete(const char *s, size_t n); /* longest prefix that ends no character midway */
bool b2_utf8_valid(const char *s, size_t n);

/* The calling thread formats and parses numbers as in the C locale between enter and leave, whatever the
 * program chose with setlocale(): file formats have no decimal commas. */
void *b2_c_locale_enter(void);
void b2_c_locale_leave(void *token);
#endif
