/* Where work runs: "cpu", or "cuda:N" through a module that is opened at run time. Shared and thread-safe. */
#ifndef BLIP2_DEVICE_H
#define BLIP2_DEVICE_H

#include "blip2/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blip2_device blip2_device;

/* level: 0 error, 1 warning, 2 information, 3 debug. May be called from any thread; must not call back. */
typedef void (*blip2_log_fn)(void *user, int level, const char *message);

typedef struct blip2_device_options {
    size_t size;
    int threads;      /* 0: what the affinity mask and the cgroup quota allow */
    blip2_log_fn log; /* NULL: silent */
    void *log_user;
    int log_level;
} blip2_device_options;
#define BLIP2_DEVICE_OPTIONS_INIT                                                                            \
    {                                                                                                        \
        sizeof(blip2_device_options), 0, NULL, NULL, 1                                                       \
    }

/* name: "cpu", "cuda" (GPU 0) or "cuda:N". options NULL: defaults. BLIP2_ERR_DEVICE says what is missing:
 * the module (libblip2-cuda.so, in BLIP2_MODULE_DIR when that is set, else in blip2/ beside the library),
 * the driver, or a GPU of compute capability 8.0. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_device_open(const char *name,
                                                          const blip2_device_options *options,
                                                          blip2_device **out, blip2_error *err);
/* Drops the caller's reference; models and sessions on it keep theirs. NULL allowed. */
BLIP2_API void blip2_device_close(blip2_device *d);
/* One line: kind, processor, instruction set, threads. Valid while the device is open. */
BLIP2_API const char *blip2_device_description(const blip2_device *d);
/* Bytes this device's handles hold right now / held at most, counted where they are allocated; of a GPU:
 * on the GPU. */
BLIP2_API size_t blip2_device_memory(const blip2_device *d, size_t *peak);

#ifdef __cplusplus
}
#endif
#endif
