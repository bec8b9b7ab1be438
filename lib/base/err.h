/* Filling blip2_error records. */
#ifndef B2_BASE_ERR_H
#define B2_BASE_ERR_H

#include "blip2/status.h"

#if defined(__GNUC__)
#define B2_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define B2_PRINTF(a, b)
#endif

/* Stores code and message in e (may be NULL) and returns code: `return b2_fail(e, ...)`. */
blip2_status b2_fail(blip2_error *e, blip2_status code, const char *fmt, ...) B2_PRINTF(3, 4);
/* The same with ": <strerror(errno)>" appended. */
blip2_status b2_fail_errno(blip2_error *e, blip2_status code, const char *fmt, ...) B2_PRINTF(3, 4);
/* Prefixes the message that a failed call left in e ("while doing this: ...") and returns code, the status of
 * that call (e may be NULL, so the code cannot come from it). */
blip2_status b2_fail_context(blip2_error *e, blip2_status code, const char *fmt, ...) B2_PRINTF(3, 4);

#define B2_TRY(expr)                                                                                         \
    do {                                                                                                     \
        blip2_status b2_try_ = (expr);                                                                       \
        if (b2_try_ != BLIP2_OK) return b2_try_;                                                             \
    } while (0)
#define B2_NOMEM(e, what) b2_fail((e), BLIP2_ERR_MEMORY, "out of memory for %s", (what))

#endif
