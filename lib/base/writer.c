/* Files that appear whole or not at all. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"

/* A file of a crashed process with our id may be in the way (process ids repeat in containers), a link even.
 */
static FILE *create(const char *tmp)
{
    unlink(tmp);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return NULL;
    FILE *f = fdopen(fd, "wb");
    if (f) return f;
    int saved = errno;
    close(fd);
    unlink(tmp);
    errno = saved;
    return NULL;
}

blip2_status b2_writer_open(b2_writer *w, const char *path, blip2_error *e)
{
    *w = (b2_writer){0};
    b2_str tmp = {0};
    b2_str_addf(&tmp, "%s.tmp.%ld", path, (long)getpid());
    char *copy = b2_strdup(path);
    if (tmp.failed || !copy) {
        b2_str_free(&tmp);
        free(copy);
        return B2_NOMEM(e, path);
    }
    FILE *f = create(tmp.p);
    if (!f) {
        blip2_status s = b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be created", tmp.p);
        b2_str_free(&tmp);
        free(copy);
        return s;
    }
    *w = (b2_writer){.f = f, .path = copy, .tmp = tmp.p};
    return BLIP2_OK;
}

blip2_status b2_writer_put(b2_writer *w, const void *p, size_t n, blip2_error *e)
{
    if (!w->f) return b2_fail(e, BLIP2_ERR_STATE, "a write to a file that is not open");
    if (n == 0) return BLIP2_OK;
    if (fwrite(p, 1, n, w->f) != n) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be written", w->tmp);
    w->crc = b2_crc32(w->crc, p, n);
    w->crc_bytes += n;
    return BLIP2_OK;
}

blip2_status b2_writer_printf(b2_writer *w, blip2_error *e, const char *fmt, ...)
{
    b2_str s = {0};
    va_list ap;
    va_start(ap, fmt);
    b2_str_addv(&s, fmt, ap);
    va_end(ap);
    blip2_status status = s.failed ? B2_NOMEM(e, "a line of text") : b2_writer_put(w, s.p, s.n, e);
    b2_str_free(&s);
    return status;
}

/* Makes the renaming itself survive a power cut. Some file systems cannot do it: no reason to fail. */
static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = !slash ? b2_strdup(".") : b2_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!dir) return;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

blip2_status b2_writer_commit(b2_writer *w, blip2_error *e)
{
    if (!w->f) return b2_fail(e, BLIP2_ERR_STATE, "a file that is not open cannot be committed");
    bool written = fflush(w->f) == 0 && !ferror(w->f) && fsync(fileno(w->f)) == 0;
    int saved = errno;
    if (fclose(w->f) != 0 && written) {
        written = false;
        saved = errno;
    }
    w->f = NULL;
    blip2_status status = BLIP2_OK;
    if (!written) {
        errno = saved;
        status = b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be written", w->tmp);
    } else if (rename(w->tmp, w->path) != 0) {
        status = b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be replaced by %s", w->path, w->tmp);
    } else {
        sync_folder_of(w->path);
        free(w->tmp);
        w->tmp = NULL;
    }
    b2_writer_abort(w); /* what is left; the counters stay readable */
    return status;
}

void b2_writer_abort(b2_writer *w)
{
    if (w->f) fclose(w->f);
    if (w->tmp) unlink(w->tmp);
    free(w->tmp);
    free(w->path);
    w->f = NULL;
    w->path = w->tmp = NULL;
}

/* NAME.tmp.PROCESS of a process that is no more; name NULL: of any file. */
static bool left_over(const char *entry, const char *name)
{
    const char *at = name ? entry + strlen(name) : strstr(entry, ".tmp.");
    long long process;
    if (name && strncmp(entry, name, strlen(name)) != 0) return false;
    if (!at || strncmp(at, ".tmp.", 5) != 0 || !b2_parse_int(at + 5, 1, INT32_MAX, &process)) return false;
    return kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

void b2_sweep_leftovers(const char *dir, const char *name)
{
    DIR *d = opendir(dir);
    if (!d) return;
    for (const struct dirent *x; (x = readdir(d));) {
        if (left_over(x->d_name, name)) unlinkat(dirfd(d), x->d_name, 0);
    }
    closedir(d);
}

blip2_status b2_write_file(const char *path, const void *p, size_t n, blip2_error *e)
{
    b2_writer w;
    blip2_status s = b2_writer_open(&w, path, e);
    if (s == BLIP2_OK) s = b2_writer_put(&w, p, n, e);
    if (s == BLIP2_OK) return b2_writer_commit(&w, e);
    b2_writer_abort(&w);
    return s;
}

static blip2_status copy_bytes(b2_writer *w, FILE *in, const char *from, blip2_error *e)
{
    enum { PIECE = 1 << 16 };
    char *buf = malloc(PIECE);
    if (!buf) return B2_NOMEM(e, from);
    blip2_status s = BLIP2_OK;
    size_t n;
    while (s == BLIP2_OK && (n = fread(buf, 1, PIECE, in)) > 0) s = b2_writer_put(w, buf, n, e);
    if (s == BLIP2_OK && ferror(in)) s = b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be read", from);
    free(buf);
    return s;
}

blip2_status b2_copy_file(const char *from, const char *to, blip2_error *e)
{
    FILE *in = fopen(from, "rbe");
    if (!in) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be opened", from);
    b2_writer w;
    blip2_status s = b2_writer_open(&w, to, e);
    if (s == BLIP2_OK) s = copy_bytes(&w, in, from, e);
    fclose(in);
    if (s == BLIP2_OK) return b2_writer_commit(&w, e);
    b2_writer_abort(&w);
    return s;
}
