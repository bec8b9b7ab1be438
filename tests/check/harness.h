/* The kernel check tool, checkasm in miniature. A check registers inputs and outputs, says how to call the
 * kernel and how to compute the same in double precision, and hands the case to ck_run. That runs the
 * reference and every tier of this machine on the same bits, with thread counts 1, 2 and 3, and judges; with
 * --bench it times the very same call, and judges it before and after. */
#ifndef B2_TESTS_CHECK_HARNESS_H
#define B2_TESTS_CHECK_HARNESS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/half.h"
#include "base/rng.h"
#include "kernels/kernels.h"

typedef enum {
    CK_F32,
    CK_BF16,
    CK_I32,
    CK_F64,
    CK_I8,
    CK_ACT /* f32 or bf16, as the table under test */
} ck_type;

/* rows x ld elements, cols of each row are data: the rest is a hole that nobody may write. */
typedef struct ck_buf {
    void *p; /* what the kernel gets */
    ck_type type;
    int64_t rows, cols, ld, n; /* n = rows*ld */
    bool output;
    bool spent;   /* outputs: may hold anything afterwards */
    double *want; /* [n] outputs: right values, stored by ck_want */
    double *mag;  /* [n] outputs: size of the terms that a value was made of: errors are relative to it */
    double *was;
    unsigned char *init, *ref, *first;
    void *block;
    size_t bytes, block_bytes, lead;
    struct ck_buf *next;
} ck_buf;

typedef struct ck_stat {
    int cases, failed;
    double worst_double, worst_ref;
} ck_stat;

typedef struct ck_tier {
    const char *name;
    bool available, selected;
    b2_kernels table[2];
    ck_stat stat; /* of the kernel under test */
} ck_tier;

/* Behind the CPU's tiers stands CUDA's, where a program links kernels for it (tests/cuda_host). */
enum { CK_CUDA = B2_ISA_COUNT, CK_TIERS };
__attribute__((weak)) void ck_cuda_tables(b2_kernels t[2]);
__attribute__((weak)) void ck_cuda_queue(b2_queue *q);
__attribute__((weak)) const char *ck_cuda_wait(b2_queue *q); /* for all launched; what failed, or NULL */
/* Memory that kernels on a GPU see as the host does; absent where any memory will do. */
__attribute__((weak)) void *ck_shared_take(size_t bytes);
__attribute__((weak)) void ck_shared_give(void *p);
/* Into the GPU's own memory, where it stays until the host looks at it. */
__attribute__((weak)) void ck_shared_home(void *p, size_t bytes);

/* Timing on a GPU, by its own clock (tests/gpu/check_cuda.c). What fails ends the program. */
typedef void ck_launch(void *ctx, int i);
__attribute__((weak)) const char *ck_cuda_name(void);
__attribute__((weak)) int ck_cuda_sms(void);
/* Seconds of one launch behind a flushed cache; hot: after two launches that are not timed. */
__attribute__((weak)) double ck_cuda_single(ck_launch *fn, void *ctx, bool hot);
/* Seconds a launch, each of `repeats` replays of a graph of `launches`. */
__attribute__((weak)) void ck_cuda_graph(ck_launch *fn, void *ctx, int launches, int repeats, double *s);
__attribute__((weak)) double ck_cuda_copy(size_t bytes); /* seconds of a copy inside the GPU's memory */
/* By whom a GPU's slots can do their work: 0 is "own", from 1 on vendors' libraries; NULL: no more. */
__attribute__((weak)) const char *ck_cuda_by(int by);
/* From now on they may ask that library and no other; -1: any that is at hand, as everywhere else. */
__attribute__((weak)) void ck_cuda_let(int by);
__attribute__((weak)) bool ck_cuda_took(int by); /* has it done anything since ck_cuda_let? */

/* What a device can do, measured before anything is timed on it. */
typedef struct ck_ceiling {
    char device[96];
    double gbs, gflops[2]; /* memory; arithmetic by activation type */
} ck_ceiling;

struct ck_check;
typedef struct ck {
    const struct ck_check *check;
    int dtype;                      /* B2_F32 or B2_BF16 */
    bool timed, bench, quiet, once; /* timed: not checked; bench: BLIP-2's shapes; once: one thread count */
    bool profile;                   /* timed, but by somebody else: calls only */
    int batch;                      /* bench: items of this pass */
    bool first_batch;
    bool aligned;      /* this case's buffers, to 64 bytes: a check may set it before it makes them */
    int repeats;       /* timed: at most */
    int cases, ran;    /* of this kernel and type so far; of all */
    const char *shape; /* pattern that a case's shape must match, or NULL */
    const char *commit;
    size_t slot, ws_slot; /* offsets in b2_kernels; ws_slot 0: none */
    b2_rng rng;
    b2_step step; /* random; a check may set fields before ck_run */
    uint64_t sample[256];
    ck_tier *tier;     /* [CK_TIERS] */
    b2_pool *pool[4];  /* by thread count, 1 to 3; [0]: all CPUs, for timing */
    ck_ceiling top[2]; /* of the CPU, of the GPU; timed only */
    void *flush;       /* what ck_flush overwrites */
    size_t flush_bytes, flushes;
    FILE *json; /* timed: lines of results, or NULL */
    ck_buf *bufs;
} ck;

/* One line per kernel, in the table at the end of each check file. limit: largest error allowed, relative to
 * mag, by activation type; a bf16 output may differ by its own rounding besides. */
