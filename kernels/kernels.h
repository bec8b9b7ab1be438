/* Kernel tables and the queue. Everything here is generated from kernels.def or read by it. */
#ifndef B2_KERNELS_KERNELS_H
#define B2_KERNELS_KERNELS_H

#include "base/arena.h"
#include "base/pool.h"
#include "kernels/args.h"

struct b2_kernels;
struct blip2_device;
/* A line of work: thread pool (or stream), tables, sticky status. Opened, filled and closed by device/. */
typedef struct b2_queue {
    const struct b2_kernels *k[2]; /* by activation dtype */
    struct blip2_device *device;   /* NULL in tests of kernels: the host */
    b2_pool *pool;
    int threads;       /* what WORKSPACE functions are asked with */
    b2_dtype act;      /* of the model: the table of the gradients' products */
    b2_step *step;     /* where the kernels run */
    bool dry;          /* plan only: nothing launches */
    b2_arena *scratch; /* mark/release; op takes workspaces here */
    blip2_error error; /* the first failure; later ops do nothing */
    void (*trace)(void *user, const char *op, const char *shape, size_t bytes, double seconds);
    void *trace_user;
    char where[48];   /* what the model is doing ("encoder layer 3"), for messages */
    int check_finite; /* 1: every op checks its outputs and records the first bad one (eager replay) */
    void *native;     /* CUDA stream and friends */
    _Atomic int *cancel;
} b2_queue;

typedef struct b2_kernels {
#define KERNEL(name, args)    void(*name) args;
#define WORKSPACE(name, args) size_t(*name) args;
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
} b2_kernels;

/* Prototypes of the reference, once per activation type. */
#define KERNEL(name, args)                                                                                   \
    void b2_ref_f32_##name args;                                                                             \
    void b2_ref_bf16_##name args;
#define WORKSPACE(name, args)                                                                                \
    size_t b2_ref_f32_##name args;                                                                           \
    size_t b2_ref_bf16_##name args;
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE

/* Instruction-set levels, lowest first. */
typedef enum { B2_ISA_REF, B2_ISA_AVX2, B2_ISA_AVX512, B2_ISA_AVX512BF16, B2_ISA_AMX, B2_ISA_COUNT } b2_isa;
const char *b2_isa_name(b2_isa i); /* "ref", "avx2", "avx512", "avx512bf16", "amx" */
bool b2_isa_available(b2_isa i);   /* by cpuid and xgetbv */
b2_isa b2_isa_best(void);          /* the tier to run: the best, or below where BLIP2_CPU_ISA asks */
bool b2_isa_parse(const char *name, b2_isa *out);
const char *b2_cpu_name(void); /* brand string, a constant */

/* Fill both tables: the reference, then every tier up to `isa` overwrites what it does better. */
void b2_ref_tables(b2_kernels t[2]);
void b2_cpu_tables(b2_kernels t[2], b2_isa isa);
/* Tiers: each overwrites slots; called in order by b2_cpu_tables (kernels/cpu/cpu_tables.c). */
void b2_avx2_tables(b2_kernels t[2]);
void b2_avx512_tables(b2_kernels t[2]);
void b2_avx512bf16_tables(b2_kernels t[2]);

#endif
