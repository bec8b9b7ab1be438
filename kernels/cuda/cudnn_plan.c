/* Building the graph of one attention, and asking for an engine. */
#include "kernels/cuda/cudnn_plan.h"
#include <string.h>

enum { MOST_CONFIGS = 8 };

/* What is being made; after the first failure nothing more happens. */
typedef struct maker {
    const b2_dnn_api *api;
    b2_dnn_plan *p;
} maker;

static void note(maker *m, int code, const char *what)
{
    if (!code || m->p->failed) return;
    m->p->failed = what;
    m->p->code = code;
}

static void *make(maker *m, int type, const char *what)
{
    void *desc = NULL;
    if (m->p->failed) return NULL;
    if (m->p->n == B2_DNN_DESCRIPTORS)
        note(m, -1, "descriptors: too many");
    else
        note(m, m->api->desc_create(type, &desc), what);
    if (m->p->failed) return NULL;
    return m->p->made[m->p->n++] = desc;
}

static void set(maker *m, void *desc, int attribute, int type, int64_t n, const void *values,
                const char *what)
{
    if (!m->p->failed) note(m, m->api->desc_set(desc, attribute, type, n, values), what);
}

static void set_desc(maker *m, void *desc, int attribute, void *value, const char *what)
{
    set(m, desc, attribute, B2_DNN_IS_DESCRIPTOR, 1, &value, what);
}

