/* The CUDA kernels, built for the host, as a tier of the check tool, and what their launchers ask of a
 * queue. EMU_ORDER (forward, reverse, random), EMU_SEED, EMU_GREEDY and EMU_EARLY choose the schedule. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cuda_queue.h"
#include "tests/check/harness.h"

void emu_schedule(int order, unsigned seed, int greedy, int late_copies);

void *b2_cuda_stream(const b2_queue *q)
{
    (void)q;
    return NULL;
}
const b2_step *b2_cuda_step(const b2_queue *q) { return q->step; }
int b2_cuda_sms(const b2_queue *q) { return b2_pool_threads(q->pool); }
void b2_cuda_launched(b2_queue *q, const char *kernel, int code)
{
    (void)q;
    fprintf(stderr, "%s: launch failed, %d\n", kernel, code);
    abort();
}

static void choose_schedule(void)
{
    const char *order = getenv("EMU_ORDER"), *seed = getenv("EMU_SEED");
    const int which = !order ? 0 : strcmp(order, "reverse") == 0 ? 1 : strcmp(order, "random") == 0 ? 2 : 0;
    emu_schedule(which, seed ? (unsigned)strtoul(seed, NULL, 10) : 1, getenv("EMU_GREEDY") != NULL,
                 !getenv("EMU_EARLY"));
}

void ck_cuda_tables(b2_kernels t[2])
{
    choose_schedule();
    b2_cuda_tables(t);
}
