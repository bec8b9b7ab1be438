/* Moving bytes between host and device, and memory that both hold. */
#include <string.h>
#include "device/device.h"

/* The module to ask, or NULL: the host's own memory. */
static const b2_cuda_module *cuda_of(const b2_queue *q) { return q->device ? q->device->cuda : NULL; }

static bool idle(const b2_queue *q, size_t bytes) { return q->dry || !bytes || b2_queue_failed(q); }

static void judge(b2_queue *q, const char *what, size_t bytes, int code)
{
    if (code)
        b2_queue_fail(q, BLIP2_ERR_DEVICE, "%s%s%s of %zu bytes: %s", q->where, q->where[0] ? ": " : "", what,
                      bytes, cuda_of(q)->error(code));
}

void b2_upload(b2_queue *q, void *device, const void *host, size_t bytes)
{
    const b2_cuda_module *m = cuda_of(q);
    if (idle(q, bytes)) return;
    if (m)
        judge(q, "upload", bytes, m->upload(q->native, device, host, bytes));
    else if (device != host)
        memcpy(device, host, bytes);
}

void b2_download(b2_queue *q, void *host, const void *device, size_t bytes)
{
    const b2_cuda_module *m = cuda_of(q);
    if (idle(q, bytes)) return;
    if (m)
        judge(q, "download", bytes, m->download(q->native, host, device, bytes));
    else if (device != host)
        memcpy(host, device, bytes);
}

void b2_move(b2_queue *q, void *to, const void *from, size_t bytes)
{
    const b2_cuda_module *m = cuda_of(q);
    if (idle(q, bytes)) return;
    if (m)
        judge(q, "copy", bytes, m->copy(q->native, to, from, bytes));
    else
        memcpy(to, from, bytes);
}

void b2_clear(b2_queue *q, void *device, size_t bytes)
{
    const b2_cuda_module *m = cuda_of(q);
    if (idle(q, bytes)) return;
    if (m)
        judge(q, "clearing", bytes, m->zero(q->native, device, bytes));
    else
        memset(device, 0, bytes);
}

b2_twin b2_twin_of(const blip2_device *d, b2_arena *device, b2_arena *host)
{
    const b2_twin t = {device, b2_device_is_host(d) ? device : host};
    return t;
}

void *b2_twin_take(const b2_twin *t, size_t bytes)
{
    void *p = b2_arena_take(t->device, bytes);
    return t->host == t->device || !p ? p : b2_arena_take(t->host, bytes);
}

/* Both arenas handed out the same sizes in the same order. */
void *b2_twin_device(const b2_twin *t, const void *host)
{
    if (!host) return NULL;
    return b2_arena_at(t->device, b2_arena_offset(t->host, host));
}

void b2_twin_push(b2_queue *q, const b2_twin *t, const void *host, size_t bytes)
{
    b2_upload(q, b2_twin_device(t, host), host, bytes);
}

void b2_twin_pull(b2_queue *q, const b2_twin *t, void *host, size_t bytes)
{
    b2_download(q, host, b2_twin_device(t, host), bytes);
}
