/* cuBLASLt on the host (EMU_CUBLAS=1, or 2: operands must be the GPU's; else there is none): plain loops
 * over columns, as strict about types, sizes, alignments and sides as the real one, or stricter. In the
 * place of cublaslt_load.c. */
#include "kernels/cuda/cublaslt_api.h"
#include "tests/cuda_host/include/cuda_runtime_api.h"
#include "tests/cuda_host/emu.h"
#include <vector>

extern "C" void emu_memory_open();
extern "C" void emu_memory_close();
size_t emu_gpu_room(const void *p); /* bytes of the GPU's from p on */
extern unsigned emu_products;       /* kinds that were asked for: emu_runtime.cc */

namespace
{
struct desc {
    int compute, scale, turned[2], epilogue, bias_type; /* of the bias -1: D's */
    const void *bias;
};
struct layout {
    int type;
    int64_t rows, cols, ld;
};
struct preference {
    size_t workspace;
    uint32_t align[4], reductions;
};
int handles;

int setting()
{
    const char *v = getenv("EMU_CUBLAS");
    return v ? atoi(v) : 0;
}

void need(bool ok, const char *what)
{
    if (!ok) emu_fail(EMU_ERROR, "cuBLASLt: %s", what);
}

size_t version() { return 130100; }
int create(void **h)
{
    *h = &handles;
    handles++;
    return 0;
}
int destroy(void *h)
{
    need(h == &handles && handles > 0, "a handle that is none");
    handles--;
    return 0;
}
int desc_create(void **d, int compute, int scale)
{
    *d = new desc{compute, scale, {0, 0}, 1, -1, nullptr};
    return 0;
}
int desc_set(void *at, int attribute, const void *value, size_t size)
{
    desc *d = (desc *)at;
    need(size == (attribute == B2_LT_BIAS_POINTER ? sizeof(void *) : 4), "the size of an attribute");
    if (attribute == B2_LT_BIAS_POINTER)
        memcpy(&d->bias, value, size);
    else if (attribute == B2_LT_TRANSA || attribute == B2_LT_TRANSB)
        memcpy(&d->turned[attribute - B2_LT_TRANSA], value, size);
    else if (attribute == B2_LT_EPILOGUE)
        memcpy(&d->epilogue, value, size);
    else if (attribute == B2_LT_BIAS_TYPE)
        memcpy(&d->bias_type, value, size);
    else
        return 7; /* CUBLAS_STATUS_INVALID_VALUE */
    return 0;
}
int desc_destroy(void *d)
{
    delete (desc *)d;
    return 0;
}
int layout_create(void **l, int type, uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new layout{type, (int64_t)rows, (int64_t)cols, ld};
    return ld < (int64_t)rows ? 7 : 0;
}
int layout_destroy(void *l)
{
    delete (layout *)l;
    return 0;
}
int preference_create(void **p)
{
    *p = new preference{0, {}, B2_LT_REDUCE_ANY};
    return 0;
}
int preference_set(void *at, int attribute, const void *value, size_t size)
{
    preference *p = (preference *)at;
    if (attribute == B2_LT_MAX_WORKSPACE && size == sizeof p->workspace) {
        memcpy(&p->workspace, value, size);
        return 0;
    }
    if (attribute == B2_LT_REDUCTIONS && size == 4) {
        memcpy(&p->reductions, value, size);
        return 0;
    }
    need(attribute >= B2_LT_ALIGNMENT_A && attribute <= B2_LT_ALIGNMENT_D && size == 4, "a preference");
    memcpy(&p->align[attribute - B2_LT_ALIGNMENT_A], value, size);
    return 0;
}
int preference_destroy(void *p)
{
    delete (preference *)p;
    return 0;
}

int64_t bytes_of(int type) { return type == B2_LT_R_16BF ? 2 : 4; }

bool narrow_or_f32(int type) { return type == B2_LT_R_16BF || type == B2_LT_R_32F; }

/* C and D are f32, or bf16 as A and B are; a bias has D's type. */
bool fits(const desc *d, const layout *a, const layout *b, const layout *c)
{
    const int64_t m = d->turned[0] ? a->cols : a->rows, k = d->turned[0] ? a->rows : a->cols;
    const int64_t n = d->turned[1] ? b->rows : b->cols, k2 = d->turned[1] ? b->cols : b->rows;
    return m == c->rows && n == c->cols && k == k2 && a->type == b->type && narrow_or_f32(a->type) &&
           (c->type == B2_LT_R_32F || c->type == a->type) && d->compute == B2_LT_COMPUTE_32F &&
           d->scale == B2_LT_R_32F &&
           (d->epilogue != B2_LT_EPILOGUE_BIAS || d->bias_type == -1 || d->bias_type == c->type) &&
           a->ld * bytes_of(a->type) % 16 == 0 && b->ld * bytes_of(b->type) % 16 == 0 &&
           c->ld * bytes_of(c->type) % 16 == 0;
}

uint64_t mark(const desc *d, const layout *a, const layout *b, const layout *c)
{
    uint64_t h = 1469598103934665603u;
    for (int64_t x :
         {(int64_t)d->turned[0], (int64_t)d->turned[1], (int64_t)d->epilogue, (int64_t)a->type, a->rows,
          a->cols, a->ld, b->rows, b->cols, b->ld, (int64_t)c->type, c->rows, c->cols, c->ld})
        h = (h ^ (uint64_t)x) * 1099511628211u;
    return h;
}

int heuristic(void *h, void *dd, void *aa, void *bb, void *cc, void *d2, void *pp, int wanted,
              b2_lt_choice *out, int *found)
{
    const desc *d = (const desc *)dd;
    const layout *a = (const layout *)aa, *b = (const layout *)bb, *c = (const layout *)cc;
    const preference *p = (const preference *)pp;
    need(h == &handles && cc == d2 && wanted == 1, "what a heuristic is asked with");
    need(c->type == B2_LT_R_32F || p->reductions == B2_LT_REDUCE_COMPUTE,
         "parts of a sum may be rounded to the result's type");
    *found = 0;
    if (!fits(d, a, b, c)) return 15; /* CUBLAS_STATUS_NOT_SUPPORTED */
    *found = 1;
    out->state = 0;
    out->workspace = p->workspace;
    out->algo.data[0] = mark(d, a, b, c);
    return 0;
}

float load(const void *x, int type, int64_t i)
{
    return type == B2_LT_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)x)[i]) : ((const float *)x)[i];
}
void store(void *x, int type, int64_t i, float v)
{
    if (type == B2_LT_R_16BF)
        ((__nv_bfloat16 *)x)[i] = __float2bfloat16_rn(v);
    else
        ((float *)x)[i] = v;
}
/* Element (r, c) of op(x), a matrix of columns. */
float at(const void *x, const layout *l, bool turned, int64_t r, int64_t c)
{
    return load(x, l->type, turned ? r * l->ld + c : c * l->ld + r);
}

