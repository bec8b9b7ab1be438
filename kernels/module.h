/* What the CUDA module gives the library: memory, a stream, the tables. The module is a shared object of
 * its own, opened at run time by device/; nothing in it is linked, so both sides see each other only
 * through this struct. Functions that can fail return 0 or the CUDA runtime's error code, whose words
 * error() has. */
#ifndef B2_KERNELS_MODULE_H
#define B2_KERNELS_MODULE_H
#include "kernels/kernels.h"

typedef struct b2_gpu b2_gpu;       /* an open GPU */
typedef struct b2_stream b2_stream; /* work in order on it; a queue's `native` */
typedef struct b2_graph b2_graph;   /* recorded work */
typedef struct b2_event b2_event;   /* a moment of a stream, by the GPU's clock */

typedef struct b2_cuda_module {
    uint64_t hash;       /* of the interface it was built with: first, so that strangers can be told */
    const char *version; /* the library's */
    const char *built;   /* CUDA release, and what it needs of the driver */
    /* index: among the visible ones. 0, or 1 with the reason in `why`. */
    int (*open)(int index, b2_gpu **out, char *why, size_t room);
    void (*close)(b2_gpu *g);
    void (*describe)(const b2_gpu *g, char *text, size_t room); /* name, architecture, memory, driver */
    int (*multiprocessors)(const b2_gpu *g);
    size_t (*cache_bytes)(const b2_gpu *g); /* of the second level, which all multiprocessors share */
    int (*memory)(b2_gpu *g, size_t *available, size_t *total);
    void *(*take)(b2_gpu *g, size_t bytes); /* zeroed; NULL: there is no more */
    void (*give)(b2_gpu *g, void *p);
    void *(*take_host)(b2_gpu *g, size_t bytes); /* zeroed, pinned: copies from it run beside kernels */
    void (*give_host)(b2_gpu *g, void *p);
    int (*stream_open)(b2_gpu *g, b2_stream **out);
    void (*stream_close)(b2_stream *s);
    /* In order with the stream's kernels. What an upload reads must stay until the next download or wait. */
    int (*upload)(b2_stream *s, void *to, const void *from, size_t bytes);
    int (*download)(b2_stream *s, void *to, const void *from, size_t bytes); /* waits */
    int (*copy)(b2_stream *s, void *to, const void *from, size_t bytes);
    int (*zero)(b2_stream *s, void *p, size_t bytes);
    int (*wait)(b2_stream *s);
    /* From record to recorded the stream notes what it is given instead of running it (downloads do not
     * wait). */
    int (*record)(b2_stream *s);
    int (*recorded)(b2_stream *s, b2_graph **out);
    int (*replay)(b2_stream *s, b2_graph *g);
    void (*forget)(b2_graph *g);
    /* For timing. mark: the event is when all that the stream was given before is done; marked again, it
     * moves. elapsed waits for `to`; both must have been marked. */
    int (*event_open)(b2_gpu *g, b2_event **out);
    void (*event_close)(b2_event *e);
    int (*mark)(b2_stream *s, b2_event *e);
    int (*elapsed)(b2_event *from, b2_event *to, double *seconds);
    const char *(*error)(int code);
    void (*tables)(b2_kernels t[2]);
} b2_cuda_module;

/* The module's one symbol. */
#define B2_CUDA_MODULE_SYMBOL "b2_cuda_module_get"
const b2_cuda_module *b2_cuda_module_get(void);

/* FNV-1a over the names and arguments of all kernels and the sizes of what both sides touch. */
static inline uint64_t b2_module_hash(void)
{
    static const char *const list[] = {
#define KERNEL(name, args)    #name #args,
#define WORKSPACE(name, args) #name #args,
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
    };
    const size_t sizes[] = {sizeof(b2_queue), sizeof(b2_step),    sizeof(b2_attn),       sizeof(b2_rows),
                            sizeof(b2_lora),  sizeof(b2_kernels), sizeof(b2_cuda_module)};
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        for (const char *c = list[i]; *c; c++) h = (h ^ (unsigned char)*c) * 0x100000001B3u;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) h = (h ^ sizes[i]) * 0x100000001B3u;
    return h;
}
#endif
