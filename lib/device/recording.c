/* Launches recorded once and replayed: what a CUDA graph is for. A shape's first run is eager (kernels get
 * loaded), its second one is recorded, all others replay. */
#include <stdlib.h>
#include <string.h>
#include "device/device.h"

/* The entry of this key, or the least recently used one made new. */
static b2_recorded *entry_of(b2_queue *q, b2_recordings *c, const b2_record_key *key)
{
    b2_recorded *least = &c->list[0];
    for (int i = 0; i < B2_RECORDINGS; i++) {
        b2_recorded *r = &c->list[i];
        if (r->runs && memcmp(&r->key, key, sizeof *key) == 0) return r;
        if (r->used < least->used) least = r;
    }
    if (least->graph) q->device->cuda->forget(least->graph);
    *least = (b2_recorded){.key = *key};
    return least;
}

static bool record(b2_queue *q, b2_recorded *r, void (*launch)(void *), void *ctx)
{
    const b2_cuda_module *m = q->device->cuda;
    if (m->record(q->native)) return false;
    launch(ctx);
    const int code = m->recorded(q->native, &r->graph);
    if (b2_queue_failed(q) && r->graph) { /* cancelled, say: half a step is none */
        m->forget(r->graph);
        r->graph = NULL;
    }
    if (code) b2_queue_fail(q, BLIP2_ERR_DEVICE, "recording a CUDA graph: %s", m->error(code));
    return true;
}

void b2_run_recorded(b2_queue *q, b2_recordings *c, const b2_record_key *key, void (*launch)(void *),
                     void *ctx)
{
    if (q->dry || b2_queue_failed(q) || !q->native || c->off || q->trace || q->check_finite) {
        launch(ctx);
        return;
    }
    b2_recorded *r = entry_of(q, c, key);
    r->used = ++c->clock;
    if (r->runs++ == 0) {
        launch(ctx);
        return;
    }
    if (!r->graph && !record(q, r, launch, ctx)) {
        launch(ctx);
        return;
    }
    if (b2_queue_failed(q)) return;
    const int code = q->device->cuda->replay(q->native, r->graph);
    if (code) b2_queue_fail(q, BLIP2_ERR_DEVICE, "a CUDA graph: %s", q->device->cuda->error(code));
}

void b2_recordings_init(b2_recordings *c)
{
    const char *v = getenv("BLIP2_CUDA_GRAPHS");
    *c = (b2_recordings){.off = v && strcmp(v, "0") == 0};
}

void b2_recordings_free(b2_queue *q, b2_recordings *c)
{
    for (int i = 0; i < B2_RECORDINGS; i++) {
        if (c->list[i].graph) q->device->cuda->forget(c->list[i].graph);
    }
    *c = (b2_recordings){0};
}
