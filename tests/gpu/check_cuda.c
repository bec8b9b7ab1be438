/* The CUDA kernels as a tier of the check tool: on a GPU, or on the one that the host plays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cuda_queue.h"
#include "tests/check/harness.h"

static const b2_cuda_module *module;
static b2_gpu *gpu;
static b2_stream *stream;
static b2_event *from, *to;
static void *flush; /* four times the cache */
static size_t flush_bytes;
static char name[64];

static void need(int code, const char *what)
{
    if (!code) return;
    fprintf(stderr, "%s: %s\n", what, module->error(code));
    exit(2);
}

void ck_cuda_tables(b2_kernels t[2])
{
    char text[512] = "";
    module = b2_cuda_module_get();
    if (module->open(0, &gpu, text, sizeof text)) {
        fprintf(stderr, "%s\n", text);
        exit(2);
    }
    need(module->stream_open(gpu, &stream), "a stream");
    module->describe(gpu, text, sizeof text);
    printf("%s\n", text);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(strchr(text, ' ') + 1, ","), strchr(text, ' ') + 1);
    module->tables(t);
}

void ck_cuda_queue(b2_queue *q) { q->native = stream; }

const char *ck_cuda_wait(b2_queue *q)
{
    const int code = module->wait(stream);
    if (q->error.code) return q->error.text;
    return code ? module->error(code) : NULL;
}

/* ---- timing -------------------------------------------------------------------------------------------- */

const char *ck_cuda_name(void) { return name; }
int ck_cuda_sms(void) { return module->multiprocessors(gpu); }

static void *take(size_t bytes)
{
    void *p = module->take(gpu, bytes);
    if (p) return p;
    fprintf(stderr, "no %zu bytes left on the GPU\n", bytes);
    exit(2);
}

static void open_clock(void)
{
    if (flush) return;
    need(module->event_open(gpu, &from), "an event");
    need(module->event_open(gpu, &to), "an event");
    flush_bytes = 4 * module->cache_bytes(gpu);
    flush = take(flush_bytes);
}

static double between(void)
{
    double s;
    need(module->elapsed(from, to, &s), "a timed launch");
    return s;
}

/* While the GPU overwrites its cache, the host hands it all the rest: no gap falls between the events. */
double ck_cuda_single(ck_launch *fn, void *ctx, bool hot)
{
    open_clock();
    need(module->zero(stream, flush, flush_bytes), "flushing the cache");
    if (hot) fn(ctx, 0), fn(ctx, 0);
    need(module->mark(stream, from), "an event");
    fn(ctx, 0);
    need(module->mark(stream, to), "an event");
    return between();
}

/* Behind another replay, which hides what it takes to start one. */
void ck_cuda_graph(ck_launch *fn, void *ctx, int launches, int repeats, double *s)
{
    b2_graph *graph;
    open_clock();
    need(module->record(stream), "recording");
    for (int i = 0; i < launches; i++) fn(ctx, i);
    need(module->recorded(stream, &graph), "a recorded graph");
    for (int i = 0; i < repeats; i++) {
        need(module->replay(stream, graph), "a replay");
        need(module->mark(stream, from), "an event");
        need(module->replay(stream, graph), "a replay");
        need(module->mark(stream, to), "an event");
        s[i] = between() / launches;
    }
    module->forget(graph);
}

const char *ck_cuda_by(int by)
{
    static const char *const names[] = {"own", "cublaslt", "cudnn", NULL};
    return names[by];
}
static unsigned bits(int by) { return by < 0 ? B2_BY_ALL : by ? 1u << (by - 1) : 0; }
void ck_cuda_let(int by)
{
    b2_cuda_allow(stream, bits(by));
    b2_cuda_used(stream);
}
bool ck_cuda_took(int by) { return b2_cuda_used(stream) & bits(by); }

double ck_cuda_copy(size_t bytes)
{
    void *a = take(bytes), *b = take(bytes);
    double best = 0;
    open_clock();
    for (int i = 0; i < 20; i++) {
        need(module->mark(stream, from), "an event");
        need(module->copy(stream, b, a, bytes), "a copy");
        need(module->mark(stream, to), "an event");
        const double s = between();
        if (i == 0 || s < best) best = s;
    }
    module->give(gpu, a);
    module->give(gpu, b);
    return best;
}
