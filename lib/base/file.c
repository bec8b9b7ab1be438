/* Reading files: mappings and whole files; folders. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"

/* Opens for reading without ever waiting (a FIFO with no writer would block otherwise). */
static int open_read(const char *path) { return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); }

static blip2_status map_fd(b2_map *m, int fd, const char *path, blip2_error *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be examined", path);
    if (!S_ISREG(st.st_mode)) return b2_fail(e, BLIP2_ERR_IO, "%s: not a regular file", path);
    if ((uint64_t)st.st_size > (uint64_t)PTRDIFF_MAX)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s: too large to be mapped", path);
    if (st.st_size == 0) return BLIP2_OK;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be mapped", path);
    m->p = p;
    m->size = (size_t)st.st_size;
    return BLIP2_OK;
}

blip2_status b2_map_open(b2_map *m, const char *path, blip2_error *e)
{
    *m = (b2_map){0};
    int fd = open_read(path);
    if (fd < 0) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be opened", path);
    blip2_status s = map_fd(m, fd, path, e);
    close(fd);
    return s;
}

void b2_map_close(b2_map *m)
{
    if (m->p) munmap((void *)m->p, m->size);
    *m = (b2_map){0};
}

/* Reads up to the end; the size that stat tells is only a first guess (pipes and /proc tell 0). */
static blip2_status read_all(int fd, size_t guess, size_t limit, const char *path, b2_str *s, blip2_error *e)
{
    if (guess > limit)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s: %zu bytes, the limit is %zu", path, guess, limit);
    size_t cap = guess + 1;
    for (;;) {
        if (s->n + 1 >= s->cap) {
            if (s->cap) cap = s->cap + s->cap / 2 + 4096;
            char *p = realloc(s->p, cap + 1);
            if (!p) return B2_NOMEM(e, path);
            s->p = p;
            s->cap = cap + 1;
        }
        ssize_t got = read(fd, s->p + s->n, s->cap - 1 - s->n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be read", path);
        if (got == 0) break;
        s->n += (size_t)got;
        if (s->n > limit) return b2_fail(e, BLIP2_ERR_LIMIT, "%s: more than %zu bytes", path, limit);
    }
    s->p[s->n] = 0;
    return BLIP2_OK;
}

blip2_status b2_read_file(const char *path, size_t limit, char **out, size_t *size, blip2_error *e)
{
    *out = NULL;
    if (size) *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be opened", path);
    struct stat st;
    b2_str s = {0};
    blip2_status status;
    if (fstat(fd, &st) != 0)
        status = b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be examined", path);
    else
        status = read_all(fd, S_ISREG(st.st_mode) ? (size_t)st.st_size : 0, limit, path, &s, e);
    close(fd);
    if (status != BLIP2_OK) {
        b2_str_free(&s);
        return status;
    }
    *out = s.p;
    if (size) *size = s.n;
    return BLIP2_OK;
}

bool b2_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool b2_same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

blip2_status b2_make_dirs(const char *path, blip2_error *e)
{
    char *p = b2_strdup(path);
    if (!p) return B2_NOMEM(e, path);
    blip2_status status = BLIP2_OK;
    for (char *at = p; *at && status == BLIP2_OK;) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        char kept = *at;
        *at = 0;
        if (*p && mkdir(p, 0777) != 0 && !is_folder(p))
            status = b2_fail_errno(e, BLIP2_ERR_IO, "%s: the folder cannot be made", p);
        *at = kept;
    }
    free(p);
    return status;
}
