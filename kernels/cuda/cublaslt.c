/* Products by cuBLASLt: its first heuristic result for each shape, kept. All matrices here are rows; the
 * library's are columns, so that every product is asked for turned: C' = B' A'. */
#include "kernels/cuda/cublaslt.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/round_rows.h"

enum { WORKSPACE_BYTES = 32 << 20, WORKSPACE_ALIGNED = 256, LEAST_ROWS = 17, ALIGNED = 16 };

/* c [rows, cols] = alpha * a b + beta * c + bias. a: [rows, terms], or turned [terms, rows]; b: [terms,
 * cols], or turned [cols, terms]. type: of a and b; out: of c and the bias. */
typedef struct product {
    int type, out, rows, cols, terms;
    int lda, ldb, ldc;
    int a_turned, b_turned, biased;
} product;
typedef struct operands {
    const void *a, *b;
    void *c;
    const void *bias;
    float alpha, beta;
} operands;

/* What a product has been decided to be done with. */
typedef struct entry {
    product key;
    void *desc, *a, *b, *c; /* the library's A is b, its B is a */
    b2_lt_algo algo;
    bool usable;
    struct entry *next;
} entry;

enum { BUCKETS = 64, MOST_ENTRIES = 2048 }; /* more shapes than that: begin again */
struct b2_blas {
    const b2_lt_api *api;
    void *handle, *preference;
    entry *known[BUCKETS];
    int entries;
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static bool prefer(const b2_blas *b)
{
    const size_t bytes = WORKSPACE_BYTES;
    const uint32_t align = ALIGNED;
    bool ok = !b->api->preference_set(b->preference, B2_LT_MAX_WORKSPACE, &bytes, sizeof bytes);
    for (int i = B2_LT_ALIGNMENT_A; i <= B2_LT_ALIGNMENT_D; i++)
        ok = ok && !b->api->preference_set(b->preference, i, &align, sizeof align);
    return ok;
}

b2_blas *b2_blas_open(void)
{
    const b2_lt_api *api = b2_cublaslt_open();
    b2_blas *b = api ? calloc(1, sizeof *b) : NULL;
    if (!b) return NULL;
    b->api = api;
    if (!api->create(&b->handle) && !api->preference_create(&b->preference) && prefer(b)) return b;
    b2_blas_close(b);
    return NULL;
}

static void entry_free(const b2_lt_api *api, entry *e)
{
    if (e->desc) api->desc_destroy(e->desc);
    if (e->a) api->layout_destroy(e->a);
    if (e->b) api->layout_destroy(e->b);
    if (e->c) api->layout_destroy(e->c);
    free(e);
}

/* Recorded products need none of them. */
static void forget_all(b2_blas *b)
{
    for (int i = 0; i < BUCKETS; i++)
        while (b->known[i]) {
            entry *e = b->known[i];
            b->known[i] = e->next;
            entry_free(b->api, e);
        }
    b->entries = 0;
}

void b2_blas_close(b2_blas *b)
{
    if (!b) return;
    forget_all(b);
    if (b->preference) b->api->preference_destroy(b->preference);
    if (b->handle) b->api->destroy(b->handle);
    free(b);
}

size_t b2_blas_version(const b2_blas *b) { return b->api->version(); }

/* ---- choosing ------------------------------------------------------------------------------------------ */

static bool describe(const b2_lt_api *api, entry *e)
{
    static const _Alignas(ALIGNED) float nowhere[4] = {0}; /* only its alignment is looked at */
    const product *p = &e->key;
    const int32_t ta = p->b_turned, tb = p->a_turned, epilogue = B2_LT_EPILOGUE_BIAS, out = p->out;
    const void *bias = nowhere;
    const uint64_t m = (uint64_t)p->cols, n = (uint64_t)p->rows, k = (uint64_t)p->terms;
    return !api->desc_create(&e->desc, B2_LT_COMPUTE_32F, B2_LT_R_32F) &&
           !api->desc_set(e->desc, B2_LT_TRANSA, &ta, sizeof ta) &&
           !api->desc_set(e->desc, B2_LT_TRANSB, &tb, sizeof tb) &&
           (!p->biased || (!api->desc_set(e->desc, B2_LT_EPILOGUE, &epilogue, sizeof epilogue) &&
                           !api->desc_set(e->desc, B2_LT_BIAS_TYPE, &out, sizeof out) &&
                           !api->desc_set(e->desc, B2_LT_BIAS_POINTER, &bias, sizeof bias))) &&
           !api->layout_create(&e->a, p->type, ta ? k : m, ta ? m : k, p->ldb) &&
           !api->layout_create(&e->b, p->type, tb ? n : k, tb ? k : n, p->lda) &&
           !api->layout_create(&e->c, p->out, m, n, p->ldc);
}

static unsigned bucket_of(const product *p)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001B3u;
    return (unsigned)(h >> 32) % BUCKETS;
}

