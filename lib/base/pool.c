/* The thread pool: one job at a time, chunks handed out by a counter, workers that spin briefly and then
 * sleep.
 *
 * A job is offered by opening the gate and bumping the epoch. A worker takes part by raising the gate's head
 * count while it is open. When no chunk is left the caller closes the gate and waits for the heads inside
 * only: a worker that the kernel has not run yet finds the gate closed, and nobody waited for it. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "base/arena.h"
#include "base/pool.h"

#define SPIN_NS     30000 /* longer than the gap between two kernels, shorter than a time slice by far */
#define WAKE_FAN    2 /* each thread that wakes wakes so many more: 64 sleepers are up after 6 generations */
#define MAX_THREADS 4096
#define GATE_OPEN   0x80000000u
#define GATE_JOINER 0x40000000u /* the caller sleeps until the last head leaves */
#define GATE_HEADS  0x3FFFFFFFu

struct worker {
    struct b2_pool *pool;
    pthread_t thread;
    int index;
};

struct b2_pool {
    pthread_mutex_t turn; /* one job at a time */
    int threads, started;
    pid_t owner; /* the workers do not exist in a forked child */
    struct worker *workers;

    b2_chunk_fn fn; /* the job: written before the gate opens, constant until the last head has left */
    void *ctx;
    int64_t chunks;

    alignas(B2_ALIGN) _Atomic int64_t next; /* first chunk that nobody has taken */
    alignas(B2_ALIGN) _Atomic uint32_t gate;
    alignas(B2_ALIGN) _Atomic uint32_t epoch; /* jobs offered so far; futex of the idle workers */
    _Atomic uint32_t sleepers;
    _Atomic bool stop;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL,
            0); /* may return early: callers look again */
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = saved;
}

static void relax(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Subnormals are read and written as zero inside jobs: they would slow some kernels a hundredfold. */
static uint64_t flush_subnormals(void)
{
#if defined(__x86_64__)
    unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u); /* FTZ, DAZ */
    return old;
#elif defined(__aarch64__)
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | (uint64_t)1 << 24)); /* FZ */
    return old;
#else
    return 0;
#endif
}

