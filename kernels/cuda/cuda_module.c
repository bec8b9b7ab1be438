/* The CUDA module's side of kernels/module.h: GPUs, memory and streams through the CUDA runtime. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blip2.h"
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/cuda_queue.h"

#define LEAST_CAPABILITY 80

struct b2_gpu {
    int index, multiprocessors, capability; /* 90: 9.0 */
    size_t cache_bytes;
    char text[256];
};
struct b2_stream {
    b2_gpu *gpu;
    cudaStream_t stream;
    bool recording;
    b2_blas *blas; /* opened when a product first wants it */
    b2_dnn *dnn;   /* likewise */
    bool blas_asked, dnn_asked;
    unsigned allowed, used; /* vendors' libraries: B2_BY_... */
};
struct b2_graph {
    b2_gpu *gpu;
    cudaGraphExec_t exec;
};
struct b2_event {
    b2_gpu *gpu;
    cudaEvent_t event;
};

/* The runtime's idea of "the GPU" belongs to the thread that asks. */
static cudaError_t use(const b2_gpu *g) { return cudaSetDevice(g->index); }

/* ---- opening ------------------------------------------------------------------------------------------- */

/* Why no GPU can be counted: the driver is not there, is too old, or shows none. */
static void say_why(cudaError_t code, char *why, size_t room)
{
    int driver = 0;
    void *so = dlopen("libcuda.so.1", RTLD_LAZY);
    if (so) dlclose(so);
    if (!so)
        snprintf(why, room, "no NVIDIA driver: libcuda.so.1 is not found");
    else if (code == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess)
        snprintf(why, room, "the NVIDIA driver is too old: it runs CUDA %d.%d, this module needs %d.%d",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    else if (code == cudaErrorNoDevice)
        snprintf(why, room, "the driver shows no GPU (none there, or hidden by CUDA_VISIBLE_DEVICES)");
    else
        snprintf(why, room, "%s: %s", cudaGetErrorName(code), cudaGetErrorString(code));
}

/* By whom products and attention are; what cuDNN takes, b2_dnn_attention says. */
static void describe_libraries(const b2_gpu *g, char *text, size_t room)
{
    const b2_lt_api *lt = b2_cublaslt_open();
    const size_t v = lt ? lt->version() : 0, dnn = b2_dnn_version();
    char products[32] = "our own", attention[64] = "our own";
    if (lt) snprintf(products, sizeof products, "cuBLASLt %zu.%zu", v / 10000, v % 10000 / 100);
    if (b2_dnn_wanted() && !dnn)
        snprintf(attention, sizeof attention, "our own (no cuDNN from 9.13 on is found)");
    else if (dnn && g->capability < B2_DNN_LEAST_CAPABILITY)
        snprintf(attention, sizeof attention, "our own (cuDNN from sm_%d on)", B2_DNN_LEAST_CAPABILITY);
    else if (dnn)
        snprintf(attention, sizeof attention, "cuDNN %zu.%zu where nothing is masked", dnn / 10000,
                 dnn % 10000 / 100);
    snprintf(text, room, "products: %s, attention: %s", products, attention);
}

static int look_at(b2_gpu *g, char *why, size_t room)
{
    struct cudaDeviceProp p;
    int driver = 0;
    cudaError_t code = use(g);
    if (code == cudaSuccess) code = cudaGetDeviceProperties(&p, g->index);
    if (code == cudaSuccess) code = cudaDriverGetVersion(&driver);
    if (code != cudaSuccess) {
        say_why(code, why, room);
        return 1;
    }
    if (p.major * 10 + p.minor < LEAST_CAPABILITY) {
        snprintf(why, room, "%s has compute capability %d.%d, at least %d.%d is needed", p.name, p.major,
                 p.minor, LEAST_CAPABILITY / 10, LEAST_CAPABILITY % 10);
        return 1;
    }
    char libraries[120];
    g->multiprocessors = p.multiProcessorCount;
    g->capability = p.major * 10 + p.minor;
    g->cache_bytes = (size_t)p.l2CacheSize;
    describe_libraries(g, libraries, sizeof libraries);
    snprintf(g->text, sizeof g->text, "cuda:%d: %.80s, sm_%d, %.1f GiB, driver for CUDA %d.%d, %s", g->index,
             p.name, g->capability, (double)p.totalGlobalMem / 0x1p30, driver / 1000, driver % 1000 / 10,
             libraries);
    return 0;
}

static int open_gpu(int index, b2_gpu **out, char *why, size_t room)
{
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    *out = NULL;
    if (code != cudaSuccess) {
        say_why(code, why, room);
        return 1;
    }
    if (index >= count) {
        snprintf(why, room, "there %s %d GPU%s, numbered from 0", count == 1 ? "is" : "are", count,
                 count == 1 ? "" : "s");
        return 1;
    }
    b2_gpu *g = calloc(1, sizeof *g);
    if (!g) {
        snprintf(why, room, "out of memory");
        return 1;
    }
    g->index = index;
    if (look_at(g, why, room)) {
        free(g);
        return 1;
    }
    *out = g;
    return 0;
}

static void close_gpu(b2_gpu *g) { free(g); }
static void describe(const b2_gpu *g, char *text, size_t room) { snprintf(text, room, "%s", g->text); }
static int multiprocessors(const b2_gpu *g) { return g->multiprocessors; }
static size_t cache_bytes(const b2_gpu *g) { return g->cache_bytes; }

/* ---- memory -------------------------------------------------------------------------------------------- */

static int memory(b2_gpu *g, size_t *available, size_t *total)
{
    const cudaError_t code = use(g);
    return (int)(code == cudaSuccess ? cudaMemGetInfo(available, total) : code);
}

static void *take(b2_gpu *g, size_t bytes)
{
    void *p = NULL;
    if (use(g) != cudaSuccess || cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); /* or the next launch would seem to have failed */
        return NULL;
    }
    /* The default stream clears it, and no other one would wait for that. */
    if (cudaMemset(p, 0, bytes) == cudaSuccess && cudaStreamSynchronize(NULL) == cudaSuccess) return p;
    cudaFree(p);
    return NULL;
}

