/* Timing of the check tool: the very call that the checks make, with a cold and a hot cache, judged before
 * and after. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLES      101
#define TARGET       0.15 /* seconds a state of a case, hot */
#define TARGET_COLD  0.5  /* the same, with what it takes to get cold */
#define SAMPLE_LEAST 2e-5 /* seconds a sample, so that the clock does not matter */
#define SLOW         1.0  /* a call that takes longer is timed once */
#define LEAST        5    /* samples of any other */
#define GRAPH        1e-3 /* seconds of a graph's launches together, so that its start does not matter */
#define REF_FLOPS    8e9  /* more than these, and the reference would take too long */
#define REF_SOON     5e8  /* the same where another tier is there to judge */
#define STATES       4    /* lines of a case, at most */
#define COARSE       64 /* of the limit: errors are relative to the largest output, not to each one's terms */

double ck_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- one call ------------------------------------------------------------------------------------------ */

/* What kernels read of a step, apart from what the host touches while they run. */
typedef struct moment {
    b2_step step;
    uint64_t sample[256];
} moment;

typedef struct job {
    const b2_kernels *k;
    b2_queue q;
    const ck_call *call;
    moment *now;
    void *ws;
    size_t ws_bytes;
    bool turning; /* every launch takes other weights */
} job;

static void launch(void *ctx, int i)
{
    job *j = ctx;
    if (j->call->turn) j->call->turn(j->call->args, j->turning ? i : 0);
    j->call->call(j->k, &j->q, j->call->args, j->ws);
}

static void finish(job *j)
{
    const char *lost = j->q.native ? ck_cuda_wait(&j->q) : NULL;
    if (!lost) return;
    fprintf(stderr, "check_kernels: %s\n", lost); /* nothing works after that */
    exit(3);
}

static void open_job(ck *c, const ck_tier *t, const ck_call *call, job *j)
{
    *j = (job){.k = &t->table[c->dtype], .q = ck_queue(c, t, c->pool[0]), .call = call};
    if (j->q.native) j->q.threads = ck_cuda_sms();
    j->now = ck_take(sizeof *j->now);
    j->now->step = c->step;
    memcpy(j->now->sample, c->sample, sizeof j->now->sample);
    j->now->step.sample = j->now->sample;
    j->q.step = &j->now->step;
    j->ws_bytes = call->ws ? call->ws(j->k, call->args, j->q.threads) : 0;
    j->ws = ck_take(j->ws_bytes + 64);
    memset(j->ws, 0, j->ws_bytes);
    ck_where(c, t, call);
}

static void close_job(job *j)
{
    ck_give(j->ws);
    ck_give(j->now);
}

/* On what the case began with; seconds. */
static double run_once(ck *c, job *j)
{
    ck_restore(c);
    const double begin = ck_seconds();
    launch(j, 0);
    finish(j);
    return ck_seconds() - begin;
}

/* ---- many calls ---------------------------------------------------------------------------------------- */

static void flush_chunk(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    ck *c = ctx;
    const size_t each = c->flush_bytes / 64; /* 0 in the self-test, which has no buffer */
    if (each) memset((char *)c->flush + (size_t)chunk * each, (int)c->flushes, each);
}

void ck_flush(ck *c)
{
    c->flushes++;
    b2_pool_run(c->pool[0], 64, flush_chunk, c);
}

/* `first`: what a call took. */
static int sample_cpu(ck *c, job *j, bool hot, double first, double *s)
{
    const int times = hot && first < SAMPLE_LEAST ? 1 + (int)(SAMPLE_LEAST / (first + 1e-9)) : 1;
    const double left = hot ? TARGET : TARGET_COLD, start = ck_seconds();
    const int least = first > SLOW ? 1 : LEAST;
    int n = 0;
    if (hot && first < SLOW) launch(j, 0);
    while (n < c->repeats && (n < least || ck_seconds() - start < left)) {
        if (!hot) ck_flush(c);
        const double begin = ck_seconds();
        for (int i = 0; i < times; i++) launch(j, i);
        s[n++] = (ck_seconds() - begin) / times;
    }
    return n;
}

