/* The device behind blip2_device: thread pool, kernel tables, log, accounts; a GPU behind the CUDA module,
 * or none. */
#ifndef B2_DEVICE_DEVICE_H
#define B2_DEVICE_DEVICE_H
#include "base/log.h"
#include "blip2/device.h"
#include "kernels/module.h"

struct blip2_device {
    _Atomic int refs;
    b2_pool *pool; /* of the host */
    b2_kernels tables[2];
    b2_isa isa;
    b2_log log;
    const b2_cuda_module *cuda; /* NULL: the device is the host */
    b2_gpu *gpu;
    b2_account memory;              /* where the kernels run */
    b2_account host_memory, pinned; /* of a GPU: what the host has besides, and what copies go through */
    char description[256];
};
blip2_device *b2_device_ref(blip2_device *d);
/* Is the kernels' memory the host's own? */
static inline bool b2_device_is_host(const blip2_device *d) { return !d->gpu; }
/* Memory that only the host touches counts here. */
static inline b2_account *b2_device_host(blip2_device *d) { return d->gpu ? &d->host_memory : &d->memory; }
/* BLIP2_ERR_MEMORY with the numbers when a GPU has no `bytes` left for `what`. */
blip2_status b2_device_room(blip2_device *d, size_t bytes, const char *what, blip2_error *e);

/* Opens GPU `name` ("cuda" or "cuda:N") for d. BLIP2_ERR_DEVICE says what is missing: module, driver, GPU. */
blip2_status b2_device_open_cuda(blip2_device *d, const char *name, blip2_error *e);
void b2_device_close_cuda(blip2_device *d);

/* A queue of this device. scratch: the arena workspaces come from (may still be dry); step: device memory. */
void b2_queue_init(b2_queue *q, blip2_device *d, b2_arena *scratch, b2_step *step);
void b2_queue_close(b2_queue *q);
/* Waits for what was launched. Returns the sticky failure (copied to e) and clears it. */
blip2_status b2_queue_finish(b2_queue *q, blip2_error *e);
/* Records a failure unless one is there already. */
void b2_queue_fail(b2_queue *q, blip2_status code, const char *fmt, ...) B2_PRINTF(3, 4);
static inline bool b2_queue_failed(const b2_queue *q) { return q->error.code != BLIP2_OK; }
/* True (and the status recorded) when the queue has failed or was cancelled: asked between layers. */
bool b2_queue_stop(b2_queue *q);
/* Says where the model is ("encoder", 3 → "encoder layer 3"; layer < 0: the part alone); false: stop now. */
bool b2_queue_at(b2_queue *q, const char *part, int layer);

/* A queue of the host's own kernels, whatever the device: for weights in the host's memory. It has no scratch
 * and holds nothing: no need to close it. It points into itself: never copied. pool: NULL allowed. */
typedef struct b2_host_queue {
    b2_queue q;
    b2_kernels tables[2];
    b2_arena none;
} b2_host_queue;
void b2_host_queue_init(b2_host_queue *h, b2_pool *pool);

/* Moving bytes, in order with the kernels; nothing happens in a dry run or after a failure. What an upload
 * reads must stay until the next download or finish. */
void b2_upload(b2_queue *q, void *device, const void *host, size_t bytes);
void b2_download(b2_queue *q, void *host, const void *device, size_t bytes); /* waits, unless recorded */
void b2_move(b2_queue *q, void *to, const void *from, size_t bytes);         /* within the device */
void b2_clear(b2_queue *q, void *device, size_t bytes);

/* Launches that are the same each time, but for what they find in memory: on a GPU recorded as a CUDA
 * graph and replayed, with the same bits; elsewhere simply run. In `launch` nothing may wait, allocate, or
 * be handed another pointer or size than last time with this key. BLIP2_CUDA_GRAPHS=0 turns recording off. */
enum { B2_RECORDINGS = 32 };
typedef struct b2_record_key {
    uint64_t part[4];
} b2_record_key;
typedef struct b2_recorded {
    b2_record_key key;
    b2_graph *graph;
    uint64_t runs, used;
} b2_recorded;
typedef struct b2_recordings {
    b2_recorded list[B2_RECORDINGS];
    uint64_t clock;
    bool off;
} b2_recordings;
void b2_recordings_init(b2_recordings *c);
void b2_run_recorded(b2_queue *q, b2_recordings *c, const b2_record_key *key, void (*launch)(void *),
                     void *ctx);
void b2_recordings_free(b2_queue *q, b2_recordings *c);

/* Memory that host and device both hold, laid out alike: inputs that the host writes and pushes, results
 * that it pulls. Where the device is the host both are the same bytes. */
typedef struct b2_twin {
    b2_arena *device, *host;
} b2_twin;
b2_twin b2_twin_of(const blip2_device *d, b2_arena *device, b2_arena *host);
/* Takes from both; the host's address. The device arena must have nothing else before the last twin taken. */
void *b2_twin_take(const b2_twin *t, size_t bytes);
void *b2_twin_device(const b2_twin *t, const void *host); /* NULL for NULL */
void b2_twin_push(b2_queue *q, const b2_twin *t, const void *host, size_t bytes);
void b2_twin_pull(b2_queue *q, const b2_twin *t, void *host, size_t bytes);
#endif