/* Parts of a sum are added in f32, and rounded once. */
static bool limit_reductions(const b2_blas *b, int out)
{
    const uint32_t mask = out == B2_LT_R_32F ? B2_LT_REDUCE_ANY : B2_LT_REDUCE_COMPUTE;
    return !b->api->preference_set(b->preference, B2_LT_REDUCTIONS, &mask, sizeof mask);
}

/* The way for this product, decided when it is first asked for; NULL: there is none. */
static const entry *entry_of(b2_blas *b, const product *p)
{
    entry **list = &b->known[bucket_of(p)];
    for (entry *e = *list; e; e = e->next)
        if (!memcmp(&e->key, p, sizeof *p)) return e->usable ? e : NULL;
    entry *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    b2_lt_choice choice = {.state = 1};
    int found = 0;
    e->key = *p;
    e->usable =
        describe(b->api, e) && limit_reductions(b, p->out) &&
        !b->api->heuristic(b->handle, e->desc, e->a, e->b, e->c, e->c, b->preference, 1, &choice, &found) &&
        found > 0 && choice.state == 0 && choice.workspace <= WORKSPACE_BYTES;
    e->algo = choice.algo;
    e->next = *list;
    *list = e;
    b->entries++;
    return e->usable ? e : NULL;
}

static bool aligned(const void *p) { return (uintptr_t)p % ALIGNED == 0; }

static void run(b2_queue *q, b2_blas *b, const entry *e, const operands *o, void *ws)
{
    const b2_lt_api *api = b->api;
    int code = o->bias ? api->desc_set(e->desc, B2_LT_BIAS_POINTER, &o->bias, sizeof o->bias) : 0;
    if (!code)
        code = api->matmul(b->handle, e->desc, &o->alpha, o->b, e->a, o->a, e->b, &o->beta, o->c, e->c, o->c,
                           e->c, &e->algo, ws, WORKSPACE_BYTES, b2_cuda_stream(q));
    if (code) b2_cuda_launched(q, "cublasLtMatmul", (int)cudaErrorLaunchFailure);
}

static bool takes(const b2_queue *q, int m, int n, int k)
{
    return b2_cuda_blas(q) && m >= LEAST_ROWS && n > 0 && k > 0 && n % 8 == 0 && k % 8 == 0;
}

static size_t room_of(int m)
{
    return m >= LEAST_ROWS && b2_cublaslt_open() ? WORKSPACE_BYTES + WORKSPACE_ALIGNED : 0;
}

/* Ways for all products of one call, or none. */
static bool find_ways(b2_blas *b, const entry **way, const product *p, const operands *o, int n)
{
    if (b->entries > MOST_ENTRIES) forget_all(b);
    for (int i = 0; i < n; i++) {
        if (!aligned(o[i].a) || !aligned(o[i].b) || !aligned(o[i].c) || (o[i].bias && !aligned(o[i].bias)))
            return false;
        way[i] = entry_of(b, &p[i]);
        if (!way[i]) return false;
    }
    return true;
}

static void *aligned_room(void *ws) { return (char *)ws + (-(uintptr_t)ws & (WORKSPACE_ALIGNED - 1)); }

static void run_ways(b2_queue *q, const entry *const *way, const operands *o, int n, void *ws)
{
    for (int i = 0; i < n; i++) run(q, b2_cuda_blas(q), way[i], &o[i], aligned_room(ws));
    b2_cuda_by(q, B2_BY_CUBLASLT);
}

/* ---- the three products -------------------------------------------------------------------------------- */

static int type_of(b2_dtype t) { return t == B2_BF16 ? B2_LT_R_16BF : B2_LT_R_32F; }

/* Blocks that follow each other in memory, and have no biases that do not, are one. */
static int join(b2_rows *to, const b2_rows *w, int nw, size_t row_bytes)
{
    int n = 0;
    for (int i = 0; i < nw; i++) {
        b2_rows *last = n ? &to[n - 1] : NULL;
        if (!w[i].n) continue;
        if (last && !last->bias && !w[i].bias &&
            (const char *)last->w + (size_t)last->n * row_bytes == w[i].w)
            last->n += w[i].n;
        else
            to[n++] = w[i];
    }
    return n;
}

static bool whole_eights(const b2_rows *w, int n)
{
    for (int i = 0; i < n; i++)
        if (w[i].n % 8) return false;
    return true;
}

