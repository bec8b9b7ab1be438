/* Exit codes, messages, folders, threads: what the example programs share beside options and progress. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "examples/common.h"

int status_exit(blip2_status s)
{
    switch (s) {
    case BLIP2_OK: return EXIT_DONE;
    case BLIP2_ERR_ARGUMENT:
    case BLIP2_ERR_STATE:
    case BLIP2_ERR_CONFIG:
    case BLIP2_ERR_UNSUPPORTED: return EXIT_USAGE;
    case BLIP2_ERR_IO:
    case BLIP2_ERR_FORMAT:
    case BLIP2_ERR_DATA:
    case BLIP2_ERR_SHAPE:
    case BLIP2_ERR_LIMIT: return EXIT_DATA;
    case BLIP2_ERR_DEVICE: return EXIT_DEVICE;
    case BLIP2_ERR_MEMORY:
    case BLIP2_ERR_NONFINITE:
    case BLIP2_ERR_CANCELLED: return EXIT_FAILED;
    }
    return EXIT_FAILED;
}

/* ---- messages ---- */
static void say(const program *p, const char *kind, const char *fmt, va_list ap)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s", p->name, kind);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

int usage_error(const program *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(p, "", fmt, ap);
    va_end(ap);
    fprintf(stderr, "Try '%s --help'.\n", p->name);
    return EXIT_USAGE;
}

int failure(const program *p, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(p, "", fmt, ap);
    va_end(ap);
    return code;
}

int status_failure(const program *p, blip2_status s, const blip2_error *err)
{
    return failure(p, status_exit(s), "%s: %s", blip2_strerror(s), err->text);
}

int output_failure(const program *p, blip2_status s, const blip2_error *err)
{
    return failure(p, s == BLIP2_ERR_IO ? EXIT_FAILED : status_exit(s), "%s: %s", blip2_strerror(s),
                   err->text);
}

void warning(const program *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(p, "warning: ", fmt, ap);
    va_end(ap);
}

blip2_status fail_with(blip2_error *err, blip2_status s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    err->code = s;
    return s;
}

static void log_line(void *user, int level, const char *message)
{
    static const char *const kind[] = {"error: ", "warning: ", "", "debug: "};
    const program *p = user;
    fprintf(stderr, "%s: %s%s\n", p->name, level >= 0 && level <= 3 ? kind[level] : "", message);
}

blip2_status device_open(const program *p, const device_settings *d, blip2_device **out, blip2_error *err)
{
    blip2_device_options o = BLIP2_DEVICE_OPTIONS_INIT;
    o.threads = (int)d->threads;
    o.log = log_line;
    o.log_user = (void *)(uintptr_t)p;
    return blip2_device_open(d->name, &o, out, err);
}

/* ---- small helpers ---- */
char *format_text(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

void put_json(FILE *f, const char *text)
{
    size_t n = 0;
    char *quoted = NULL;
    if (text && blip2_json_quote(text, NULL, 0, &n, NULL) == BLIP2_OK && (quoted = malloc(n + 1)) &&
        blip2_json_quote(text, quoted, n + 1, &n, NULL) == BLIP2_OK)
        fputs(quoted, f);
    else
        fputs("null", f);
    free(quoted);
}

static blip2_status make_folders(const char *dir, blip2_error *err)
{
    char *path = strdup(dir);
    if (!path) return fail_with(err, BLIP2_ERR_MEMORY, "%s: out of memory", dir);
    blip2_status s = BLIP2_OK;
    for (char *c = path; s == BLIP2_OK && *c;) {
        c += strspn(c, "/");
        c += strcspn(c, "/");
        char was = *c;
        *c = 0;
        if (*path && mkdir(path, 0777) && errno != EEXIST)
            s = fail_with(err, BLIP2_ERR_IO, "%s: cannot be made: %s", path, strerror(errno));
        *c = was;
    }
    free(path);
    return s;
}

blip2_status folder_prepare(const char *dir, blip2_error *err)
{
    blip2_status s = make_folders(dir, err);
    if (s != BLIP2_OK) return s;
    char *probe = format_text("%s/.probe-XXXXXX", dir);
    if (!probe) return fail_with(err, BLIP2_ERR_MEMORY, "%s: out of memory", dir);
    int fd = mkstemp(probe);
    if (fd < 0)
        s = fail_with(err, BLIP2_ERR_IO, "%s: no file can be created there: %s", dir, strerror(errno));
    else {
        close(fd);
        unlink(probe);
    }
    free(probe);
    return s;
}

bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* ---- threads ---- */
int thread_count(int64_t asked)
{
    if (asked > 0) return (int)asked;
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

typedef struct crowd {
    int64_t n;
    _Atomic int64_t next;
    void (*work)(void *user, int64_t i);
    void *user;
} crowd;

static void *crowd_run(void *arg)
{
    crowd *c = arg;
    int64_t i;
    while ((i = atomic_fetch_add(&c->next, 1)) < c->n) c->work(c->user, i);
    return NULL;
}

void parallel(int64_t n, int threads, void (*work)(void *user, int64_t i), void *user)
{
    enum { MOST = 256 };
    crowd c = {.n = n, .work = work, .user = user};
    pthread_t thread[MOST];
    int started = 0;
    if (threads > MOST) threads = MOST;
    while (started < threads - 1 && pthread_create(&thread[started], NULL, crowd_run, &c) == 0) started++;
    crowd_run(&c);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
}
