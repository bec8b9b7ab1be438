/* Products by cuBLASLt: its first heuristic result for each shape, kept. All matrices here are rows; the
 * library's are columns, so that every product is asked for turned: C' = B' A'. */
#include "kernels/cuda/cublaslt.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/cuda_queue.h"

enum { WORKSPACE_BYTES = 32 << 20, WORKSPACE_ALIGNED = 256, LEAST_ROWS = 17, ALIGNED = 16 };

/* c [rows, cols] = alpha * a b + beta * c + bias. a: [rows, terms], or turned [terms, rows]; b: [terms,
 * cols], or turned [cols, terms]. */
typedef struct product {
    int type, rows, cols, terms;
    int lda, ldb, ldc;
    int a_turned, b_turned, biased;
} product;
typedef struct operands {
    const void *a, *b;
    float *c;
    const float *bias;
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
    const int32_t ta = p->b_turned, tb = p->a_turned, epilogue = B2_LT_EPILOGUE_BIAS, f32 = B2_LT_R_32F;
    const float *bias = nowhere;
    const uint64_t m = (uint64_t)p->cols, n = (uint64_t)p->rows, k = (uint64_t)p->terms;
    return !api->desc_create(&e->desc, B2_LT_COMPUTE_32F, B2_LT_R_32F) &&
           !api->desc_set(e->desc, B2_LT_TRANSA, &ta, sizeof ta) &&
           !api->desc_set(e->desc, B2_LT_TRANSB, &tb, sizeof tb) &&
           (!p->biased || (!api->desc_set(e->desc, B2_LT_EPILOGUE, &epilogue, sizeof epilogue) &&
                           !api->desc_set(e->desc, B2_LT_BIAS_TYPE, &f32, sizeof f32) &&
                           !api->desc_set(e->desc, B2_LT_BIAS_POINTER, &bias, sizeof bias))) &&
           !api->layout_create(&e->a, p->type, ta ? k : m, ta ? m : k, p->ldb) &&
           !api->layout_create(&e->b, p->type, tb ? n : k, tb ? k : n, p->lda) &&
           !api->layout_create(&e->c, B2_LT_R_32F, m, n, p->ldc);
}

static unsigned bucket_of(const product *p)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001B3u;
    return (unsigned)(h >> 32) % BUCKETS;
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
        describe(b->api, e) &&
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

bool b2_blas_takes(const b2_queue *q, int m, int n, int k)
{
    return b2_cuda_blas(q) && m >= LEAST_ROWS && n > 0 && k > 0 && n % 8 == 0 && k % 8 == 0;
}

size_t b2_blas_ws(int m)
{
    return m >= LEAST_ROWS && b2_cublaslt_open() ? WORKSPACE_BYTES + WORKSPACE_ALIGNED : 0;
}

/* All products of one call, or none. */
static bool run_all(b2_queue *q, const product *p, const operands *o, int n, void *ws)
{
    char *at = (char *)ws + (-(uintptr_t)ws & (WORKSPACE_ALIGNED - 1));
    b2_blas *b = b2_cuda_blas(q);
    const entry *way[3];
    if (b->entries > MOST_ENTRIES) forget_all(b);
    for (int i = 0; i < n; i++) {
        if (!aligned(o[i].a) || !aligned(o[i].b) || !aligned(o[i].c) || (o[i].bias && !aligned(o[i].bias)))
            return false;
        way[i] = entry_of(b, &p[i]);
        if (!way[i]) return false;
    }
    for (int i = 0; i < n; i++) run(q, b, way[i], &o[i], at);
    b2_cuda_by(q, B2_BY_CUBLASLT);
    return true;
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

bool b2_blas_forward(b2_queue *q, b2_dtype type, float *y, int ldy, const void *x, const b2_rows *w, int nw,
                     int m, int k, float alpha, float beta, void *ws)
{
    b2_rows rows[3];
    product p[3];
    operands o[3];
    const int n = join(rows, w, nw, (size_t)k * b2_dtype_size(type));
    if (!b2_blas_takes(q, m, 8, k) || n == 0 || ldy % 4 || !whole_eights(rows, n)) return false;
    for (int i = 0, at = 0; i < n; at += rows[i++].n) {
        p[i] = (product){type_of(type), m, rows[i].n, k, k, k, ldy, 0, 1, rows[i].bias != NULL};
        o[i] = (operands){x, rows[i].w, y + at, rows[i].bias, alpha, beta};
    }
    return run_all(q, p, o, n, ws);
}

bool b2_blas_dx(b2_queue *q, b2_dtype type, float *dx, const void *dy, int ldy, const b2_rows *w, int nw,
                int m, int k, float alpha, float beta, void *ws)
{
    b2_rows rows[3], bare[3];
    product p[3];
    operands o[3];
    for (int i = 0; i < nw; i++) bare[i] = (b2_rows){w[i].w, NULL, w[i].n, NULL};
    const int n = join(rows, bare, nw, (size_t)k * b2_dtype_size(type));
    if (!b2_blas_takes(q, m, 8, k) || n == 0 || ldy % 8 || !whole_eights(rows, n)) return false;
    for (int i = 0, at = 0; i < n; at += rows[i++].n) {
        p[i] = (product){type_of(type), m, k, rows[i].n, ldy, k, k, 0, 0, 0};
        o[i] = (operands){
            (const char *)dy + (size_t)at * b2_dtype_size(type), rows[i].w, dx, NULL, alpha, i ? 1.0f : beta};
    }
    return run_all(q, p, o, n, ws);
}

bool b2_blas_dw(b2_queue *q, b2_dtype type, float *dw, const void *dy, int ldy, const void *x, int m, int n,
                int k, float alpha, void *ws)
{
    const product p = {type_of(type), n, k, m, ldy, k, k, 1, 0, 0};
    const operands o = {dy, x, dw, NULL, alpha, 1.0f};
    if (!b2_blas_takes(q, m, n, k) || ldy % 8) return false;
    return run_all(q, &p, &o, 1, ws);
}
