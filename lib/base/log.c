/* Log messages on their way to the program's callback. */
#include <stdarg.h>
#include <stdio.h>
#include "base/log.h"
#include "base/str.h"

void b2_logf(const b2_log *log, b2_log_level level, const char *fmt, ...)
{
    if (!log || !log->fn || (int)level > log->level) return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    if (n >= (int)sizeof text) text[b2_utf8_complete(text, sizeof text - 1)] = 0;
    log->fn(log->user, (int)level, text);
}
