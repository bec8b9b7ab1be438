/* Clock and op profile that the bench programs share (static: each is one program of one file). */
#ifndef B2_BENCH_PROFILE_H
#define B2_BENCH_PROFILE_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "device/device.h"

typedef struct bench_op {
    char name[40];
    double seconds;
    long calls;
} bench_op;
typedef struct bench_profile {
    bench_op op[64];
    int n;
} bench_profile;

static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A b2_queue trace callback. */
static inline void bench_on_op(void *user, const char *name, const char *shape, size_t bytes, double seconds)
{
    bench_profile *p = user;
    int i = 0;
    (void)shape;
    (void)bytes;
    while (i < p->n && strcmp(p->op[i].name, name)) i++;
    if (i == 64) return;
    if (i == p->n) snprintf(p->op[p->n++].name, sizeof p->op[0].name, "%s", name);
    p->op[i].seconds += seconds;
    p->op[i].calls++;
}

static inline int bench_by_time(const void *a, const void *b)
{
    const double x = ((const bench_op *)a)->seconds, y = ((const bench_op *)b)->seconds;
    return (x < y) - (x > y);
}

/* Is `slot` one that the op runs: its name, alone or with a suffix ("gemm": gemm_wf32)? */
static inline bool bench_runs(const char *op, const char *slot)
{
    const size_t n = strlen(op);
    return strncmp(op, slot, n) == 0 &&
           (!slot[n] || strcmp(slot + n, "_fwd") == 0 || strncmp(slot + n, "_w", 2) == 0);
}

/* Does an op run the scalar reference on this device, for activations of type t? */
static inline bool bench_is_ref(const blip2_device *d, b2_dtype t, const char *op)
{
    b2_kernels ref[2];
    bool known = false, own = false;
    b2_ref_tables(ref);
    if (strcmp(op, "attention") == 0) op = "attn";
    if (strcmp(op, "attention_bwd") == 0) op = "attn_bwd";
#define KERNEL(name, args)                                                                                   \
    if (bench_runs(op, #name)) {                                                                             \
        known = true;                                                                                        \
        own = own || d->tables[t].name != ref[t].name;                                                       \
    }
#define WORKSPACE(name, args)
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
    return known && !own;
}

/* Ops by time; "scalar" marks those that run the reference. */
static inline void bench_print_profile(bench_profile *p, const blip2_device *d, b2_dtype t)
{
    double total = 0, scalar = 0;
    qsort(p->op, (size_t)p->n, sizeof p->op[0], bench_by_time);
    for (int i = 0; i < p->n; i++) total += p->op[i].seconds;
    for (int i = 0; i < p->n; i++) {
        const bool ref = bench_is_ref(d, t, p->op[i].name);
        if (ref) scalar += p->op[i].seconds;
        printf("  %-16s %9.2f ms  %5.1f %%  %ld calls%s\n", p->op[i].name, 1e3 * p->op[i].seconds,
               100 * p->op[i].seconds / total, p->op[i].calls, ref ? ", scalar" : "");
    }
    printf("  scalar kernels: %.2f %% of the time in ops\n", 100 * scalar / total);
}
#endif