static int sample_cuda(ck *c, job *j, bool hot, double *s)
{
    const double start = ck_seconds();
    int n = 0;
    while (n < c->repeats && (n < LEAST || ck_seconds() - start < TARGET_COLD))
        s[n++] = ck_cuda_single(launch, j, hot);
    finish(j);
    return n;
}

static ck_timing sample_graph(ck *c, job *j, bool cold, double one)
{
    double s[SAMPLES];
    const double fit = GRAPH / (one + 1e-9);
    const int launches = c->bench ? fit < 10 ? 10 : fit > 200 ? 200 : (int)fit : 3;
    const int repeats = c->repeats < 20 ? c->repeats : 20;
    j->turning = cold;
    ck_cuda_graph(launch, j, launches, repeats, s);
    finish(j);
    j->turning = false;
    ck_timing r = ck_sorted(s, repeats);
    r.cache = cold ? "cold" : "hot";
    r.how = "graph";
    return r;
}

static ck_timing sample(ck *c, job *j, bool hot, double first)
{
    double s[SAMPLES];
    const int n = j->q.native ? sample_cuda(c, j, hot, s) : sample_cpu(c, j, hot, first, s);
    ck_timing r = ck_sorted(s, n);
    r.cache = hot ? "hot" : "cold";
    r.how = "call";
    return r;
}

/* The host has looked at everything: back to the GPU's memory. */
static void send_home(ck *c, job *j)
{
    if (!j->q.native || !ck_shared_home) return;
    for (ck_buf *b = c->bufs; b; b = b->next) ck_shared_home(b->block, b->block_bytes);
    ck_shared_home(j->ws, j->ws_bytes + 64);
    ck_shared_home(j->now, sizeof *j->now);
}

/* Weights that go round tell what a graph of the whole model would see; other cases have no cold graph. */
static int measure(ck *c, job *j, double first, ck_timing r[STATES])
{
    int n = 0;
    r[n++] = sample(c, j, false, first);
    r[n++] = sample(c, j, true, first);
    if (!j->q.native) return n;
    const double one = r[1].median;
    r[n++] = sample_graph(c, j, false, one);
    if (j->call->turn) r[n++] = sample_graph(c, j, true, one);
    return n;
}

double ck_best(ck *c, const ck_tier *t, const ck_call *call)
{
    job j;
    double s[SAMPLES];
    open_job(c, t, call, &j);
    launch(&j, 0);
    finish(&j);
    send_home(c, &j);
    const int n = j.q.native ? sample_cuda(c, &j, true, s) : sample_cpu(c, &j, true, 0.1, s);
    qsort(s, (size_t)n, sizeof s[0], ck_by_value);
    close_job(&j);
    return s[0];
}

/* ---- a case -------------------------------------------------------------------------------------------- */

/* The tier that judges tier i: the reference; where that would take too long, the next CPU tier below; or
 * NONE. */
enum { NONE = -1 };
static int judge_of(const ck *c, int i, const ck_call *call)
{
    if (call->flops <= REF_SOON) return B2_ISA_REF;
    int judge = (i < B2_ISA_COUNT ? i : B2_ISA_COUNT) - 1;
    while (judge > 0 && !(c->tier[judge].available && ck_new_slot(c, judge))) judge--;
    return judge > 0 ? judge : call->flops <= REF_FLOPS ? B2_ISA_REF : NONE;
}

static void ask_judge(ck *c, int judge, const ck_call *call, bool rounded)
{
    job j;
    if (rounded) ck_round(call);
    if (!c->bench) call->want(call->args); /* for the size of the terms */
    open_job(c, &c->tier[judge], call, &j);
    run_once(c, &j);
    ck_keep(c, true);
    close_job(&j);
    if (rounded) ck_round(call);
}

