/* The queue: where work is launched, and where the first failure is kept. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "device/device.h"

void b2_queue_init(b2_queue *q, blip2_device *d, b2_arena *scratch, b2_step *step)
{
    memset(q, 0, sizeof *q);
    q->k[B2_F32] = &d->tables[B2_F32];
    q->k[B2_BF16] = &d->tables[B2_BF16];
    q->pool = d->pool;
    q->scratch = scratch;
    q->step = step;
    q->error.size = sizeof q->error;
}

void b2_queue_fail(b2_queue *q, blip2_status code, const char *fmt, ...)
{
    if (b2_queue_failed(q)) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(q->error.text, sizeof q->error.text, fmt, ap);
    va_end(ap);
    q->error.code = code;
}

blip2_status b2_queue_finish(b2_queue *q, blip2_error *e)
{
    const blip2_status s = q->error.code;
    if (s == BLIP2_OK) return s;
    b2_fail(e, s, "%s", q->error.text);
    q->error.code = BLIP2_OK;
    q->error.text[0] = 0;
    return s;
}

bool b2_queue_stop(b2_queue *q)
{
    if (!b2_queue_failed(q) && q->cancel && *q->cancel)
        b2_queue_fail(q, BLIP2_ERR_CANCELLED, "cancelled%s%s", q->where[0] ? " in " : "", q->where);
    return b2_queue_failed(q);
}

bool b2_queue_at(b2_queue *q, const char *part, int layer)
{
    if (layer < 0)
        snprintf(q->where, sizeof q->where, "%s", part);
    else
        snprintf(q->where, sizeof q->where, "%s layer %d", part, layer);
    return !b2_queue_stop(q);
}