static void give(b2_gpu *g, void *p)
{
    if (p && use(g) == cudaSuccess) cudaFree(p);
}

static void *take_host(b2_gpu *g, size_t bytes)
{
    void *p = NULL;
    if (use(g) != cudaSuccess || cudaMallocHost(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    return memset(p, 0, bytes);
}

static void give_host(b2_gpu *g, void *p)
{
    if (p && use(g) == cudaSuccess) cudaFreeHost(p);
}

/* ---- streams ------------------------------------------------------------------------------------------- */

static int stream_open(b2_gpu *g, b2_stream **out)
{
    b2_stream *s = calloc(1, sizeof *s);
    cudaError_t code = s ? use(g) : cudaErrorMemoryAllocation;
    if (code == cudaSuccess) code = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (code != cudaSuccess) {
        free(s);
        return (int)code;
    }
    s->gpu = g;
    s->allowed = B2_BY_ALL;
    *out = s;
    return 0;
}

static void stream_close(b2_stream *s)
{
    if (!s) return;
    if (use(s->gpu) == cudaSuccess) {
        b2_blas_close(s->blas);
        b2_dnn_close(s->dnn);
        cudaStreamDestroy(s->stream);
    }
    free(s);
}

static int move(b2_stream *s, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    const cudaError_t code = use(s->gpu);
    return (int)(code == cudaSuccess ? cudaMemcpyAsync(to, from, bytes, kind, s->stream) : code);
}

static int wait_for(b2_stream *s)
{
    const cudaError_t code = use(s->gpu);
    return (int)(code == cudaSuccess ? cudaStreamSynchronize(s->stream) : code);
}

static int upload(b2_stream *s, void *to, const void *from, size_t bytes)
{
    return move(s, to, from, bytes, cudaMemcpyHostToDevice);
}
static int download(b2_stream *s, void *to, const void *from, size_t bytes)
{
    const int code = move(s, to, from, bytes, cudaMemcpyDeviceToHost);
    return code || s->recording ? code : wait_for(s);
}
static int copy(b2_stream *s, void *to, const void *from, size_t bytes)
{
    return move(s, to, from, bytes, cudaMemcpyDeviceToDevice);
}
static int zero(b2_stream *s, void *p, size_t bytes)
{
    const cudaError_t code = use(s->gpu);
    return (int)(code == cudaSuccess ? cudaMemsetAsync(p, 0, bytes, s->stream) : code);
}

/* ---- graphs -------------------------------------------------------------------------------------------- */

static int record(b2_stream *s)
{
    cudaError_t code = use(s->gpu);
    if (code == cudaSuccess) code = cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal);
    s->recording = code == cudaSuccess;
    return (int)code;
}

static int recorded(b2_stream *s, b2_graph **out)
{
    cudaGraph_t graph = NULL;
    b2_graph *g = calloc(1, sizeof *g);
    cudaError_t code = cudaStreamEndCapture(s->stream, &graph);
    s->recording = false;
    *out = NULL;
    if (code == cudaSuccess && !g) code = cudaErrorMemoryAllocation;
    if (code == cudaSuccess) code = cudaGraphInstantiate(&g->exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (code != cudaSuccess) {
        free(g);
        return (int)code;
    }
    g->gpu = s->gpu;
    *out = g;
    return 0;
}

static int replay(b2_stream *s, b2_graph *g)
{
    const cudaError_t code = use(s->gpu);
    return (int)(code == cudaSuccess ? cudaGraphLaunch(g->exec, s->stream) : code);
}

static void forget(b2_graph *g)
{
    if (use(g->gpu) == cudaSuccess) cudaGraphExecDestroy(g->exec);
    free(g);
}

/* ---- events -------------------------------------------------------------------------------------------- */

static int event_open(b2_gpu *g, b2_event **out)
{
    b2_event *e = calloc(1, sizeof *e);
    cudaError_t code = e ? use(g) : cudaErrorMemoryAllocation;
    *out = NULL;
    if (code == cudaSuccess) code = cudaEventCreate(&e->event);
    if (code != cudaSuccess) {
        free(e);
        return (int)code;
    }
    e->gpu = g;
    *out = e;
    return 0;
}

static void event_close(b2_event *e)
{
    if (!e) return;
    if (use(e->gpu) == cudaSuccess) cudaEventDestroy(e->event);
    free(e);
}

static int mark(b2_stream *s, b2_event *e)
{
    const cudaError_t code = use(s->gpu);
    return (int)(code == cudaSuccess ? cudaEventRecord(e->event, s->stream) : code);
}

static int elapsed(b2_event *from, b2_event *to, double *seconds)
{
    float ms = 0;
    cudaError_t code = use(to->gpu);
    if (code == cudaSuccess) code = cudaEventSynchronize(to->event);
    if (code == cudaSuccess) code = cudaEventElapsedTime(&ms, from->event, to->event);
    *seconds = 1e-3 * (double)ms;
    return (int)code;
}

static const char *error(int code) { return cudaGetErrorString((cudaError_t)code); }

/* ---- the queue as launchers see it --------------------------------------------------------------------- */

void *b2_cuda_stream(const b2_queue *q)
{
    const b2_stream *s = q->native;
    return use(s->gpu) == cudaSuccess ? s->stream : NULL;
}

/* What is recorded has run once before, and asked: then nothing is opened. */
static bool ask_once(b2_stream *s, bool *asked)
{
    if (*asked || s->recording) return false;
    return *asked = true;
}

b2_blas *b2_cuda_blas(const b2_queue *q)
{
    b2_stream *s = q->native;
    if (!(s->allowed & B2_BY_CUBLASLT)) return NULL;
    if (ask_once(s, &s->blas_asked) && use(s->gpu) == cudaSuccess) s->blas = b2_blas_open();
    return s->blas;
}

b2_dnn *b2_cuda_dnn(const b2_queue *q)
{
    b2_stream *s = q->native;
    if (!(s->allowed & B2_BY_CUDNN) || s->gpu->capability < B2_DNN_LEAST_CAPABILITY) return NULL;
    if (ask_once(s, &s->dnn_asked) && use(s->gpu) == cudaSuccess) s->dnn = b2_dnn_open(s->stream);
    return s->dnn;
}

bool b2_cuda_recording(const b2_queue *q) { return ((const b2_stream *)q->native)->recording; }

void b2_cuda_allow(b2_stream *s, unsigned libraries) { s->allowed = libraries; }
void b2_cuda_by(const b2_queue *q, unsigned library) { ((b2_stream *)q->native)->used |= library; }
unsigned b2_cuda_used(b2_stream *s)
{
    const unsigned used = s->used;
    s->used = 0;
    return used;
}

const b2_step *b2_cuda_step(const b2_queue *q) { return q->step; }
int b2_cuda_sms(const b2_queue *q) { return q->threads; }

void b2_cuda_launched(b2_queue *q, const char *kernel, int code)
{
    if (q->error.code != BLIP2_OK) return;
    q->error.code = BLIP2_ERR_DEVICE;
    snprintf(q->error.text, sizeof q->error.text, "%s%s%s: %s", q->where, q->where[0] ? ": " : "", kernel,
             error(code));
}

#define TEXT(x)      #x
#define TEXT2(x)     TEXT(x)
#define VERSION_TEXT TEXT2(BLIP2_VERSION_MAJOR) "." TEXT2(BLIP2_VERSION_MINOR) "." TEXT2(BLIP2_VERSION_PATCH)

__attribute__((visibility("default"))) const b2_cuda_module *b2_cuda_module_get(void)
{
    static b2_cuda_module m = {.version = VERSION_TEXT,
                               .built = "CUDA " TEXT2(CUDART_VERSION),
                               .open = open_gpu,
                               .close = close_gpu,
                               .describe = describe,
                               .multiprocessors = multiprocessors,
                               .cache_bytes = cache_bytes,
                               .memory = memory,
                               .take = take,
                               .give = give,
                               .take_host = take_host,
                               .give_host = give_host,
                               .stream_open = stream_open,
                               .stream_close = stream_close,
                               .upload = upload,
                               .download = download,
                               .copy = copy,
                               .zero = zero,
                               .wait = wait_for,
                               .record = record,
                               .recorded = recorded,
                               .replay = replay,
                               .forget = forget,
                               .event_open = event_open,
                               .event_close = event_close,
                               .mark = mark,
                               .elapsed = elapsed,
                               .error = error,
                               .tables = b2_cuda_tables};
    __atomic_store_n(&m.hash, b2_module_hash(), __ATOMIC_RELAXED);
    return &m;
}