struct work : emu_recorded {
    desc d;
    layout la, lb, lc;
    float alpha, beta;
    const void *a, *b;
    void *c;
    emu_scratch scratch;
    void run() override
    {
        emu_memory_open();
        scratch.spoil();
        const int64_t terms = d.turned[0] ? la.rows : la.cols;
        std::vector<float> left((size_t)(terms * lc.rows));
        for (int64_t r = 0; r < lc.rows; r++)
            for (int64_t k = 0; k < terms; k++) left[(size_t)(r * terms + k)] = at(a, &la, d.turned[0], r, k);
        std::vector<float> column((size_t)terms);
        for (int64_t j = 0; j < lc.cols; j++) {
            for (int64_t k = 0; k < terms; k++) column[(size_t)k] = at(b, &lb, d.turned[1], k, j);
            for (int64_t r = 0; r < lc.rows; r++) {
                const int64_t y = j * lc.ld + r;
                float sum = 0;
                for (int64_t k = 0; k < terms; k++) sum += left[(size_t)(r * terms + k)] * column[(size_t)k];
                store(c, lc.type, y,
                      (beta != 0 ? beta * load(c, lc.type, y) : 0) + alpha * sum +
                          (d.epilogue == B2_LT_EPILOGUE_BIAS ? load(d.bias, lc.type, r) : 0));
            }
        }
        emu_memory_close();
    }
};

void need_on_gpu(const void *p, int64_t bytes)
{
    need((uintptr_t)p % 16 == 0, "an operand is not aligned to 16 bytes");
    need(setting() < 2 || emu_gpu_room(p) >= (size_t)bytes, "an operand is not the GPU's");
}

int matmul(void *h, void *dd, const void *alpha, const void *a, void *aa, const void *b, void *bb,
           const void *beta, const void *c, void *cc, void *out, void *oo, const b2_lt_algo *algo,
           void *workspace, size_t bytes, void *stream)
{
    work *w = new work;
    w->d = *(const desc *)dd;
    w->la = *(const layout *)aa, w->lb = *(const layout *)bb, w->lc = *(const layout *)cc;
    memcpy(&w->alpha, alpha, 4);
    memcpy(&w->beta, beta, 4);
    w->a = a, w->b = b, w->c = out;
    need(h == &handles && stream && c == out && cc == oo, "what a product is asked with");
    need(fits(&w->d, &w->la, &w->lb, &w->lc), "operands do not fit each other");
    need(algo->data[0] == mark(&w->d, &w->la, &w->lb, &w->lc), "an algorithm of another product");
    need_on_gpu(a, w->la.ld * (w->la.cols - 1) * bytes_of(w->la.type) + w->la.rows * bytes_of(w->la.type));
    need_on_gpu(b, w->lb.ld * (w->lb.cols - 1) * bytes_of(w->lb.type) + w->lb.rows * bytes_of(w->lb.type));
    need_on_gpu(out, (w->lc.ld * (w->lc.cols - 1) + w->lc.rows) * bytes_of(w->lc.type));
    need((uintptr_t)workspace % 256 == 0, "the workspace is not aligned to 256 bytes");
    need_on_gpu(workspace, (int64_t)bytes);
    w->scratch = {(char *)workspace, bytes};
    if (w->d.epilogue == B2_LT_EPILOGUE_BIAS) need_on_gpu(w->d.bias, w->lc.rows * bytes_of(w->lc.type));
    emu_products |= 1u << (8 * (w->lc.type == B2_LT_R_16BF) + 4 * (w->la.type == B2_LT_R_32F) +
                           2 * !!w->d.turned[0] + !!w->d.turned[1]);
    work now = *w;
    if (emu_note && emu_note(w, stream)) return 0; /* kept; else it is deleted */
    now.run();
    return 0;
}
} // namespace

const b2_lt_api *b2_cublaslt_open(void)
{
    static const b2_lt_api api = {
        version,       create,         destroy,           desc_create,    desc_set,           desc_destroy,
        layout_create, layout_destroy, preference_create, preference_set, preference_destroy, heuristic,
        matmul};
    return setting() ? &api : nullptr;
}
