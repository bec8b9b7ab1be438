/* The CUDA kernels as a tier of the check tool: on a GPU, or on the one that the host plays. */
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/cuda_queue.h"
#include "tests/check/harness.h"

static const b2_cuda_module *module;
static b2_gpu *gpu;
static b2_stream *stream;

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
    module->tables(t);
}

void ck_cuda_queue(b2_queue *q) { q->native = stream; }

const char *ck_cuda_wait(b2_queue *q)
{
    const int code = module->wait(stream);
    if (q->error.code) return q->error.text;
    return code ? module->error(code) : NULL;
}
