/* How many CPUs this process may use: the affinity mask and the cgroup quota. */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/pool.h"
#include "base/str.h"

/* The kernel refuses masks that are smaller than its own, so the mask grows until it fits. */
static int affinity_cpus(void)
{
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int bad = sched_getaffinity(0, size, set) != 0 ? errno : 0;
        int n = bad ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (n > 0) return n;
        if (bad != EINVAL) break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* The text of DIR/NAME, "" when it cannot be read. */
static void small_file(char *out, size_t room, const char *dir, const char *name)
{
    out[0] = 0;
    char *path = b2_path_join(dir, name), *text = NULL;
    size_t n;
    if (path && b2_read_file(path, 1 << 16, &text, &n, NULL) == BLIP2_OK) snprintf(out, room, "%s", text);
    free(text);
    free(path);
}

static int rounded(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) return 0;
    long long cpus = (quota + period / 2) / period;
    return cpus < 1 ? 1 : cpus > 1 << 20 ? 1 << 20 : (int)cpus;
}

/* Version 2: cpu.max holds "max 100000" or "150000 100000". Version 1: two files, quota -1 means none. */
static int group_quota(const char *dir, bool v2)
{
    char text[64], period[64];
    long long q = 0, p = 0;
    if (v2) {
        small_file(text, sizeof text, dir, "cpu.max");
        return sscanf(text, "%lld %lld", &q, &p) == 2 ? rounded(q, p) : 0;
    }
    small_file(text, sizeof text, dir, "cpu.cfs_quota_us");
    small_file(period, sizeof period, dir, "cpu.cfs_period_us");
    return sscanf(text, "%lld", &q) == 1 && sscanf(period, "%lld", &p) == 1 ? rounded(q, p) : 0;
}

/* The smallest quota on the way from ROOT/group up to ROOT. In a container the group's path may be the
 * host's, which does not exist under its mount: then only the upper folders answer. */
static int path_quota(const char *root, const char *group, bool v2)
{
    b2_str dir = {0};
    b2_str_add(&dir, root);
    size_t top = dir.n;
    b2_str_add(&dir, group);
    int least = 0;
    while (!dir.failed && dir.n >= top) {
        int q = group_quota(dir.p, v2);
        if (q && (!least || q < least)) least = q;
        while (dir.n > top && dir.p[dir.n - 1] != '/') dir.n--;
        if (dir.n <= top) {
            if (dir.p[top] == 0) break; /* the root itself has been asked */
            dir.n = top;
        } else {
            dir.n--; /* the slash */
        }
        dir.p[dir.n] = 0;
    }
    b2_str_free(&dir);
    return least;
}

/* Is "cpu" among the comma-separated controllers? */
static bool has_cpu(const char *list, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t len = 0;
        while (at + len < n && list[at + len] != ',') len++;
        if (len == 3 && memcmp(list + at, "cpu", 3) == 0) return true;
        at += len + 1;
    }
    return false;
}

static int quota_under(const char *mount, const char *folder, const char *group, bool v2)
{
    char *root = b2_path_join(mount, folder);
    int q = root ? path_quota(root, group, v2) : 0;
    free(root);
    return q;
}

/* One line: "ID:CONTROLLERS:PATH"; version 2 is "0::PATH". */
static int line_quota(char *line, const char *mount)
{
    char *list = strchr(line, ':');
    char *path = list ? strchr(list + 1, ':') : NULL;
    if (!path) return 0;
    size_t n = (size_t)(path - list - 1);
    const char *group = strcmp(path + 1, "/") == 0 ? "" : path + 1;
    if (n == 0) {
        int q = path_quota(mount, group, true);
        return q ? q : quota_under(mount, "unified", group, true);
    }
    if (!has_cpu(list + 1, n)) return 0;
    list[1 + n] = 0;
    int q = quota_under(mount, list + 1, group, false); /* usually the folder has the list's name */
    return q ? q : quota_under(mount, "cpu", group, false);
}

int b2_cgroup_cpus(const char *membership, const char *mount)
{
    char *text, *rest = NULL;
    size_t n;
    int least = 0;
    if (b2_read_file(membership, 1 << 20, &text, &n, NULL) != BLIP2_OK) return 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        int q = line_quota(line, mount);
        if (q && (!least || q < least)) least = q;
    }
    free(text);
    return least;
}

int b2_cpu_count(void)
{
    int cpus = affinity_cpus(), quota = b2_cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    return quota && quota < cpus ? quota : cpus;
}