static void restore_subnormals(uint64_t old)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)old);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
#else
    (void)old;
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void take_chunks(b2_pool *p, int worker)
{
    int64_t chunk;
    while ((chunk = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->chunks)
        p->fn(p->ctx, chunk, worker);
}

static bool enter(b2_pool *p)
{
    uint32_t gate = atomic_load_explicit(&p->gate, memory_order_relaxed);
    while (gate & GATE_OPEN)
        if (atomic_compare_exchange_weak_explicit(&p->gate, &gate, gate + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void leave(b2_pool *p)
{
    uint32_t before = atomic_fetch_sub_explicit(&p->gate, 1, memory_order_acq_rel);
    if ((before & GATE_JOINER) && (before & GATE_HEADS) == 1) futex_wake(&p->gate, 1);
}

/* Wakes up to `most` sleepers, no more than there are chunks waiting. */
static void wake_some(b2_pool *p, int64_t most, int64_t waiting)
{
    if (waiting <= 0 || atomic_load_explicit(&p->sleepers, memory_order_seq_cst) == 0) return;
    futex_wake(&p->epoch, (int)(waiting < most ? waiting : most));
}

/* Returns once the epoch is another than `seen`; true if it had to sleep. */
static bool await_epoch(b2_pool *p, uint32_t seen)
{
    int64_t deadline = 0;
    for (unsigned i = 1; atomic_load_explicit(&p->epoch, memory_order_acquire) == seen; i++) {
        relax();
        if (i % 64) continue;
        int64_t now = now_ns();
        if (!deadline) deadline = now + SPIN_NS;
        if (now >= deadline) break;
    }
    if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen) return false;
    /* The caller bumps the epoch and then looks for sleepers; here it is the other way round, all
     * sequentially consistent: one of the two sees the other. */
    atomic_fetch_add_explicit(&p->sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&p->epoch, memory_order_seq_cst) == seen) futex_wait(&p->epoch, seen);
    atomic_fetch_sub_explicit(&p->sleepers, 1, memory_order_seq_cst);
    return true;
}

static void *work(void *arg)
{
    const struct worker *me = arg;
    b2_pool *p = me->pool;
    uint32_t seen = 0;
    flush_subnormals(); /* the thread is the pool's own: nothing to restore */
    for (;;) {
        bool slept = await_epoch(p, seen);
        seen = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (atomic_load_explicit(&p->stop, memory_order_acquire)) return NULL;
        if (!enter(p)) continue;
        if (slept) wake_some(p, WAKE_FAN, p->chunks - atomic_load_explicit(&p->next, memory_order_relaxed));
        take_chunks(p, me->index);
        leave(p);
    }
}

/* Waits for the heads inside: briefly awake, then asleep (a worker may have lost its CPU in mid-chunk, and
 * may need this one). */
static void join(b2_pool *p)
{
    uint32_t gate = atomic_fetch_and_explicit(&p->gate, ~GATE_OPEN, memory_order_acq_rel) & ~GATE_OPEN;
    int64_t deadline = 0;
    for (unsigned i = 1; gate & GATE_HEADS; i++) {
        relax();
        gate = atomic_load_explicit(&p->gate, memory_order_acquire);
        if (i % 64) continue;
        int64_t now = now_ns();
        if (!deadline) deadline = now + SPIN_NS;
        if (now >= deadline) break;
    }
    if (!(gate & GATE_HEADS)) return;
    gate = atomic_fetch_or_explicit(&p->gate, GATE_JOINER, memory_order_acq_rel) | GATE_JOINER;
    while (gate & GATE_HEADS) {
        futex_wait(&p->gate, gate);
        gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    }
}

static void run_shared(b2_pool *p, int64_t chunks, b2_chunk_fn fn, void *ctx)
{
    p->fn = fn;
    p->ctx = ctx;
    p->chunks = chunks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->gate, GATE_OPEN, memory_order_release);
    atomic_fetch_add_explicit(&p->epoch, 1, memory_order_seq_cst);
    wake_some(p, WAKE_FAN, chunks - 1);
    take_chunks(p, 0);
    join(p);
}

void b2_pool_run(b2_pool *p, int64_t chunks, b2_chunk_fn fn, void *ctx)
{
    if (chunks <= 0) return;
    if (p) pthread_mutex_lock(&p->turn);
    uint64_t old = flush_subnormals();
    if (!p || p->started == 0 || chunks == 1)
        for (int64_t i = 0; i < chunks; i++) fn(ctx, i, 0);
    else
        run_shared(p, chunks, fn, ctx);
    restore_subnormals(old);
    if (p) pthread_mutex_unlock(&p->turn);
}

/* Workers take no signals that are meant for the program's own threads. */
static int start_worker(b2_pool *p, struct worker *w)
{
    sigset_t all, old;
    sigfillset(&all);
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    *w = (struct worker){.pool = p, .index = p->started + 1};
    int bad = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!bad) pthread_setname_np(w->thread, "blip2-worker");
    return bad;
}

blip2_status b2_pool_open(b2_pool **out, int threads, blip2_error *e)
{
    *out = NULL;
    if (threads <= 0) threads = b2_cpu_count();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    b2_pool *p = b2_account_alloc(NULL, sizeof *p);
    if (!p) return B2_NOMEM(e, "a thread pool");
    pthread_mutex_init(&p->turn, NULL);
    p->threads = threads;
    p->owner = getpid();
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    if (!p->workers) {
        b2_pool_close(p);
        return B2_NOMEM(e, "a thread pool");
    }
    for (; p->started < threads - 1; p->started++) {
        int bad = start_worker(p, &p->workers[p->started]);
        if (!bad) continue;
        b2_pool_close(p);
        return b2_fail(e, BLIP2_ERR_DEVICE, "thread pool: thread %d of %d cannot be started: %s",
                       p->started + 2, threads, strerror(bad));
    }
    *out = p;
    return BLIP2_OK;
}

void b2_pool_close(b2_pool *p)
{
    if (!p) return;
    atomic_store_explicit(&p->stop, true, memory_order_release);
    atomic_fetch_add_explicit(&p->epoch, 1, memory_order_seq_cst);
    if (p->owner == getpid()) {
        futex_wake(&p->epoch, MAX_THREADS);
        for (int i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    }
    pthread_mutex_destroy(&p->turn);
    free(p->workers);
    b2_account_free(NULL, p, sizeof *p);
}

int b2_pool_threads(const b2_pool *p) { return p ? p->threads : 1; }
