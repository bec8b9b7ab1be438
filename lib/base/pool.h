/* Thread pool of one device: dynamic chunks, a short spin, then futex. The caller works too. */
#ifndef B2_BASE_POOL_H
#define B2_BASE_POOL_H
#include <stdint.h>
#include "base/err.h"

typedef struct b2_pool b2_pool;
/* threads <= 0: as many as the affinity mask and the cgroup cpu quota allow. */
blip2_status b2_pool_open(b2_pool **out, int threads, blip2_error *e);
void b2_pool_close(b2_pool *p);        /* NULL allowed */
int b2_pool_threads(const b2_pool *p); /* NULL: 1 */
int b2_cpu_count(void);                /* affinity and cgroup quota, at least 1 */
/* CPUs that the cgroup quota grants (rounded to whole ones, at least 1), 0 when there is none. membership: a
 * file in the format of /proc/self/cgroup; mount: where the groups are mounted, /sys/fs/cgroup. Versions 1
 * and 2, all ancestors. */
int b2_cgroup_cpus(const char *membership, const char *mount);

typedef void (*b2_chunk_fn)(void *ctx, int64_t chunk, int worker); /* worker in 0..threads-1 */
/* Runs fn for every chunk in 0..chunks-1, each exactly once, in any order; returns when all are done.
 * Runs may come from several threads (they queue up); fn must not call b2_pool_run. p == NULL runs in the
 * caller. Workers that never started are not waited for, so a busy machine costs little. FTZ and DAZ are on
 * inside fn. */
void b2_pool_run(b2_pool *p, int64_t chunks, b2_chunk_fn fn, void *ctx);
#endif
