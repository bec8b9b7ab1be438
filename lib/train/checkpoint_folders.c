/* Folders of checkpoints: listing, removing, sweeping. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"
#include "train/checkpoint.h"

static int newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static bool step_of(const char *name, int64_t *step)
{
    long long n;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9' ||
        !b2_parse_int(name + 5, 0, INT64_MAX, &n))
        return false;
    *step = n;
    return true;
}

blip2_status b2_checkpoints_list(const char *dir, int64_t **out, size_t *n, blip2_error *e)
{
    size_t cap = 0;
    int64_t step;
    *out = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d) return errno == ENOENT ? BLIP2_OK : b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be opened", dir);
    for (const struct dirent *x; (x = readdir(d));) {
        if (!step_of(x->d_name, &step)) continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 16;
            int64_t *grown = realloc(*out, cap * sizeof *grown);
            if (!grown) {
                closedir(d);
                free(*out);
                *out = NULL;
                *n = 0;
                return B2_NOMEM(e, "a list of checkpoints");
            }
            *out = grown;
        }
        (*out)[(*n)++] = step;
    }
    closedir(d);
    if (*n) qsort(*out, *n, sizeof **out, newest_first);
    return BLIP2_OK;
}

/* The files of a folder without folders in it, then the folder itself. */
static void remove_folder(int at, const char *name)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0) close(fd);
        return;
    }
    for (const struct dirent *x; (x = readdir(d));) {
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0) unlinkat(fd, x->d_name, 0);
    }
    closedir(d);
    unlinkat(at, name, AT_REMOVEDIR);
}

void b2_checkpoint_remove(const char *dir, const char *name)
{
    char gone[96];
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    snprintf(gone, sizeof gone, ".tmp-old-%s.%ld", name, (long)getpid());
    remove_folder(fd, gone);
    if (renameat(fd, name, fd, gone) == 0) remove_folder(fd, gone);
    close(fd);
}

void b2_checkpoints_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return;
    for (const struct dirent *x; (x = readdir(d));) {
        if (strncmp(x->d_name, ".tmp-step-", 10) == 0 || strncmp(x->d_name, ".tmp-old-step-", 14) == 0)
            remove_folder(dirfd(d), x->d_name);
    }
    closedir(d);
}

void b2_sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* some file systems cannot: no reason to fail */
    close(fd);
}
