/* Attention by cuDNN: the first engine that its heuristics name for each shape, kept. Off unless
 * BLIP2_CUDNN=1 asks: no GPU has said yet where it wins. */
#include "kernels/cuda/cudnn.h"
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/cudnn_plan.h"

enum { WORKSPACE_ALIGNED = 256, MOST_DIM = 128 };
enum { TENSORS = 6, POINTERS = TENSORS + 1 }; /* Stats is the last tensor; then the workspace */

/* What a shape has been decided to be done with, and the pointers of its last run, which are the same for
 * every layer of a planned step. */
typedef struct entry {
    b2_dnn_shape key;
    b2_dnn_plan way;
    void *pack, *at[POINTERS]; /* by id less 1; of the scale, where it lies in this entry */
    float scale;
    struct entry *next;
} entry;

/* No plan is given up before its stream is: recorded graphs hold kernels that may be the plan's own. More
 * shapes than MOST_ENTRIES are for our own kernels. */
enum { BUCKETS = 32, MOST_ENTRIES = 256 };
struct b2_dnn {
    const b2_dnn_api *api;
    void *handle;
    entry *known[BUCKETS];
    int entries;
};

/* ---- opening ------------------------------------------------------------------------------------------- */

bool b2_dnn_wanted(void)
{
    const char *v = getenv("BLIP2_CUDNN");
    return v && !strcmp(v, "1");
}

/* The library that may be used: wanted, there, new enough. */
static const b2_dnn_api *library(void)
{
    const b2_dnn_api *api = b2_dnn_wanted() ? b2_cudnn_open() : NULL;
    return api && api->version() >= B2_DNN_LEAST_VERSION ? api : NULL;
}

size_t b2_dnn_version(void)
{
    const b2_dnn_api *api = library();
    return api ? api->version() : 0;
}

b2_dnn *b2_dnn_open(void *stream)
{
    const b2_dnn_api *api = library();
    b2_dnn *d = api ? calloc(1, sizeof *d) : NULL;
    if (!d) return NULL;
    d->api = api;
    if (!api->create(&d->handle) && !api->set_stream(d->handle, stream)) return d;
    b2_dnn_close(d);
    return NULL;
}

void b2_dnn_close(b2_dnn *d)
{
    if (!d) return;
    for (int i = 0; i < BUCKETS; i++)
        while (d->known[i]) {
            entry *e = d->known[i];
            d->known[i] = e->next;
            if (e->pack) d->api->desc_destroy(e->pack);
            b2_dnn_plan_free(d->api, &e->way);
            free(e);
        }
    if (d->handle) d->api->destroy(d->handle);
    free(d);
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

static bool fits(const b2_attn *a)
{
    return a->batch > 0 && a->tq > 1 && a->tk > 0 && a->tk == a->krows && a->dim % 8 == 0 &&
           a->dim <= MOST_DIM && !a->bias && !a->klen && !a->qpos && !a->kvrow && !a->causal &&
           !(a->drop > 0);
}

static bool aligned(const void *p) { return (uintptr_t)p % B2_DNN_ALIGNED == 0; }
static bool rows_aligned(const void *p, int ld) { return aligned(p) && 2 * ld % B2_DNN_ALIGNED == 0; }

size_t b2_dnn_attention_ws(const b2_attn *a)
{
    return fits(a) && b2_dnn_version() ? B2_DNN_WORKSPACE + WORKSPACE_ALIGNED : 0;
}

static unsigned bucket_of(const b2_dnn_shape *s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof *s; i++) h = (h ^ ((const unsigned char *)s)[i]) * 0x100000001B3u;
    return (unsigned)(h >> 32) % BUCKETS;
}

/* The way for this shape, decided when it is first asked for outside of a recording; NULL: there is none. */
static entry *entry_of(b2_dnn *d, const b2_dnn_shape *s, bool recording)
{
    entry **list = &d->known[bucket_of(s)];
    for (entry *e = *list; e; e = e->next)
        if (!memcmp(&e->key, s, sizeof *s)) return e->way.plan ? e : NULL;
    entry *e = recording || d->entries == MOST_ENTRIES ? NULL : calloc(1, sizeof *e);
    if (!e) return NULL;
    e->key = *s;
    b2_dnn_plan_make(d->api, &e->way, s, d->handle, NULL, B2_DNN_WORKSPACE);
    e->next = *list;
    *list = e;
    d->entries++;
    return e->way.plan ? e : NULL;
}

/* The pack of pointers: the last run's where they are the same. */
static int pack(b2_dnn *d, entry *e, void *const at[POINTERS])
{
    static const int64_t ids[TENSORS] = {B2_DNN_Q, B2_DNN_K, B2_DNN_V, B2_DNN_O, B2_DNN_SCALE, B2_DNN_STATS};
    const int64_t n = e->key.stats ? TENSORS : TENSORS - 1;
    const b2_dnn_api *api = d->api;
    if (e->pack && !memcmp(e->at, at, sizeof e->at)) return 0;
    if (e->pack) api->desc_destroy(e->pack);
    e->pack = NULL;
    memcpy(e->at, at, sizeof e->at);
    int code = api->desc_create(B2_DNN_PACK, &e->pack);
    if (!code) code = api->desc_set(e->pack, B2_DNN_PACK_IDS, B2_DNN_IS_INT64, n, ids);
    if (!code) code = api->desc_set(e->pack, B2_DNN_PACK_POINTERS, B2_DNN_IS_POINTER, n, at);
    if (!code) code = api->desc_set(e->pack, B2_DNN_PACK_WORKSPACE, B2_DNN_IS_POINTER, 1, &at[TENSORS]);
    if (!code) code = api->finalize(e->pack);
    if (!code) return 0;
    if (e->pack) api->desc_destroy(e->pack);
    e->pack = NULL;
    return code;
}

bool b2_dnn_attention(b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws)
{
    b2_dnn *d = fits(a) ? b2_cuda_dnn(q) : NULL;
    if (!d || !ws || !aligned(ctx) || (lse && !aligned(lse)) || !rows_aligned(a->q, a->ldq) ||
        !rows_aligned(a->k, a->ldk) || !rows_aligned(a->v, a->ldv))
        return false;
    const b2_dnn_shape s = {a->batch, a->heads, a->dim, a->tq, a->tk, a->ldq, a->ldk, a->ldv, lse != NULL};
    entry *e = entry_of(d, &s, b2_cuda_recording(q));
    if (!e) return false;
    e->scale = a->scale;
    ws = (char *)ws + (-(uintptr_t)ws & (WORKSPACE_ALIGNED - 1));
    void *const at[POINTERS] = {(void *)a->q, (void *)a->k, (void *)a->v, ctx, &e->scale, lse, ws};
    const bool here = b2_cuda_stream(q) != NULL; /* makes the stream's GPU the current one */
    int code = here ? pack(d, e, at) : -1;
    if (!code) code = d->api->execute(d->handle, e->way.plan, e->pack);
    if (code) {
        char what[64];
        snprintf(what, sizeof what, "cudnnBackendExecute (cuDNN's status %d)", code);
        b2_cuda_launched(q, what, (int)cudaErrorLaunchFailure);
    }
    b2_cuda_by(q, B2_BY_CUDNN);
    return true;
}
