/* The loader's thread: micro-batches are prepared ahead of the step that takes them. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include "train/loader_rows.h"

enum { SLOTS = 3 }; /* one in the step's hands, two ahead */

struct b2_loader {
    b2_filler f;
    b2_arena arena;
    b2_micro slot[SLOTS];
    int64_t end;         /* first number that is not asked for */
    int64_t made, taken; /* next to prepare; next to hand out */
    bool filling, stop, threaded;
    pthread_mutex_t lock;
    pthread_cond_t more; /* something changed */
    pthread_t thread;
};

static void layout(b2_filler *f, b2_micro *slot, bool cached, b2_arena *a)
{
    f->order = b2_arena_take(a, (size_t)f->d->rows * sizeof *f->order);
    for (int i = 0; i < SLOTS; i++) b2_micro_init(&slot[i], f, cached, a);
}

size_t b2_loader_bytes(const blip2_dataset *d, const blip2_model *m, const b2_texts *t,
                       const b2_loader_options *o, bool cached)
{
    b2_filler f = {.d = d, .m = m, .t = t, .o = *o};
    b2_micro slot[SLOTS];
    b2_arena a;
    b2_arena_dry(&a);
    layout(&f, slot, cached, &a);
    return a.peak;
}

static bool room(const b2_loader *l) { return l->made < l->end && l->made - l->taken < SLOTS - 1; }

static void *prepare(void *arg)
{
    b2_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (!room(l)) {
            pthread_cond_wait(&l->more, &l->lock);
            continue;
        }
        const int64_t micro = l->made;
        l->filling = true;
        pthread_mutex_unlock(&l->lock);
        b2_micro_fill(&l->slot[micro % SLOTS], &l->f, micro);
        pthread_mutex_lock(&l->lock);
        l->filling = false;
        l->made++;
        pthread_cond_broadcast(&l->more);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals stay the program's: the loader's thread takes none. Without a thread batches are prepared when
 * asked for. */
static void start(b2_loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    l->threaded = pthread_create(&l->thread, NULL, prepare, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

blip2_status b2_loader_open(b2_loader **out, const blip2_dataset *d, const blip2_model *m, const b2_texts *t,
                            b2_pictures *pictures, const float *features, const b2_loader_options *o,
                            b2_account *account, blip2_error *e)
{
    b2_loader *l = calloc(1, sizeof *l);
    if (!l) return B2_NOMEM(e, "a data loader");
    l->f =
        (b2_filler){.d = d, .m = m, .t = t, .pictures = pictures, .features = features, .o = *o, .epoch = -1};
    const blip2_status s =
        b2_arena_init(&l->arena, b2_loader_bytes(d, m, t, o, features != NULL), account, e);
    if (s != BLIP2_OK) {
        free(l);
        return s;
    }
    layout(&l->f, l->slot, features != NULL, &l->arena);
    l->end = o->steps * o->accumulate;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->more, NULL);
    start(l);
    *out = l;
    return BLIP2_OK;
}

void b2_loader_close(b2_loader *l)
{
    if (!l) return;
    if (l->threaded) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->more);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    pthread_cond_destroy(&l->more);
    pthread_mutex_destroy(&l->lock);
    b2_arena_free(&l->arena);
    free(l);
}

void b2_loader_seek(b2_loader *l, int64_t micro)
{
    pthread_mutex_lock(&l->lock);
    const int64_t end = l->end;
    l->end = 0; /* the thread begins nothing new */
    while (l->filling) pthread_cond_wait(&l->more, &l->lock);
    l->end = end;
    l->made = l->taken = micro;
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->lock);
}

const b2_micro *b2_loader_next(b2_loader *l)
{
    pthread_mutex_lock(&l->lock);
    const int64_t micro = l->taken++;
    pthread_cond_broadcast(&l->more);
    while (l->threaded && l->made <= micro) pthread_cond_wait(&l->more, &l->lock);
    pthread_mutex_unlock(&l->lock);
    if (!l->threaded) b2_micro_fill(&l->slot[micro % SLOTS], &l->f, micro);
    return &l->slot[micro % SLOTS];
}
