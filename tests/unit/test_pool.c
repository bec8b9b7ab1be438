/* The thread pool: every chunk once, results visible, busy machines, forks, cgroup quotas. */
#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/pool.h"
#include "unit/unit.h"

/* What a job leaves behind; plain memory, so that ThreadSanitizer sees a missing happens-before. */
struct tally {
    int hits[1000];
    int by[1000];
    int threads;
    _Atomic int strangers; /* workers out of range */
};

static void mark(void *ctx, int64_t chunk, int worker)
{
    struct tally *t = ctx;
    if (worker < 0 || worker >= t->threads) t->strangers++;
    t->hits[chunk]++;
    t->by[chunk] = worker;
}

static void expect_each_once(const struct tally *t, int chunks)
{
    assert_int_equal(t->strangers, 0);
    for (int i = 0; i < 1000; i++)
        if (t->hits[i] != (i < chunks)) fail_msg("chunk %d of %d ran %d times", i, chunks, t->hits[i]);
}

static void every_chunk_runs_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 8}, chunks[] = {0, 1, 2, 3, 7, 64, 1000};
    for (int i = 0; i < 4; i++) {
        b2_pool *p;
        assert_int_equal(b2_pool_open(&p, threads[i], NULL), BLIP2_OK);
        assert_int_equal(b2_pool_threads(p), threads[i]);
        for (int repeat = 0; repeat < 50; repeat++)
            for (int k = 0; k < 7; k++) {
                struct tally t = {.threads = threads[i]};
                b2_pool_run(p, chunks[k], mark, &t);
                expect_each_once(&t, chunks[k]);
            }
        b2_pool_close(p);
    }
}

static void no_pool_runs_in_the_caller(void **state)
{
    (void)state;
    struct tally t = {.threads = b2_pool_threads(NULL)};
    assert_int_equal(t.threads, 1);
    b2_pool_run(NULL, 10, mark, &t);
    expect_each_once(&t, 10);
    b2_pool_run(NULL, -1, mark, &t);
    expect_each_once(&t, 10);
    b2_pool_close(NULL);
}

/* Chunk i of round r reads its neighbours of round r-1: wrong when a run returns early or writes are not
 * seen. */
struct rounds {
    int64_t now[64], before[64];
};

static void relax_one(void *ctx, int64_t i, int worker)
{
    (void)worker;
    struct rounds *r = ctx;
    r->now[i] = r->before[(i + 63) % 64] + r->before[(i + 1) % 64] + i;
}

static void short_runs_follow_each_other(void **state)
{
    (void)state;
    struct rounds *shared = calloc(1, sizeof *shared), *alone = calloc(1, sizeof *alone);
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 4, NULL), BLIP2_OK);
    for (int r = 0; r < 3000; r++) {
        b2_pool_run(p, 64, relax_one, shared);
        b2_pool_run(NULL, 64, relax_one, alone);
        for (int i = 0; i < 64; i++) {
            shared->before[i] = shared->now[i] & 0xFFFFFF;
            alone->before[i] = alone->now[i] & 0xFFFFFF;
        }
        if (r % 500 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* the workers fall asleep */
    }
    assert_memory_equal(shared, alone, sizeof *shared);
    b2_pool_close(p);
    free(shared);
    free(alone);
}

/* Each chunk waits until two workers are inside: passes only if sleepers are woken and really take part. */
struct meeting {
    _Atomic int inside;
    _Atomic int met;
};

static void meet(void *ctx, int64_t chunk, int worker)
{
    (void)chunk, (void)worker;
    struct meeting *m = ctx;
    m->inside++;
    for (int i = 0; i < 2000 && m->inside < 2; i++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    m->met += m->inside >= 2;
}

static void sleeping_workers_are_woken(void **state)
{
    (void)state;
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 2, NULL), BLIP2_OK);
    for (int r = 0; r < 3; r++) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        struct meeting m = {0};
        b2_pool_run(p, 2, meet, &m);
        assert_int_equal(m.met, 2);
    }
    b2_pool_close(p);
}

