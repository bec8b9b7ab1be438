/* A bar with the time left on a terminal; now and then a plain line elsewhere. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "examples/common.h"

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(progress *p, const char *label, int64_t first, int64_t total)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    *p = (progress){.label = label, .total = total, .first = first, .started = seconds_now()};
    p->terminal = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    p->color = p->terminal && !(no_color && *no_color);
    p->shown = p->terminal ? 0 : p->started;
}

static int terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

static void time_text(double s, char *out, size_t n)
{
    long t = s < 0 || s > 8640000 ? 0 : (long)(s + 0.5);
    if (t >= 3600)
        snprintf(out, n, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, n, "%ld:%02ld", t / 60, t % 60);
}

static void draw_bar(const progress *p, double share, const char *tail)
{
    int room = terminal_width() - 1 - (int)strlen(p->label) - 10 - (int)strlen(tail);
    int width = room > 40 ? 40 : room, full = (int)(share * width);
    fprintf(stderr, "\r%s %3.0f%% ", p->label, 100 * share);
    if (width >= 5) {
        fprintf(stderr, "[%s", p->color ? "\033[32m" : "");
        for (int i = 0; i < width; i++) fputc(i < full ? '#' : p->color ? ' ' : '.', stderr);
        fprintf(stderr, "%s]", p->color ? "\033[0m" : "");
    }
    fprintf(stderr, " %.*s\033[K", terminal_width() - 10 - (int)strlen(p->label), tail);
    fflush(stderr);
}

void progress_show(progress *p, int64_t done, const char *note)
{
    double now = seconds_now();
    bool last = done >= p->total;
    if (!last && now - p->shown < (p->terminal ? 0.1 : 10.0)) return;
    if (last && !p->terminal && now - p->started < 10.0) return;
    p->shown = now;
    double share = p->total > 0 ? (double)done / (double)p->total : 1;
    double rate = now > p->started ? (double)(done - p->first) / (now - p->started) : 0;
    char left[32], tail[256];
    time_text(rate > 0 ? (double)(p->total - done) / rate : 0, left, sizeof left);
    snprintf(tail, sizeof tail, "%lld/%lld%s%s, %s left", (long long)done, (long long)p->total,
             note ? ", " : "", note ? note : "", left);
    if (p->terminal)
        draw_bar(p, share, tail);
    else
        fprintf(stderr, "%s %.0f%% (%s)\n", p->label, 100 * share, tail);
    p->drawn = p->terminal;
}

void progress_clear(progress *p)
{
    if (!p->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
    p->shown = 0;
}

void progress_end(progress *p) { progress_clear(p); }