static bool right(const ck *c, int judge, double strays)
{
    const double limit = c->check->limit[c->dtype];
    return judge == NONE || ck_error(c, true) <= (c->bench ? COARSE * limit + strays : limit);
}

/* NULL, or what is wrong with the results. */
static const char *wrong(const ck *c, const ck_tier *t, const ck_call *call, int judge)
{
    const char *bad = ck_damage(c);
    const double strays = t == &c->tier[CK_CUDA] && c->dtype == B2_BF16 ? call->strays : 0;
    return !bad && !right(c, judge, strays) ? "wrong results before timing" : bad;
}

/* One of those who can do a case (ck_cuda_by): a line for each state. */
typedef struct timed {
    ck_timing r[STATES];
    int n; /* 0: it failed, or does not take this shape */
} timed;

static void print_timed(const ck *c, const ck_tier *t, const ck_call *call, int judge, timed *now, int by,
                        const timed *own)
{
    for (int i = 0; !c->quiet && i < now->n; i++) {
        now->r[i].by = by > 0 ? ck_cuda_by(by) : "own";
        now->r[i].own = by > 0 && i < own->n ? own->r[i].median : 0;
        ck_print_timing(c, t, call, judge == NONE ? "none" : c->tier[judge].name, &now->r[i]);
    }
}

/* by: -1: whoever is asked first; from 1 on nothing happens where the library does not take it. */
static void time_by(ck *c, ck_tier *t, const ck_call *call, int judge, int by, timed *now)
{
    job j;
    now->n = 0;
    open_job(c, t, call, &j);
    double first = run_once(c, &j);
    if (by > 0 && !ck_cuda_took(by)) {
        close_job(&j);
        return;
    }
    if (first < SLOW) first = run_once(c, &j); /* the first one may have to load the kernel */
    const char *bad = wrong(c, t, call, judge);
    ck_keep(c, false);
    if (!bad) {
        send_home(c, &j);
        if (c->profile)
            launch(&j, 0);
        else
            now->n = measure(c, &j, first, now->r);
        finish(&j);
        run_once(c, &j);
        if (!ck_same_bits(c)) bad = "other bits after timing than before";
    }
    t->stat.cases++;
    t->stat.failed += bad != NULL;
    if (bad) now->n = 0;
    if (bad && !c->quiet)
        printf("FAIL %s %s %s%s%s, %s: %s\n", c->check->name, c->dtype ? "bf16" : "f32", t->name,
               by > 0 ? " by " : "", by > 0 ? ck_cuda_by(by) : "", call->shape, bad);
    close_job(&j);
}

/* A GPU's slots by our own kernels, then by each library beside them. */
static void time_tier(ck *c, ck_tier *t, const ck_call *call, int judge)
{
    const bool several = t == &c->tier[CK_CUDA] && ck_cuda_by && !c->profile;
    timed own, other;
    if (several) ck_cuda_let(0);
    time_by(c, t, call, judge, several ? 0 : -1, &own);
    print_timed(c, t, call, judge, &own, 0, &own);
    for (int by = 1; several && ck_cuda_by(by); by++) {
        ck_cuda_let(by);
        time_by(c, t, call, judge, by, &other);
        print_timed(c, t, call, judge, &other, by, &own);
    }
    if (several) ck_cuda_let(-1);
    fflush(stdout);
}

void ck_time(ck *c, const ck_call *call)
{
    int asked = NONE;
    for (int i = 0; i < CK_TIERS; i++) {
        ck_tier *t = &c->tier[i];
        if (!t->available || !t->selected || !ck_new_slot(c, i)) continue;
        const bool rounded = i == CK_CUDA && call->rounded[0] && c->dtype == B2_BF16;
        const int judge = judge_of(c, i, call);
        if (judge != NONE && (judge != asked || rounded)) ask_judge(c, judge, call, rounded);
        asked = judge;
        time_tier(c, t, call, judge);
    }
}
