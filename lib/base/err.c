/* Error records: every failure of the library is written down here. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/str.h"

const char *blip2_strerror(blip2_status code)
{
    switch (code) {
#define X(name, value, text)                                                                                 \
    case BLIP2_##name: return text;
        BLIP2_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

/* Room for text in the caller's record, which may come from another release. A zeroed record counts as ours.
 */
static size_t text_room(const blip2_error *e)
{
    size_t size = e->size == 0 || e->size > sizeof *e ? sizeof *e : e->size;
    return size > offsetof(blip2_error, text) ? size - offsetof(blip2_error, text) : 0;
}

/* The arguments may point into e->text, so the message is complete before e is written. */
static void store(blip2_error *e, blip2_status code, const char *text)
{
    size_t room = text_room(e);
    e->code = code;
    if (room == 0) return;
    size_t n = strlen(text);
    if (n >= room) n = b2_utf8_complete(text, room - 1);
    memmove(e->text, text, n);
    e->text[n] = 0;
}

blip2_status b2_fail(blip2_error *e, blip2_status code, const char *fmt, ...)
{
    if (!e) return code;
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = 0;
    if (n >= (int)sizeof text) text[b2_utf8_complete(text, sizeof text - 1)] = 0;
    store(e, code, text);
    return code;
}

blip2_status b2_fail_errno(blip2_error *e, blip2_status code, const char *fmt, ...)
{
    int saved = errno;
    if (!e) return code;
    char text[sizeof e->text], reason[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = 0;
    /* the GNU form, which may return a constant text instead of filling the buffer */
    const char *why = strerror_r(saved, reason, sizeof reason);
    size_t why_n = strlen(why), limit = sizeof text - 3 - (why_n < 128 ? why_n : 128);
    text[b2_utf8_complete(text, strnlen(text, limit))] = 0;
    size_t at = strlen(text);
    snprintf(text + at, sizeof text - at, ": %s", why);
    store(e, code, text);
    errno = saved;
    return code;
}

blip2_status b2_fail_context(blip2_error *e, blip2_status code, const char *fmt, ...)
{
    if (!e || code == BLIP2_OK) return code;
    char text[2 * sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = 0;
    size_t at = strlen(text), room = text_room(e);
    snprintf(text + at, sizeof text - at, ": %.*s", room ? (int)room - 1 : 0, room ? e->text : "");
    store(e, code, text);
    return code;
}
