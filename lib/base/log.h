/* Logging goes to a callback, per device; nothing prints. */
#ifndef B2_BASE_LOG_H
#define B2_BASE_LOG_H
#include "base/err.h"

typedef enum { B2_LOG_ERROR = 0, B2_LOG_WARN = 1, B2_LOG_INFO = 2, B2_LOG_DEBUG = 3 } b2_log_level;
typedef void (*b2_log_fn)(void *user, int level, const char *message);
typedef struct b2_log {
    b2_log_fn fn; /* NULL: silent */
    void *user;
    int level; /* messages above it are not formatted */
} b2_log;
void b2_logf(const b2_log *log, b2_log_level level, const char *fmt, ...) B2_PRINTF(3, 4);
#endif