typedef struct ck_check {
    const char *name, *ws; /* lines of kernels.def */
    void (*run)(ck *c);
    double limit[2];
} ck_check;
extern const ck_check ck_linear[], ck_lora[], ck_norm[], ck_act[], ck_dropout[], ck_attention[], ck_cache[],
    ck_embed[], ck_loss[], ck_optim[], ck_quantise[];

typedef struct ck_call {
    char shape[128];
    void *args;
    void (*call)(const b2_kernels *k, b2_queue *q, void *args, void *ws);
    size_t (*ws)(const b2_kernels *k, void *args, int threads); /* NULL: no workspace */
    void (*want)(void *args); /* the same in double: ck_want for every output */
    ck_buf *rounded[4]; /* inputs that CUDA's bf16 kernels round to bf16 first, or NULL; of those that are
                                 bf16 already, and whose products are rounded, ck_rounded tells `want` */
    float (*scale)(void *args,
                   int64_t i); /* what the first's element i is multiplied with before, or NULL: 1 */
    double strays; /* by what part of itself such a kernel rounds a term of its sums; for coarse judgement */
    double flops, bytes;             /* of one call; for timing */
    void (*turn)(void *args, int i); /* before timed call i: other weights; or NULL */
} ck_call;

/* ---- buffers; they live until the end of ck_run. Inputs are random in [-spread, spread], outputs NaN */
ck_buf *ck_in(ck *c, ck_type type, int64_t n, double spread);
ck_buf *ck_in_rows(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld, double spread);
ck_buf *ck_out(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld);
ck_buf *ck_inout(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld, double spread);
/* What the kernel gets; no buffer: NULL. */
static inline void *ck_ptr(const ck_buf *b) { return b ? b->p : NULL; }
/* Contents before the kernel ran, exactly; to be called in `want` only. b may be NULL: NULL. */
const double *ck_was(ck_buf *b);
/* Does it hold rounded contents now? b may be NULL: no. */
static inline bool ck_rounded(const ck_buf *b) { return b && b->first; }
/* Set element i, rounded to the type; before ck_run. */
void ck_set(ck_buf *b, int64_t i, double value);
/* Right value of element i and the size of its terms. b may be NULL: not wanted. */
static inline void ck_want(ck_buf *b, int64_t i, double value, double mag)
{
    if (!b) return;
    b->want[i] = value;
    b->mag[i] = mag;
}

/* ---- chance: the same for the same seed, kernel and activation type ------------------------------------ */
int ck_below(ck *c, int n); /* 0..n-1 */
/* Items of a bench case: the pass's batch; or `fixed` ones that no batch changes: once, then 0 (left out). */
static inline int ck_items(const ck *c, int fixed) { return !fixed ? c->batch : c->first_batch ? fixed : 0; }
/* Bench cases are the same every time: always true there. */
static inline bool ck_flip(ck *c) { return c->bench || ck_below(c, 2) != 0; }
int ck_size(ck *c, int most); /* 1..most, often next to a power of two */
double ck_uniform(ck *c, double spread);

/* The contents of all in call->rounded become those rounded to bf16; again: what they were. */
void ck_round(const ck_call *call);
/* Runs, judges or times, and frees all buffers. */
void ck_run(ck *c, const ck_call *call);

/* ---- between the harness's own files ------------------------------------------------------------------- */
void ck_fill(ck *c, ck_buf *b, double spread);
void *ck_take(size_t bytes); /* for kernels of any tier; ends the program when there is no more */
void ck_give(void *p);
void ck_free(ck *c);
void ck_snapshot(ck *c);            /* remembers the contents of all buffers */
void ck_restore(ck *c);             /* outputs back to the snapshot */
const char *ck_damage(const ck *c); /* NULL, or what was written that must not be */
/* Largest error of all outputs against `want`, or against ref's results; INFINITY where a NaN is misplaced.
 */
double ck_error(const ck *c, bool against_ref);
void ck_keep(ck *c, bool of_ref); /* outputs become what ck_error or ck_same_bits compares with */
bool ck_same_bits(const ck *c);
bool ck_matches(const char *pattern,
                const char *text); /* a pattern of the shell, or a part; NULL: anything */
void ck_time(ck *c, const ck_call *call);
void ck_ceilings(ck *c); /* measures and prints them */
double ck_seconds(void);

typedef struct ck_timing {
    double median, p10, p90; /* seconds */
    int n;
    const char *cache, *how; /* "cold" or "hot"; "call" or "graph" */
    const char *by;          /* ck_cuda_by; a CPU's kernels are our own */
    double own;              /* seconds of our own kernel in the same state; 0: not known, or it is that */
} ck_timing;
ck_timing ck_sorted(double *s, int n); /* s: in any order before */
int ck_by_value(const void *a, const void *b);
/* judge: the tier that the results were compared with, or "none". */
void ck_print_timing(const ck *c, const ck_tier *t, const ck_call *call, const char *judge,
                     const ck_timing *r);
void ck_json_text(FILE *f, const char *name, const char *text); /* "name": "text" */
double ck_best(ck *c, const ck_tier *t, const ck_call *call);   /* seconds, hot, of the buffers made so far */
void ck_flush(ck *c);                                           /* the CPU's caches: all of it overwritten */
b2_queue ck_queue(ck *c, const ck_tier *tier, b2_pool *pool);
bool ck_new_slot(const ck *c, int tier); /* does this tier bring its own kernel or workspace? */
int ck_self_test(ck *c);                 /* planted faults: number of those not found */
void ck_where(const ck *c, const ck_tier *t, const ck_call *call); /* named when a kernel crashes */
#endif
