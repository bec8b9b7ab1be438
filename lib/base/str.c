/* Growing strings, number parsing, UTF-8. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"

/* Makes room for n more bytes and a NUL. */
static bool reserve(b2_str *s, size_t n)
{
    if (s->failed) return false;
    if (n >= (size_t)PTRDIFF_MAX - s->n) {
        s->failed = true;
        return false;
    }
    size_t need = s->n + n + 1;
    if (need <= s->cap) return true;
    size_t cap = s->cap < 64 ? 64 : s->cap + s->cap / 2;
    if (cap < need) cap = need;
    char *p = realloc(s->p, cap);
    if (!p) {
        s->failed = true;
        return false;
    }
    s->p = p;
    s->cap = cap;
    return true;
}

void b2_str_addn(b2_str *s, const char *text, size_t n)
{
    if (!reserve(s, n)) return;
    if (n) memcpy(s->p + s->n, text, n);
    s->n += n;
    s->p[s->n] = 0;
}

void b2_str_add(b2_str *s, const char *text) { b2_str_addn(s, text, strlen(text)); }

void b2_str_addv(b2_str *s, const char *fmt, va_list ap)
{
    void *locale = b2_c_locale_enter();
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        s->failed = true;
    else if (reserve(s, (size_t)n)) {
        vsnprintf(s->p + s->n, (size_t)n + 1, fmt, again);
        s->n += (size_t)n;
    }
    va_end(again);
    b2_c_locale_leave(locale);
}

void b2_str_addf(b2_str *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    b2_str_addv(s, fmt, ap);
    va_end(ap);
}

/* Length of the valid UTF-8 character at s (n > 0 bytes left), 0 when there is none. Unicode table 3-7: no
 * overlong forms, no surrogates, nothing over U+10FFFF. */
static size_t utf8_char(const unsigned char *s, size_t n)
{
    unsigned char c = s[0], lo = 0x80, hi = 0xBF;
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return 0;
    size_t len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (len > n) return 0;
    if (c == 0xE0) lo = 0xA0;
    if (c == 0xED) hi = 0x9F;
    if (c == 0xF0) lo = 0x90;
    if (c == 0xF4) hi = 0x8F;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return len;
}

static void add_json_char(b2_str *s, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = memchr(from, c, sizeof from - 1);
    if (at)
        b2_str_addn(s, (const char[]){'\\', to[at - from]}, 2);
    else if (c < 0x20)
        b2_str_addf(s, "\\u%04x", c);
    else
        b2_str_addn(s, (const char *)&c, 1);
}

void b2_str_add_json(b2_str *s, const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    size_t left = strlen(text);
    b2_str_addn(s, "\"", 1);
    while (left) {
        size_t len = utf8_char(t, left);
        if (len == 0)
            b2_str_add(s, "\\ufffd"); /* JSON cannot hold the byte */
        else if (len == 1)
            add_json_char(s, *t);
        else
            b2_str_addn(s, (const char *)t, len);
        if (len == 0) len = 1;
        t += len;
        left -= len;
    }
    b2_str_addn(s, "\"", 1);
}

static const char *xml_entity(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    }
    return NULL;
}

void b2_str_add_xml(b2_str *s, const char *text)
{
    while (*text) {
        size_t plain = strcspn(text, "&<>\"");
        b2_str_addn(s, text, plain);
        text += plain;
        if (*text) b2_str_add(s, xml_entity(*text++));
    }
    b2_str_addn(s, "", 0);
}

void b2_str_clear(b2_str *s)
{
    s->n = 0;
    if (s->p) s->p[0] = 0;
}

void b2_str_free(b2_str *s)
{
    free(s->p);
    *s = (b2_str){0};
}

char *b2_strndup(const char *s, size_t n) { return strndup(s, n); }

char *b2_strdup(const char *s) { return strdup(s); }

char *b2_path_join(const char *dir, const char *name)
{
    size_t d = strlen(dir), n = strlen(name);
    size_t slash = d > 0 && dir[d - 1] != '/';
    char *p = malloc(d + slash + n + 1);
    if (!p) return NULL;
    memcpy(p, dir, d);
    if (slash) p[d] = '/';
    memcpy(p + d + slash, name, n + 1);
    return p;
}

bool b2_str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool b2_parse_int(const char *s, long long lo, long long hi, long long *out)
{
    if (!s || !*s || !strchr("+-0123456789", *s)) return false; /* strtoll would skip blanks */
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno || *end || end == s || v < lo || v > hi) return false;
    *out = v;
    return true;
}

bool b2_parse_double(const char *s, double *out)
{
    if (!s || !*s || s[strspn(s, "+-.0123456789eE")]) return false; /* no blanks, hex, inf, nan */
    void *locale = b2_c_locale_enter();
    char *end;
    double v = strtod(s, &end);
    b2_c_locale_leave(locale);
    if (*end || end == s || !isfinite(v)) return false;
    *out = v;
    return true;
}

size_t b2_utf8_complete(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if ((c & 0xC0) == 0x80) continue; /* inside a character */
        size_t len = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        return len > back ? n - back : n;
    }
    return n;
}

bool b2_utf8_valid(const char *s, size_t n)
{
    const unsigned char *t = (const unsigned char *)s;
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_char(t + i, n - i);
        if (len == 0) return false;
    }
    return true;
}

/* glibc answers newlocale("C") with a constant object, so this neither allocates nor fails there. */
void *b2_c_locale_enter(void)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return c ? (void *)uselocale(c) : NULL;
}

void b2_c_locale_leave(void *token)
{
    if (!token) return;
    locale_t c = uselocale((locale_t)token);
    if (c && c != LC_GLOBAL_LOCALE) freelocale(c);
}
