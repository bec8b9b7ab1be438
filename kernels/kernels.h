/* Kernel tables, the queue, and the argument structs. Everything here is generated from kernels.def or
 * read by it. */
#ifndef B2_KERNELS_KERNELS_H
#define B2_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/pool.h"

typedef enum { B2_F32 = 0, B2_BF16 = 1 } b2_dtype; /* also the index of a table */
static inline size_t b2_dtype_size(b2_dtype t) { return t == B2_F32 ? 4 : 2; }

typedef enum { B2_RELU, B2_GELU, B2_GELU_NEW, B2_SILU } b2_act_fn;

/* A block of weight rows where they lie: n rows of k elements. */
typedef struct b2_rows {
    const void *w;
    const float *bias; /* [n] or NULL */
    int n;
} b2_rows;

/* One adapter's A [r,k] and B [n,r] for a weight block; r == 0: this adapter has nothing here. */
typedef struct b2_lora_ab {
    const float *a, *b;
    int r;
    float scale;
} b2_lora_ab;

/* Multi-head attention of `batch` items with tq query rows each. Query row i of item b is row b*tq+i of q;
 * head h is its columns h*dim... Key row j of item b is row kvrow(b)*krows + j of k and v. */
typedef struct b2_attn {
    const float *q, *k, *v;
    int ldq, ldk, ldv;
    int batch, heads, dim, tq, tk; /* tk: keys looked at, at most krows */
    int krows;
    float scale;
    const float
        *bias; /* [heads, ldbias] by relative position, or NULL; column bias0 is relative position 0 */
    int ldbias, bias0;
    const int32_t *klen;  /* [batch] visible keys of item b, or NULL: tk */
    const int32_t *qpos;  /* [batch] position of query row 0, or NULL: 0 */
    const int32_t *kvrow; /* [batch] item whose keys are used, or NULL: b */
    bool causal;
    float drop; /* probability; 0: none */
    uint32_t site;
} b2_attn;

/* What changes from step to step; lives where the kernels run. */
typedef struct b2_step {
    uint64_t seed, step;
    const uint64_t *sample; /* global index of each sample of the batch */
    float lr, beta1, beta2, eps, weight_decay, c1, c2;
    float gscale; /* 1/tokens and the clip factor in one */
    int32_t finite;
} b2_step;

struct b2_kernels;
/* A line of work: thread pool (or stream), tables, sticky status. Opened, filled and closed by device/. */
typedef struct b2_queue {
    const struct b2_kernels *k[2]; /* by activation dtype */
    b2_pool *pool;
    b2_step *step;
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
b2_isa b2_isa_best(void);          /* the tier to run: AVX2 at most, unless BLIP2_CPU_ISA asks */
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