/* Both are inside; the worker's chunk takes long, the caller's does not. */
struct delay {
    struct meeting meeting;
    long ns;
    int done[2];
};

static void finish_late(void *ctx, int64_t chunk, int worker)
{
    struct delay *d = ctx;
    meet(&d->meeting, chunk, worker);
    if (worker && d->ns) nanosleep(&(struct timespec){.tv_nsec = d->ns}, NULL);
    d->done[chunk] = 1;
}

static void slow_workers_are_waited_for(void **state)
{
    (void)state;
    static const long delays[] = {0, 1000, 5000000,
                                  30000000}; /* while the caller spins, and while it sleeps */
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 2, NULL), BLIP2_OK);
    for (int r = 0; r < 12; r++) {
        struct delay d = {.ns = delays[r % 4]};
        b2_pool_run(p, 2, finish_late, &d);
        int done = d.done[0] + d.done[1];
        if (done != 2) nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); /* d is still in use */
        assert_int_equal(done, 2);
    }
    b2_pool_close(p);
}

struct caller {
    b2_pool *pool;
    int64_t sum;
};

static void add_up(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    atomic_fetch_add((_Atomic int64_t *)ctx, chunk);
}

static void add_slowly(void *ctx, int64_t chunk, int worker)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000},
              NULL); /* long enough for the other callers to come in between */
    add_up(ctx, chunk, worker);
}

static void *call_often(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 30; i++) {
        _Atomic int64_t sum = 0;
        b2_pool_run(c->pool, 20, i % 2 ? add_up : add_slowly, &sum);
        c->sum += sum;
    }
    return NULL;
}

static void callers_queue_up(void **state)
{
    (void)state;
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 3, NULL), BLIP2_OK);
    pthread_t t[4];
    struct caller c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = (struct caller){p, 0};
        assert_int_equal(pthread_create(&t[i], NULL, call_often, &c[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(c[i].sum, 30 * 190);
    }
    b2_pool_close(p);
}

/* Multiplies subnormals; the volatile keeps the compiler from doing it. */
static float halved(float x)
{
    volatile float v = x;
    return v * 0.5f;
}

static void note_flush(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    ((float *)ctx)[chunk] = halved(FLT_MIN);
}

static void subnormals_are_flushed_inside_only(void **state)
{
    (void)state;
#if defined(__x86_64__) || defined(__aarch64__)
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 3, NULL), BLIP2_OK);
    for (int r = 0; r < 20; r++) {
        float got[50];
        for (int i = 0; i < 50; i++) got[i] = 1;
        b2_pool_run(r % 2 ? p : NULL, r % 4 ? 50 : 1, note_flush, got);
        for (int i = 0; i < (r % 4 ? 50 : 1); i++) assert_true(got[i] == 0);
        assert_true(halved(FLT_MIN) > 0);
    }
    b2_pool_close(p);
#else
    skip();
#endif
}

/* The child has no workers; its runs must neither hang nor lose chunks, and closing must not wait for
 * threads. */
static void a_forked_child_works_alone(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* ThreadSanitizer stops children that use threads of the parent */
#endif
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 3, NULL), BLIP2_OK);
    struct tally t = {.threads = 3};
    b2_pool_run(p, 100, mark, &t);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        _Atomic int64_t sum = 0;
        b2_pool_run(p, 100, add_up, &sum);
        b2_pool_close(p);
        _exit(sum == 4950 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    b2_pool_close(p);
}

static void opening_and_closing_is_clean(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        b2_pool *p;
        assert_int_equal(b2_pool_open(&p, 1 + i % 5, NULL), BLIP2_OK);
        if (i % 3 == 0) {
            struct tally t = {.threads = 1 + i % 5};
            b2_pool_run(p, 10, mark, &t);
            expect_each_once(&t, 10);
        }
        b2_pool_close(p);
    }
    b2_pool *p;
    assert_int_equal(b2_pool_open(&p, 0, NULL), BLIP2_OK);
    assert_int_equal(b2_pool_threads(p), b2_cpu_count());
    b2_pool_close(p);
}

