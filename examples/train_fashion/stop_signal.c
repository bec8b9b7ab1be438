/* SIGINT and SIGTERM, waited for by a thread of their own: a handler could not call the library. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#include "examples/train_fashion/train.h"

enum { PATIENCE = 20 /* seconds that a step may still take */ };

/* Signals belong to the process, and so does this. */
static struct {
    _Atomic int seen, quit;
    pthread_t thread;
    bool running;
    blip2_trainer *_Atomic trainer;
} watch;

static void stop_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

static void *wait_for_signals(void *unused)
{
    sigset_t set;
    double since = 0;
    stop_set(&set);
    while (!atomic_load(&watch.quit)) {
        const struct timespec tick = {0, 200000000};
        bool came = sigtimedwait(&set, NULL, &tick) > 0,
             late = watch.seen == 1 && seconds_now() - since > PATIENCE;
        if (!came && !late) continue;
        if (++watch.seen == 1)
            since = seconds_now();
        else if (watch.seen == 2)
            blip2_trainer_cancel(watch.trainer);
        else if (came)
            _exit(EXIT_FAILED);
    }
    return unused;
}

void stop_signal_watch(void)
{
    sigset_t set;
    stop_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    watch.running = pthread_create(&watch.thread, NULL, wait_for_signals, NULL) == 0;
    if (!watch.running) pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void stop_signal_trainer(blip2_trainer *trainer) { atomic_store(&watch.trainer, trainer); }

void stop_signal_unwatch(void)
{
    if (!watch.running) return;
    atomic_store(&watch.quit, 1);
    pthread_join(watch.thread, NULL);
    watch.running = false;
}

bool stop_signal_seen(void) { return atomic_load(&watch.seen) > 0; }
