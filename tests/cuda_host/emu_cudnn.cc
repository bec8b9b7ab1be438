/* cuDNN on the host (EMU_CUDNN=1, or 2: operands must be the GPU's; else there is none; EMU_CUDNN_VERSION
 * instead of 91900): the one operation that the module asks for, by plain loops, as strict about descriptors,
 * sizes, strides, alignments and sides as the real one, or stricter. In the place of cudnn_load.c. */
#include "kernels/cuda/cudnn_api.h"
#include "tests/cuda_host/include/cuda_runtime_api.h"
#include "tests/cuda_host/emu.h"
#include <map>
#include <vector>

extern "C" void emu_memory_open();
extern "C" void emu_memory_close();
size_t emu_gpu_room(const void *p); /* bytes of the GPU's from p on */
bool emu_recording();
extern long emu_attentions;

namespace
{
enum { BAD_PARAM = 2000, UNSUPPORTED = 3000 };
enum { WORKSPACE = 4096 }; /* wanted by every plan, so that it is handed over */

/* A descriptor: its attributes as they were set, each with its type. */
struct value {
    int type;
    int64_t n;
    std::vector<char> bytes;
};
struct desc {
    int type;
    bool finished;
    std::map<int, value> set;
};
struct handle {
    void *stream;
};
int handles, descs;

int setting(const char *name, int otherwise)
{
    const char *v = getenv(name);
    return v ? atoi(v) : otherwise;
}
void need(bool ok, const char *what)
{
    if (!ok) emu_fail(EMU_ERROR, "cuDNN: %s", what);
}

size_t version() { return (size_t)setting("EMU_CUDNN_VERSION", 91900); }
int create(void **h)
{
    need(!emu_recording(), "a handle is made while a graph is recorded");
    *h = new handle{nullptr};
    handles++;
    return 0;
}
int destroy(void *h)
{
    delete (handle *)h;
    need(--handles > 0 || descs == 0, "descriptors outlive the last handle");
    return 0;
}
int set_stream(void *h, void *stream)
{
    ((handle *)h)->stream = stream;
    return 0;
}

/* ---- descriptors --------------------------------------------------------------------------------------- */

int desc_create(int type, void **out)
{
    static const int known[] = {B2_DNN_CONFIG, B2_DNN_HEUR,   B2_DNN_PLAN, B2_DNN_GRAPH,
                                B2_DNN_PACK,   B2_DNN_TENSOR, B2_DNN_SDPA};
    for (int k : known) {
        if (k != type) continue;
        *out = new desc{type, false, {}};
        descs++;
        return 0;
    }
    return BAD_PARAM;
}
int desc_destroy(void *d)
{
    delete (desc *)d;
    descs--;
    return 0;
}

struct rule {
    int owner, attribute, type;
    int64_t least, most; /* values */
};
const rule rules[] = {
    {B2_DNN_TENSOR, B2_DNN_TENSOR_ID, B2_DNN_IS_INT64, 1, 1},
    {B2_DNN_TENSOR, B2_DNN_TENSOR_TYPE, B2_DNN_IS_DATA_TYPE, 1, 1},
    {B2_DNN_TENSOR, B2_DNN_TENSOR_DIMS, B2_DNN_IS_INT64, 4, 4},
    {B2_DNN_TENSOR, B2_DNN_TENSOR_STRIDES, B2_DNN_IS_INT64, 4, 4},
    {B2_DNN_TENSOR, B2_DNN_TENSOR_ALIGNMENT, B2_DNN_IS_INT64, 1, 1},
    {B2_DNN_TENSOR, B2_DNN_TENSOR_BY_VALUE, B2_DNN_IS_BOOLEAN, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_Q, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_K, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_V, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_O, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_STATS, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_SDPA, B2_DNN_SDPA_SCALE, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_GRAPH, B2_DNN_GRAPH_HANDLE, B2_DNN_IS_HANDLE, 1, 1},
    {B2_DNN_GRAPH, B2_DNN_GRAPH_OPS, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_HEUR, B2_DNN_HEUR_GRAPH, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_HEUR, B2_DNN_HEUR_MODE, B2_DNN_IS_HEUR_MODE, 1, 1},
    {B2_DNN_PLAN, B2_DNN_PLAN_HANDLE, B2_DNN_IS_HANDLE, 1, 1},
    {B2_DNN_PLAN, B2_DNN_PLAN_CONFIG, B2_DNN_IS_DESCRIPTOR, 1, 1},
    {B2_DNN_PACK, B2_DNN_PACK_IDS, B2_DNN_IS_INT64, 5, 6},
    {B2_DNN_PACK, B2_DNN_PACK_POINTERS, B2_DNN_IS_POINTER, 5, 6},
    {B2_DNN_PACK, B2_DNN_PACK_WORKSPACE, B2_DNN_IS_POINTER, 1, 1},
};
size_t size_of(int type)
{
    return type == B2_DNN_IS_BOOLEAN ? 1 : type == B2_DNN_IS_DATA_TYPE || type == B2_DNN_IS_HEUR_MODE ? 4 : 8;
}

int desc_set(void *at, int attribute, int type, int64_t n, const void *values)
{
    desc *d = (desc *)at;
    need(d && !d->finished, "a finished descriptor, or none, is set");
    for (const rule &r : rules) {
        if (r.owner != d->type || r.attribute != attribute) continue;
        if (r.type != type || n < r.least || n > r.most) return BAD_PARAM;
        const char *p = (const char *)values;
        for (int64_t i = 0; type == B2_DNN_IS_DESCRIPTOR && i < n; i++)
            need((*(desc *const *)values)->finished, "a descriptor that is not finished is used");
        d->set[attribute] = {type, n, std::vector<char>(p, p + (size_t)n * size_of(type))};
        return 0;
    }
    return BAD_PARAM;
}

template <class T> T get(const desc *d, int attribute, int i = 0)
{
    const auto at = d->set.find(attribute);
    T x;
    need(at != d->set.end() && at->second.bytes.size() >= (size_t)(i + 1) * sizeof(T),
         "an attribute is not set");
    memcpy(&x, at->second.bytes.data() + (size_t)i * sizeof(T), sizeof x);
    return x;
}
bool has(const desc *d, int attribute) { return d->set.count(attribute) != 0; }
const desc *part(const desc *d, int attribute) { return get<const desc *>(d, attribute); }
int64_t dim(const desc *t, int i) { return get<int64_t>(t, B2_DNN_TENSOR_DIMS, i); }
int64_t stride(const desc *t, int i) { return get<int64_t>(t, B2_DNN_TENSOR_STRIDES, i); }
int64_t id_of(const desc *t) { return get<int64_t>(t, B2_DNN_TENSOR_ID); }
int type_of(const desc *t) { return get<int>(t, B2_DNN_TENSOR_TYPE); }
bool by_value(const desc *t)
{
    return has(t, B2_DNN_TENSOR_BY_VALUE) && get<bool>(t, B2_DNN_TENSOR_BY_VALUE);
}

/* ---- finishing ----------------------------------------------------------------------------------------- */

bool tensor_is(const desc *t, int type, int64_t b, int64_t h, int64_t s, int64_t d)
{
    return t->type == B2_DNN_TENSOR && type_of(t) == type && dim(t, 0) == b && dim(t, 1) == h &&
           dim(t, 2) == s && dim(t, 3) == d;
}
/* Rows of bf16 in whole 16 bytes, columns side by side, heads within a row, rows within an item. */
bool rows_fit(const desc *t)
{
    return stride(t, 3) == 1 && stride(t, 0) % 8 == 0 && stride(t, 1) % 8 == 0 && stride(t, 2) % 8 == 0 &&
           stride(t, 1) >= dim(t, 3) && stride(t, 2) >= stride(t, 1) * (dim(t, 1) - 1) + dim(t, 3) &&
           stride(t, 0) >= stride(t, 2) * (dim(t, 2) - 1) && get<int64_t>(t, B2_DNN_TENSOR_ALIGNMENT) == 16 &&
           !by_value(t);
}
bool stats_fit(const desc *t, const desc *q)
{
    return tensor_is(t, B2_DNN_F32, dim(q, 0), dim(q, 1), dim(q, 2), 1) && stride(t, 2) == 1 &&
           stride(t, 1) == dim(q, 2) && stride(t, 0) == dim(q, 1) * dim(q, 2) && !by_value(t);
}
bool operation_fits(const desc *op)
{
    const desc *q = part(op, B2_DNN_SDPA_Q), *k = part(op, B2_DNN_SDPA_K), *v = part(op, B2_DNN_SDPA_V),
               *o = part(op, B2_DNN_SDPA_O), *scale = part(op, B2_DNN_SDPA_SCALE);
    const int64_t b = dim(q, 0), h = dim(q, 1), d = dim(q, 3);
    return tensor_is(q, B2_DNN_BF16, b, h, dim(q, 2), d) && tensor_is(k, B2_DNN_BF16, b, h, dim(k, 2), d) &&
           tensor_is(v, B2_DNN_BF16, b, h, dim(k, 2), d) && tensor_is(o, B2_DNN_BF16, b, h, dim(q, 2), d) &&
           b > 0 && h > 0 && d > 0 && dim(q, 2) > 0 && dim(k, 2) > 0 && rows_fit(q) && rows_fit(k) &&
           rows_fit(v) && rows_fit(o) && tensor_is(scale, B2_DNN_F32, 1, 1, 1, 1) && by_value(scale) &&
           (!has(op, B2_DNN_SDPA_STATS) || stats_fit(part(op, B2_DNN_SDPA_STATS), q));
}

int finalize(void *at)
{
    desc *d = (desc *)at;
    bool ok = true;
    need(!d->finished, "a descriptor is finished twice");
    switch (d->type) {
    case B2_DNN_TENSOR:
        for (int i = 0; i < 4; i++) ok = ok && dim(d, i) > 0 && stride(d, i) > 0;
        ok = ok && id_of(d) > 0 && type_of(d) >= 0 && get<int64_t>(d, B2_DNN_TENSOR_ALIGNMENT) == 16;
        break;
    case B2_DNN_SDPA: ok = operation_fits(d); break;
    case B2_DNN_GRAPH:
        ok = get<void *>(d, B2_DNN_GRAPH_HANDLE) && part(d, B2_DNN_GRAPH_OPS)->type == B2_DNN_SDPA;
        break;
    case B2_DNN_HEUR:
        ok = part(d, B2_DNN_HEUR_GRAPH)->type == B2_DNN_GRAPH &&
             get<int>(d, B2_DNN_HEUR_MODE) == B2_DNN_HEUR_A;
        break;
    case B2_DNN_PLAN:
        need(!emu_recording(), "a plan is made while a graph is recorded");
        ok = get<void *>(d, B2_DNN_PLAN_HANDLE) && part(d, B2_DNN_PLAN_CONFIG)->type == B2_DNN_CONFIG;
        /* The first of the two choices is one that this GPU cannot run. */
        if (ok && get<int>(part(d, B2_DNN_PLAN_CONFIG), B2_DNN_HEUR_MODE) == 0) return UNSUPPORTED;
        break;
    case B2_DNN_PACK:
        ok = d->set[B2_DNN_PACK_IDS].n == d->set[B2_DNN_PACK_POINTERS].n && has(d, B2_DNN_PACK_WORKSPACE);
        break;
    default: ok = false;
    }
    d->finished = ok;
    return ok ? 0 : BAD_PARAM;
}

/* Of heuristics: two choices, which know their graph; of a plan: its workspace. */
int desc_get(void *at, int attribute, int type, int64_t room, int64_t *n, void *values)
{
    desc *d = (desc *)at;
    need(d->finished, "a descriptor that is not finished is asked");
    if (d->type == B2_DNN_PLAN && attribute == B2_DNN_PLAN_WORKSPACE && type == B2_DNN_IS_INT64 &&
        room == 1) {
        *(int64_t *)values = WORKSPACE;
        *n = 1;
        return 0;
    }
    if (d->type != B2_DNN_HEUR || attribute != B2_DNN_HEUR_RESULTS || type != B2_DNN_IS_DESCRIPTOR)
        return BAD_PARAM;
    const desc *q = part(part(part(d, B2_DNN_HEUR_GRAPH), B2_DNN_GRAPH_OPS), B2_DNN_SDPA_Q);
    *n = dim(q, 3) % 8 || dim(q, 3) > 128 ? 0 : 2;
    for (int i = 0; i < *n && i < room; i++) {
        desc *config = ((desc **)values)[i];
        need(config && config->type == B2_DNN_CONFIG && !config->finished,
             "choices go to descriptors of choices");
        config->finished = true;
        config->set[B2_DNN_HEUR_MODE] = {B2_DNN_IS_HEUR_MODE, 1, std::vector<char>(4, (char)i)};
        config->set[B2_DNN_HEUR_GRAPH] = d->set[B2_DNN_HEUR_GRAPH];
    }
    return 0;
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* A tensor of rows, by item, head, row and column. */
struct view {
    void *p;
    int64_t n[4], ld[4];
    float at(int64_t b, int64_t h, int64_t s, int64_t d) const
    {
        return __bfloat162float(((const __nv_bfloat16 *)p)[b * ld[0] + h * ld[1] + s * ld[2] + d]);
    }
};

struct work : emu_recorded {
    view q, k, v, o;
    float *stats, scale;
    emu_scratch scratch;
    void row(int64_t b, int64_t h, int64_t i)
    {
        std::vector<float> p((size_t)k.n[2]);
        float top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < k.n[2]; j++) {
            float dot = 0;
            for (int64_t d = 0; d < q.n[3]; d++) dot += q.at(b, h, i, d) * k.at(b, h, j, d);
            p[(size_t)j] = scale * dot;
            top = fmaxf(top, p[(size_t)j]);
        }
        for (float &x : p) sum += x = expf(x - top);
        for (int64_t d = 0; d < o.n[3]; d++) {
            float x = 0;
            for (int64_t j = 0; j < k.n[2]; j++) x += p[(size_t)j] * v.at(b, h, j, d);
            ((__nv_bfloat16 *)o.p)[b * o.ld[0] + h * o.ld[1] + i * o.ld[2] + d] =
                __float2bfloat16_rn(x / sum);
        }
        if (stats) stats[(b * q.n[1] + h) * q.n[2] + i] = top + logf(sum);
    }
    void run() override
    {
        emu_memory_open();
        scratch.spoil();
        for (int64_t b = 0; b < q.n[0]; b++)
            for (int64_t h = 0; h < q.n[1]; h++)
                for (int64_t i = 0; i < q.n[2]; i++) row(b, h, i);
        emu_memory_close();
    }
};

void need_on_gpu(const void *p, int64_t bytes)
{
    need(p && (uintptr_t)p % 16 == 0, "an operand is not aligned to 16 bytes");
    need(setting("EMU_CUDNN", 0) < 2 || emu_gpu_room(p) >= (size_t)bytes, "an operand is not the GPU's");
}

void *pointer(const desc *pack, const desc *tensor)
{
    const int64_t n = pack->set.at(B2_DNN_PACK_IDS).n;
    for (int64_t i = 0; i < n; i++) {
        if (get<int64_t>(pack, B2_DNN_PACK_IDS, (int)i) == id_of(tensor))
            return get<void *>(pack, B2_DNN_PACK_POINTERS, (int)i);
    }
    need(false, "a tensor's pointer is missing");
    return nullptr;
}
view look(const desc *pack, const desc *t)
{
    view x = {pointer(pack, t), {}, {}};
    int64_t last = 0;
    for (int i = 0; i < 4; i++) {
        x.n[i] = dim(t, i);
        x.ld[i] = stride(t, i);
        last += (x.n[i] - 1) * x.ld[i];
    }
    need_on_gpu(x.p, 2 * (last + 1));
    return x;
}

int execute(void *h, void *plan_at, void *pack_at)
{
    const desc *plan = (const desc *)plan_at, *pack = (const desc *)pack_at;
    need(h && ((handle *)h)->stream && plan->type == B2_DNN_PLAN && plan->finished &&
             pack->type == B2_DNN_PACK && pack->finished && get<void *>(plan, B2_DNN_PLAN_HANDLE) == h,
         "what a run is asked with");
    const desc *op = part(part(part(plan, B2_DNN_PLAN_CONFIG), B2_DNN_HEUR_GRAPH), B2_DNN_GRAPH_OPS);
    work *w = new work;
    w->q = look(pack, part(op, B2_DNN_SDPA_Q));
    w->k = look(pack, part(op, B2_DNN_SDPA_K));
    w->v = look(pack, part(op, B2_DNN_SDPA_V));
    w->o = look(pack, part(op, B2_DNN_SDPA_O));
    const void *scale = pointer(pack, part(op, B2_DNN_SDPA_SCALE));
    need(scale && emu_gpu_room(scale) == 0, "the scale is not the host's");
    memcpy(&w->scale, scale, 4);
    w->stats = nullptr;
    if (has(op, B2_DNN_SDPA_STATS)) {
        w->stats = (float *)pointer(pack, part(op, B2_DNN_SDPA_STATS));
        need_on_gpu(w->stats, 4 * w->q.n[0] * w->q.n[1] * w->q.n[2]);
    }
    char *scratch = (char *)get<void *>(pack, B2_DNN_PACK_WORKSPACE);
    need((uintptr_t)scratch % 256 == 0, "the workspace is not aligned to 256 bytes");
    need_on_gpu(scratch, WORKSPACE);
    w->scratch = {scratch, WORKSPACE};
    emu_attentions++;
    work now = *w;
    if (emu_note && emu_note(w, ((handle *)h)->stream)) return 0; /* kept; else it is deleted */
    now.run();
    return 0;
}
} // namespace

const b2_dnn_api *b2_cudnn_open(void)
{
    static const b2_dnn_api api = {version,      create,   destroy,  set_stream, desc_create,
                                   desc_destroy, desc_set, desc_get, finalize,   execute};
    return setting("EMU_CUDNN", 0) ? &api : nullptr;
}