/* ---- cgroups, in folders that look like them ---- */
static void group_file(const char *root, const char *dir, const char *name, const char *text)
{
    assert_int_equal(b2_make_dirs(unit_path(root, dir), NULL), BLIP2_OK);
    unit_write(unit_path(unit_path(root, dir), name), text, strlen(text));
}

static int quota(const char *root, const char *membership)
{
    group_file(root, "", "membership", membership);
    return b2_cgroup_cpus(unit_path(root, "membership"), root);
}

static void version_2_quotas_are_found(void **state)
{
    const char *root = *state;
    group_file(root, "a/b", "cpu.max", "max 100000\n");
    group_file(root, "a", "cpu.max", "300000 100000\n");
    assert_int_equal(quota(root, "0::/a/b\n"), 3); /* the parent's counts too */
    group_file(root, "a/b", "cpu.max", "150000 100000\n");
    assert_int_equal(quota(root, "0::/a/b\n"), 2);
    group_file(root, "a/b", "cpu.max", "20000 100000\n");
    assert_int_equal(quota(root, "0::/a/b\n"), 1);
    assert_int_equal(quota(root, "0::/\n"), 0);
    group_file(root, "", "cpu.max", "400000 100000\n");
    assert_int_equal(quota(root, "0::/\n"), 4);
    assert_int_equal(quota(root, "0::/the/hosts/path\n"), 4); /* in a container */
    assert_int_equal(quota(root, "12:memory:/x\n0::/a\n"), 3);
    unlink(unit_path(root, "cpu.max"));
    group_file(root, "unified/h", "cpu.max", "500000 100000\n");
    assert_int_equal(quota(root, "0::/h\n"), 5); /* the hybrid layout */
}

static void version_1_quotas_are_found(void **state)
{
    const char *root = *state;
    group_file(root, "cpu,cpuacct/job", "cpu.cfs_quota_us", "200000\n");
    group_file(root, "cpu,cpuacct/job", "cpu.cfs_period_us", "100000\n");
    group_file(root, "cpu,cpuacct", "cpu.cfs_quota_us", "-1\n");
    group_file(root, "cpu,cpuacct", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(root, "4:cpu,cpuacct:/job\n3:cpuset:/\n"), 2);
    assert_int_equal(quota(root, "4:cpu,cpuacct:/job/inner\n"), 2);
    assert_int_equal(quota(root, "4:cpu,cpuacct:/\n"), 0);
    assert_int_equal(quota(root, "3:cpuset:/job\n"), 0);
    group_file(root, "cpu/j", "cpu.cfs_quota_us", "350000\n");
    group_file(root, "cpu/j", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(root, "4:cpuacct,cpu:/j\n"), 4); /* listed under another order than mounted */
}

static void damaged_quotas_count_as_none(void **state)
{
    const char *root = *state;
    static const char *const texts[] = {"", "max", "x y", "100000 0", "-5 100000", "100000"};
    for (int i = 0; i < 6; i++) {
        group_file(root, "d", "cpu.max", texts[i]);
        assert_int_equal(quota(root, "0::/d\n"), 0);
    }
    assert_int_equal(quota(root, "garbage\n:\n0:\n0::\n"), 0);
    assert_int_equal(b2_cgroup_cpus(unit_path(root, "absent"), root), 0);
    assert_in_range(b2_cpu_count(), 1, 1 << 20);
}

static int make_folder(void **state)
{
    *state = unit_folder();
    return 0;
}

static int drop_folder(void **state)
{
    unit_remove(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_runs_once),
        cmocka_unit_test(no_pool_runs_in_the_caller),
        cmocka_unit_test(short_runs_follow_each_other),
        cmocka_unit_test(sleeping_workers_are_woken),
        cmocka_unit_test(slow_workers_are_waited_for),
        cmocka_unit_test(callers_queue_up),
        cmocka_unit_test(subnormals_are_flushed_inside_only),
        cmocka_unit_test(a_forked_child_works_alone),
        cmocka_unit_test(opening_and_closing_is_clean),
        cmocka_unit_test_setup_teardown(version_2_quotas_are_found, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(version_1_quotas_are_found, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(damaged_quotas_count_as_none, make_folder, drop_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
