/* The device behind blip2_device: thread pool, kernel tables, log, account. */
#ifndef B2_DEVICE_DEVICE_H
#define B2_DEVICE_DEVICE_H
#include "base/log.h"
#include "blip2/device.h"
#include "kernels/kernels.h"

struct blip2_device {
    _Atomic int refs;
    b2_pool *pool;
    b2_kernels tables[2];
    b2_isa isa;
    b2_log log;
    b2_account memory;
    char description[256];
};
blip2_device *b2_device_ref(blip2_device *d);

/* A queue of this device. scratch: the arena workspaces come from (may still be dry). */
void b2_queue_init(b2_queue *q, blip2_device *d, b2_arena *scratch, b2_step *step);
/* Returns the sticky failure (copied to e) and clears it. */
blip2_status b2_queue_finish(b2_queue *q, blip2_error *e);
/* Records a failure unless one is there already. */
void b2_queue_fail(b2_queue *q, blip2_status code, const char *fmt, ...) B2_PRINTF(3, 4);
static inline bool b2_queue_failed(const b2_queue *q) { return q->error.code != BLIP2_OK; }
/* True (and the status recorded) when the queue has failed or was cancelled: asked between layers. */
bool b2_queue_stop(b2_queue *q);
/* Says where the model is ("encoder", 3 → "encoder layer 3"; layer < 0: the part alone); false: stop now. */
bool b2_queue_at(b2_queue *q, const char *part, int layer);
#endif
