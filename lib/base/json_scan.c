/* The strict JSON scanner: cJSON alone takes 0x10, 01, invalid UTF-8, endless values and NUL in the middle.
 */
#include <stdbool.h>
#include <string.h>
#include "base/json_scan.h"
#include "base/str.h"

#define NUMBER_MAX 60 /* cJSON 1.7.15 looks at 63 characters and takes the others for a syntax error */

struct scan {
    const char *text, *name;
    size_t n, at, values, max_values;
    int depth;
    char open[B2_JSON_DEPTH]; /* the brackets around the current place */
    blip2_error *e;
};

static blip2_status bad(const struct scan *s, size_t at, const char *what)
{
    size_t line = 1;
    for (size_t i = 0; i < at && i < s->n; i++) line += s->text[i] == '\n';
    return b2_fail(s->e, BLIP2_ERR_FORMAT, "%s: not valid JSON at byte %zu (line %zu): %s", s->name, at, line,
                   what);
}

/* The next byte, 0 at the end; a NUL in the text matches nothing either. */
static char peek(const struct scan *s) { return s->at < s->n ? s->text[s->at] : 0; }

static void blanks(struct scan *s)
{
    while (s->at < s->n && (s->text[s->at] == ' ' || s->text[s->at] == '\n' || s->text[s->at] == '\r' ||
                            s->text[s->at] == '\t'))
        s->at++;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool digits(struct scan *s)
{
    size_t from = s->at;
    while (digit(peek(s))) s->at++;
    return s->at > from;
}

static blip2_status number(struct scan *s)
{
    size_t from = s->at;
    if (peek(s) == '-') s->at++;
    bool zero = peek(s) == '0';
    if (zero) s->at++;
    bool ok = zero ? !digit(peek(s)) : digits(s);
    if (ok && peek(s) == '.') {
        s->at++;
        ok = digits(s);
    }
    if (ok && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        ok = digits(s);
    }
    if (!ok) return bad(s, from, "a number was begun here");
    return s->at - from <= NUMBER_MAX ? BLIP2_OK : bad(s, from, "a number of more than 60 characters");
}

/* Four hexadecimal digits after \u; -1 when they are not there. */
static long hex4(struct scan *s)
{
    long v = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        char c = peek(s);
        int d = digit(c)               ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static blip2_status escape(struct scan *s)
{
    size_t from = s->at++;
    char c = peek(s);
    s->at++;
    if (c && strchr("\"\\/bfnrt", c)) return BLIP2_OK;
    if (c != 'u') return bad(s, from, "unknown escape");
    long v = hex4(s);
    if (v == 0) return bad(s, from, "\\u0000 is not allowed");
    if (v >= 0xD800 && v < 0xDC00 && peek(s) == '\\' && s->at + 1 < s->n && s->text[s->at + 1] == 'u') {
        s->at += 2;
        long low = hex4(s);
        return low >= 0xDC00 && low < 0xE000 ? BLIP2_OK : bad(s, from, "half a surrogate pair");
    }
    if (v < 0) return bad(s, from, "\\u wants four hexadecimal digits");
    return v < 0xD800 || v >= 0xE000 ? BLIP2_OK : bad(s, from, "half a surrogate pair");
}

static blip2_status string(struct scan *s)
{
    size_t from = s->at++;
    while (s->at < s->n) {
        char c = s->text[s->at];
        if (c == '"') {
            s->at++;
            return BLIP2_OK;
        }
        if ((unsigned char)c < 0x20) return bad(s, s->at, "a control character inside a string");
        if (c == '\\')
            B2_TRY(escape(s));
        else
            s->at++;
    }
    return bad(s, from, "a string that does not end");
}

static blip2_status word(struct scan *s, const char *w)
{
    size_t len = strlen(w);
    if (s->n - s->at < len || memcmp(s->text + s->at, w, len) != 0)
        return bad(s, s->at, "a value was expected");
    s->at += len;
    return BLIP2_OK;
}

/* The name of a member and its colon. */
static blip2_status member(struct scan *s)
{
    blanks(s);
    if (peek(s) != '"') return bad(s, s->at, "a member's name in quotes was expected");
    B2_TRY(string(s));
    blanks(s);
    if (peek(s) != ':') return bad(s, s->at, "a colon was expected");
    s->at++;
    return BLIP2_OK;
}

/* Enters an array or object; *whole: it is empty and already left again. */
static blip2_status enter(struct scan *s, bool *whole)
{
    char c = peek(s);
    if (s->depth == B2_JSON_DEPTH) return bad(s, s->at, "more than 64 brackets inside each other");
    s->at++;
    blanks(s);
    *whole = peek(s) == (c == '{' ? '}' : ']');
    if (*whole) {
        s->at++;
        return BLIP2_OK;
    }
    s->open[s->depth++] = c;
    return c == '{' ? member(s) : BLIP2_OK;
}

/* One value without its blanks. *inside: an array or object was entered, its first value comes next. */
static blip2_status value(struct scan *s, bool *inside)
{
    *inside = false;
    if (++s->values > s->max_values)
        return b2_fail(s->e, BLIP2_ERR_LIMIT, "%s: more than %zu JSON values", s->name, s->max_values);
    switch (peek(s)) {
    case '{':
    case '[': {
        bool whole = false;
        blip2_status st = enter(s, &whole);
        *inside = !whole;
        return st;
    }
    case '"': return string(s);
    case 't': return word(s, "true");
    case 'f': return word(s, "false");
    case 'n': return word(s, "null");
    }
    if (peek(s) != '-' && !digit(peek(s))) return bad(s, s->at, "a value was expected");
    return number(s);
}

/* After a value: closes brackets, or steps over the comma to the next value. */
static blip2_status after_value(struct scan *s)
{
    for (blanks(s); s->depth > 0; blanks(s)) {
        bool object = s->open[s->depth - 1] == '{';
        char c = peek(s);
        if (c != ',' && c != (object ? '}' : ']'))
            return bad(s, s->at, "a comma or a closing bracket was expected");
        s->at++;
        if (c == ',') return object ? member(s) : BLIP2_OK;
        s->depth--;
    }
    return BLIP2_OK;
}

blip2_status b2_json_scan(const char *text, size_t n, size_t max_values, const char *name, blip2_error *e)
{
    struct scan s = {.text = text, .name = name, .n = n, .max_values = max_values, .e = e};
    do {
        bool inside;
        blanks(&s);
        B2_TRY(value(&s, &inside));
        if (!inside) B2_TRY(after_value(&s));
    } while (s.depth > 0);
    if (s.at < s.n) return bad(&s, s.at, "text after the end of the value");
    if (!b2_utf8_valid(text, n)) return b2_fail(e, BLIP2_ERR_FORMAT, "%s: not valid UTF-8", name);
    return BLIP2_OK;
}
