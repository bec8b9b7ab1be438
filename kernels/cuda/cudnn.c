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

/* ---- q, k and v as it takes them ----------------------------------------------------------------------- */

static bool fits(const b2_attn *a)
{
    return a->batch > 0 && a->tq > 1 && a->tk > 0 && a->tk == a->krows && a->dim % 8 == 0 &&
           a->dim <= MOST_DIM && !a->bias && !a->klen && !a->qpos && !a->kvrow && !a->causal &&
           !(a->drop > 0);
}

/* Columns that lie side by side in the same rows become narrow together. */
typedef struct block {
    const float *from;
    int ld, rows, cols;
} block;
typedef struct narrow {
    block list[3];
    int n;
    void *at[3]; /* q, k, v: their first rows of bf16 */
    int ld[3];
} narrow;

static narrow arrange(const b2_attn *a, void *ws)
{
    const float *const from[3] = {a->q, a->k, a->v};
    const int ld[3] = {a->ldq, a->ldk, a->ldv}, width = a->heads * a->dim;
    char *to = ws;
    int block_of[3], first[3];
    narrow r = {.n = 0};
    for (int i = 0; i < 3; i++) {
        const int rows = a->batch * (i ? a->tk : a->tq);
        block *b = r.n ? &r.list[r.n - 1] : NULL;
        if (!b || b->ld != ld[i] || b->rows != rows || from[i] != b->from + b->cols ||
            b->cols + width > b->ld)
            r.list[r.n++] = (block){from[i], ld[i], rows, 0};
        b = &r.list[r.n - 1];
        block_of[i] = r.n - 1;
        first[i] = b->cols;
        b->cols += width;
    }
    for (int j = 0; j < r.n; j++) {
        for (int i = 0; i < 3; i++) {
            if (block_of[i] != j) continue;
            r.at[i] = to + 2 * (size_t)first[i];
            r.ld[i] = r.list[j].cols;
        }
        to += 2 * (size_t)r.list[j].rows * (size_t)r.list[j].cols;
    }
    return r;
}

size_t b2_dnn_attention_ws(const b2_attn *a)
{
    if (!fits(a) || !b2_dnn_version()) return 0;
    return 2 * (size_t)a->batch * (size_t)(a->tq + 2 * a->tk) * (size_t)(a->heads * a->dim) +
           B2_DNN_WORKSPACE + WORKSPACE_ALIGNED;
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

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

static bool aligned(const void *p) { return (uintptr_t)p % B2_DNN_ALIGNED == 0; }

bool b2_dnn_attention(b2_queue *q, void *ctx, float *lse, const b2_attn *a, void *ws)
{
    b2_dnn *d = fits(a) ? b2_cuda_dnn(q) : NULL;
    if (!d || !ws || !aligned(ws) || !aligned(ctx) || (lse && !aligned(lse))) return false;
    const narrow r = arrange(a, ws);
    const b2_dnn_shape s = {a->batch, a->heads, a->dim, a->tq, a->tk, r.ld[0], r.ld[1], r.ld[2], lse != NULL};
    entry *e = entry_of(d, &s, b2_cuda_recording(q));
    if (!e) return false;
    for (int i = 0; i < r.n; i++) {
        const block *b = &r.list[i];
        b2_cuda_round_rows(q, (char *)ws, b->from, b->ld, b->rows, b->cols);
        ws = (char *)ws + 2 * (size_t)b->rows * (size_t)b->cols;
    }
    e->scale = a->scale;
    ws = (char *)ws + (-(uintptr_t)ws & (WORKSPACE_ALIGNED - 1));
    void *const at[POINTERS] = {r.at[0], r.at[1], r.at[2], ctx, &e->scale, lse, ws};
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
