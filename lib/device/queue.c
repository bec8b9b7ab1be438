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
    q->device = d;
    q->pool = d->pool;
    q->threads = d->gpu ? d->cuda->multiprocessors(d->gpu) : b2_pool_threads(d->pool);
    q->scratch = scratch;
    q->step = step;
    q->error.size = sizeof q->error;
    if (!d->gpu) return;
    b2_stream *s = NULL;
    const int code = d->cuda->stream_open(d->gpu, &s);
    q->native = s;
    if (code) b2_queue_fail(q, BLIP2_ERR_DEVICE, "a CUDA stream: %s", d->cuda->error(code));
}

void b2_host_queue_init(b2_host_queue *h, b2_pool *pool)
{
    memset(h, 0, sizeof *h);
    b2_cpu_tables(h->tables, b2_isa_best());
    h->q.k[B2_F32] = &h->tables[B2_F32];
    h->q.k[B2_BF16] = &h->tables[B2_BF16];
    h->q.pool = pool;
    h->q.threads = b2_pool_threads(pool);
    h->q.scratch = &h->none;
    h->q.error.size = sizeof h->q.error;
}

void b2_queue_close(b2_queue *q)
{
    if (q->native) q->device->cuda->stream_close(q->native);
    q->native = NULL;
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

static void wait_for(b2_queue *q)
{
    if (!q->native || q->dry) return;
    const int code = q->device->cuda->wait(q->native);
    if (code)
        b2_queue_fail(q, BLIP2_ERR_DEVICE, "%s%s%s", q->where, q->where[0] ? ": " : "",
                      q->device->cuda->error(code));
}

blip2_status b2_queue_finish(b2_queue *q, blip2_error *e)
{
    wait_for(q);
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