static void finish(maker *m, void *desc, const char *what)
{
    if (!m->p->failed) note(m, m->api->finalize(desc), what);
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static void *tensor(maker *m, int64_t id, int type, const int64_t dims[4], const int64_t strides[4],
                    const char *what)
{
    const int64_t align = B2_DNN_ALIGNED;
    const bool by_value = id == B2_DNN_SCALE;
    void *t = make(m, B2_DNN_TENSOR, what);
    set(m, t, B2_DNN_TENSOR_ID, B2_DNN_IS_INT64, 1, &id, what);
    set(m, t, B2_DNN_TENSOR_TYPE, B2_DNN_IS_DATA_TYPE, 1, &type, what);
    set(m, t, B2_DNN_TENSOR_DIMS, B2_DNN_IS_INT64, 4, dims, what);
    set(m, t, B2_DNN_TENSOR_STRIDES, B2_DNN_IS_INT64, 4, strides, what);
    set(m, t, B2_DNN_TENSOR_ALIGNMENT, B2_DNN_IS_INT64, 1, &align, what);
    if (by_value) set(m, t, B2_DNN_TENSOR_BY_VALUE, B2_DNN_IS_BOOLEAN, 1, &by_value, what);
    finish(m, t, what);
    return t;
}

/* [batch, heads, rows, dim] in rows of ld. */
static void *rows(maker *m, int64_t id, const b2_dnn_shape *s, int64_t n, int64_t ld, const char *what)
{
    const int64_t dims[4] = {s->batch, s->heads, n, s->dim}, strides[4] = {n * ld, s->dim, ld, 1};
    return tensor(m, id, B2_DNN_BF16, dims, strides, what);
}

static void *operation(maker *m, const b2_dnn_shape *s)
{
    static const int64_t one[4] = {1, 1, 1, 1};
    const int64_t dims[4] = {s->batch, s->heads, s->tq, 1}, strides[4] = {s->heads * s->tq, s->tq, 1, 1};
    void *q = rows(m, B2_DNN_Q, s, s->tq, s->ldq, "tensor Q"),
         *k = rows(m, B2_DNN_K, s, s->tk, s->ldk, "tensor K"),
         *v = rows(m, B2_DNN_V, s, s->tk, s->ldv, "tensor V"),
         *o = rows(m, B2_DNN_O, s, s->tq, s->heads * s->dim, "tensor O"),
         *scale = tensor(m, B2_DNN_SCALE, B2_DNN_F32, one, one, "tensor Scale"),
         *stats = s->stats ? tensor(m, B2_DNN_STATS, B2_DNN_F32, dims, strides, "tensor Stats") : NULL;
    static const char what[] = "operation";
    void *op = make(m, B2_DNN_SDPA, what);
    set_desc(m, op, B2_DNN_SDPA_Q, q, what);
    set_desc(m, op, B2_DNN_SDPA_K, k, what);
    set_desc(m, op, B2_DNN_SDPA_V, v, what);
    set_desc(m, op, B2_DNN_SDPA_O, o, what);
    set_desc(m, op, B2_DNN_SDPA_SCALE, scale, what);
    if (stats) set_desc(m, op, B2_DNN_SDPA_STATS, stats, what);
    finish(m, op, what);
    return op;
}

/* ---- engines ------------------------------------------------------------------------------------------- */

/* The heuristics' choices, best first; their number. */
static int64_t configs(maker *m, void *graph, void *device, void *list[MOST_CONFIGS])
{
    static const char what[] = "heuristics";
    const int mode = B2_DNN_HEUR_A;
    int64_t n = 0;
    void *heur = make(m, B2_DNN_HEUR, what);
    set_desc(m, heur, B2_DNN_HEUR_GRAPH, graph, what);
    set(m, heur, B2_DNN_HEUR_MODE, B2_DNN_IS_HEUR_MODE, 1, &mode, what);
    if (device) set_desc(m, heur, B2_DNN_HEUR_DEVICE, device, what);
    finish(m, heur, what);
    for (int i = 0; i < MOST_CONFIGS; i++) list[i] = make(m, B2_DNN_CONFIG, what);
    if (m->p->failed) return 0;
    note(m, m->api->desc_get(heur, B2_DNN_HEUR_RESULTS, B2_DNN_IS_DESCRIPTOR, MOST_CONFIGS, &n, list),
         "the heuristics' results");
    if (!m->p->failed && n == 0) note(m, -1, "no engine takes it");
    return m->p->failed ? 0 : n < MOST_CONFIGS ? n : MOST_CONFIGS;
}

/* A plan by this choice, with what it wants; NULL: no. */
static void *plan_by(maker *m, void *config, void *handle, void *device, size_t most)
{
    static const char what[] = "plan";
    int64_t bytes = 0, n = 0;
    void *plan = make(m, B2_DNN_PLAN, what);
    if (handle) set(m, plan, B2_DNN_PLAN_HANDLE, B2_DNN_IS_HANDLE, 1, &handle, what);
    if (device) set_desc(m, plan, B2_DNN_PLAN_DEVICE, device, what);
    set_desc(m, plan, B2_DNN_PLAN_CONFIG, config, what);
    finish(m, plan, what);
    if (m->p->failed) return NULL;
    note(m, m->api->desc_get(plan, B2_DNN_PLAN_WORKSPACE, B2_DNN_IS_INT64, 1, &n, &bytes), "its workspace");
    if (!m->p->failed && (n != 1 || bytes < 0 || (size_t)bytes > most)) note(m, -1, "too large a workspace");
    m->p->workspace = (size_t)bytes;
    return m->p->failed ? NULL : plan;
}

void b2_dnn_plan_make(const b2_dnn_api *api, b2_dnn_plan *p, const b2_dnn_shape *s, void *handle,
                      void *device, size_t most)
{
    maker m = {api, p};
    void *list[MOST_CONFIGS];
    memset(p, 0, sizeof *p);
    void *op = operation(&m, s), *graph = make(&m, B2_DNN_GRAPH, "graph");
    if (handle) set(&m, graph, B2_DNN_GRAPH_HANDLE, B2_DNN_IS_HANDLE, 1, &handle, "graph");
    set_desc(&m, graph, B2_DNN_GRAPH_OPS, op, "graph");
    finish(&m, graph, "graph");
    const int64_t n = configs(&m, graph, device, list);
    const int kept = p->n;
    for (int64_t i = 0; i < n && !p->plan; i++) {
        if (p->n > kept) api->desc_destroy(p->made[--p->n]); /* of the choice before, which failed */
        p->failed = NULL;
        p->plan = plan_by(&m, list[i], handle, device, most);
    }
    if (!p->plan) b2_dnn_plan_free(api, p);
}

void b2_dnn_plan_free(const b2_dnn_api *api, b2_dnn_plan *p)
{
    while (p->n > 0) api->desc_destroy(p->made[--p->n]);
    p->plan = NULL;
}