/* What is made narrow, biases or dy, lies behind what an algorithm works in. */
static char *narrow_room(void *ws) { return (char *)aligned_room(ws) + WORKSPACE_BYTES; }
size_t b2_blas_forward_ws(int m, int n)
{
    const size_t library = room_of(m);
    return library ? library + (size_t)n * b2_dtype_size(B2_BF16) : 0;
}
size_t b2_blas_backward_ws(int m, int n)
{
    const size_t library = room_of(m);
    return library ? library + (size_t)m * (size_t)n * b2_dtype_size(B2_BF16) : 0;
}

/* Are rows whole units of alignment apart? */
static bool apart(int ld, b2_dtype type) { return (size_t)ld * b2_dtype_size(type) % ALIGNED == 0; }

bool b2_blas_forward(b2_queue *q, b2_dtype type, b2_out y, const void *x, const b2_rows *w, int nw, int m,
                     int k, float alpha, float beta, void *ws)
{
    b2_rows rows[3];
    product p[3] = {0};
    operands o[3];
    const entry *way[3];
    const size_t size = b2_dtype_size(y.type);
    const int n = join(rows, w, nw, (size_t)k * b2_dtype_size(type));
    bool narrow = false;
    if (!takes(q, m, 8, k) || n == 0 || !apart(y.ld, y.type) || !whole_eights(rows, n)) return false;
    for (int i = 0, at = 0; i < n; at += rows[i++].n) {
        const void *bias = rows[i].bias;
        if (bias && y.type == B2_BF16) {
            bias = narrow_room(ws) + (size_t)at * size;
            narrow = true;
        }
        p[i] = (product){type_of(type), type_of(y.type), m, rows[i].n, k, k, k, y.ld, 0, 1, bias != NULL};
        o[i] = (operands){x, rows[i].w, (char *)y.p + (size_t)at * size, bias, alpha, beta};
    }
    if (!find_ways(b2_cuda_blas(q), way, p, o, n)) return false;
    if (narrow) b2_cuda_round_biases(q, narrow_room(ws), rows, n);
    run_ways(q, way, o, n, ws);
    return true;
}

/* dy [m, n] as operands of that type: where it lies, or where it will be rounded to. */
static b2_in operand(b2_in dy, b2_dtype type, int n, void *ws)
{
    return dy.type == type ? dy : (b2_in){narrow_room(ws), n, type};
}

/* Runs them, d's the operand that dy is made. */
static bool run_backward(b2_queue *q, const product *p, const operands *o, int count, b2_in d, b2_in dy,
                         int m, int n, void *ws)
{
    const entry *way[3];
    if (!find_ways(b2_cuda_blas(q), way, p, o, count)) return false;
    if (d.type != dy.type) b2_cuda_round_rows(q, narrow_room(ws), dy.p, dy.ld, m, n);
    run_ways(q, way, o, count, ws);
    return true;
}

bool b2_blas_dx(b2_queue *q, b2_dtype type, b2_out dx, b2_in dy, const b2_rows *w, int nw, int m, int k,
                float alpha, float beta, void *ws)
{
    b2_rows rows[3], bare[3];
    product p[3];
    operands o[3];
    int all = 0;
    for (int i = 0; i < nw; all += w[i++].n) bare[i] = (b2_rows){w[i].w, NULL, w[i].n, NULL};
    const int n = join(rows, bare, nw, (size_t)k * b2_dtype_size(type));
    if (!takes(q, m, 8, k) || n == 0 || !apart(dx.ld, dx.type) || !whole_eights(rows, n)) return false;
    if (n > 1 && dx.type != B2_F32) return false; /* sums of several products are f32 */
    const b2_in d = operand(dy, type, all, ws);
    if (!apart(d.ld, type)) return false;
    for (int i = 0, at = 0; i < n; at += rows[i++].n) {
        p[i] = (product){type_of(type), type_of(dx.type), m, k, rows[i].n, d.ld, k, dx.ld, 0, 0, 0};
        o[i] = (operands){(const char *)d.p + (size_t)at * b2_dtype_size(type),
                          rows[i].w,
                          dx.p,
                          NULL,
                          alpha,
                          i ? 1.0f : beta};
    }
    return run_backward(q, p, o, n, d, dy, m, all, ws);
}

bool b2_blas_dw(b2_queue *q, b2_dtype type, float *dw, b2_in dy, const void *x, int m, int n, int k,
                float alpha, void *ws)
{
    if (!takes(q, m, n, k)) return false;
    const b2_in d = operand(dy, type, n, ws);
    const product p = {type_of(type), B2_LT_R_32F, n, k, m, d.ld, k, k, 1, 0, 0};
    const operands o = {d.p, x, dw, NULL, alpha, 1.0f};
    return apart(d.ld, type) && run_backward(q, &p, &o, 1, d, dy, m, n, ws);
}
