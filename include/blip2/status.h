/* Status codes and the error record. Every function that can fail returns a blip2_status; 0 is success. */
#ifndef BLIP2_STATUS_H
#define BLIP2_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BLIP2_API        __attribute__((visibility("default")))
#define BLIP2_MUST_CHECK __attribute__((warn_unused_result))
#else
#define BLIP2_API
#define BLIP2_MUST_CHECK
#endif

/* The one list: name, value (pinned, never reused), text. */
#define BLIP2_STATUS_LIST(X)                                                                                 \
    X(OK, 0, "success")                                                                                      \
    X(ERR_ARGUMENT, -1, "invalid argument")                                                                  \
    X(ERR_STATE, -2, "call not allowed in this state")                                                       \
    X(ERR_MEMORY, -3, "out of memory")                                                                       \
    X(ERR_IO, -4, "input/output error")                                                                      \
    X(ERR_FORMAT, -5, "malformed file")                                                                      \
    X(ERR_CONFIG, -6, "unusable model or adapter configuration")                                             \
    X(ERR_DATA, -7, "bad training or evaluation data")                                                       \
    X(ERR_SHAPE, -8, "shape or dtype mismatch")                                                              \
    X(ERR_DEVICE, -9, "device unavailable or failed")                                                        \
    X(ERR_UNSUPPORTED, -10, "not supported by this build")                                                   \
    X(ERR_NONFINITE, -11, "a value became infinite or not a number")                                         \
    X(ERR_CANCELLED, -12, "cancelled")                                                                       \
    X(ERR_LIMIT, -13, "a limit was exceeded")

typedef enum blip2_status {
#define X(name, value, text) BLIP2_##name = value,
    BLIP2_STATUS_LIST(X)
#undef X
} blip2_status;

/* Filled on failure by functions that take one; pass NULL when the story is not wanted.
 * The caller owns it; set it up with BLIP2_ERROR_INIT. `text` is always NUL-terminated. */
typedef struct blip2_error {
    size_t size;       /* sizeof(blip2_error) */
    blip2_status code; /* BLIP2_OK until something failed */
    char text[1024];   /* file, tensor or field; what was expected; what was found */
} blip2_error;

#define BLIP2_ERROR_INIT                                                                                     \
    {                                                                                                        \
        sizeof(blip2_error), BLIP2_OK, { 0 }                                                                 \
    }

/* A constant English text for a code ("unknown status" for others). Any thread. */
BLIP2_API const char *blip2_strerror(blip2_status code);

#ifdef __cplusplus
}
#endif
#endif
