/* What the example programs share: one option table per program, exit codes, messages, the progress bar. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "blip2.h"

#if defined(__GNUC__)
#define PRINTF_LIKE(a, b) __attribute__((format(printf, a, b)))
#else
#define PRINTF_LIKE(a, b)
#endif

/* ---- exit codes: the one map from a blip2_status is status_exit() ---- */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DATA = 3, EXIT_DEVICE = 4 };
int status_exit(blip2_status s);

/* ---- options ---- */
typedef enum option_type {
    OPTION_FLAG,   /* int: 1 when given; --x=off takes it back */
    OPTION_SWITCH, /* int: on|off, also true|false, yes|no, 1|0 */
    OPTION_INT,    /* int64_t in lo..hi */
    OPTION_REAL,   /* double in lo..hi */
    OPTION_TEXT,   /* const char *, not empty */
    OPTION_CHOICE, /* const char *, one of the words of `form`: "a|b|c" */
    OPTION_LIST    /* text_list: repeats, and takes all words up to the next option */
} option_type;
typedef struct text_list {
    const char **at;
    size_t count;
} text_list;
typedef struct option_row {
    const char *name;
    option_type type;
    void *value;      /* what stands there before parsing is the default, and is shown by --help */
    const char *form; /* "DIR", "N", "a|b|c" */
    double lo, hi;
    const char *help;
    bool required, given;
} option_row;
typedef struct program {
    const char *name, *summary;
    const char *synopsis; /* after the name, on the usage line */
    option_row *rows;
    size_t count;
    const char **word; /* where the one word before the options goes (a sub-command), NULL: none is taken */
    const char *word_forms; /* "info|merge": what it may be */
} program;

/* Reads the command line. Returns -1 to go on, else the exit code (0 after --help or --version). Strings
 * point into argv. Nothing but the full name of an option is understood. */
int program_options(program *p, int argc, char **argv);
/* One option from text, as a configuration file has it; false, and `why` filled, when it does not fit. */
bool program_set(program *p, const char *name, const char *text, char *why, size_t why_size);
/* The same for presets: only where the user has not given the option. */
bool program_preset(program *p, const char *const (*pairs)[2], size_t n);
bool program_given(const program *p, const char *name);
/* At the end of main: frees the lists; the exit code, which is EXIT_FAILED (said) when not everything could
 * be written to standard output. */
int program_end(program *p, int code);

/* Every program's --device and --threads. */
typedef struct device_settings {
    const char *name;
    int64_t threads;
} device_settings;
#define DEVICE_SETTINGS_INIT                                                                                 \
    {                                                                                                        \
        "cpu", 0                                                                                             \
    }
#define DEVICE_OPTIONS(d)                                                                                    \
    {"device", OPTION_TEXT, &(d).name, "NAME", 0, 0, "where the work runs", false, false},                   \
    {                                                                                                        \
        "threads", OPTION_INT, &(d).threads, "N", 0, 1024, "threads; 0: as many as this process may use",    \
            false, false                                                                                     \
    }
blip2_status device_open(const program *p, const device_settings *d, blip2_device **out, blip2_error *err);
int thread_count(int64_t asked); /* 0: the processors this process may use */

/* ---- messages on standard error, each "NAME: ..." ---- */
int usage_error(const program *p, const char *fmt, ...) PRINTF_LIKE(2, 3);       /* EXIT_USAGE */
int failure(const program *p, int code, const char *fmt, ...) PRINTF_LIKE(3, 4); /* code */
int status_failure(const program *p, blip2_status s, const blip2_error *err);    /* status_exit(s) */
int output_failure(const program *p, blip2_status s, const blip2_error *err);    /* a write: 1, never 3 */
void warning(const program *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- small helpers ---- */
char *format_text(const char *fmt, ...) PRINTF_LIKE(1, 2); /* malloc'ed; NULL when out of memory */
void put_json(FILE *f, const char *text);                  /* a quoted string; null for NULL */
/* Makes a folder (and those above it) and proves that a file can be created in it; fills err. */
blip2_status folder_prepare(const char *dir, blip2_error *err);
bool same_folder(const char *a, const char *b); /* both exist, and are one */
blip2_status fail_with(blip2_error *err, blip2_status s, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Runs work(user, i) for i in 0..n-1 on `threads` threads, in no order. */
void parallel(int64_t n, int threads, void (*work)(void *user, int64_t i), void *user);

/* ---- progress: a bar with the time left on a terminal (10 Hz at most; NO_COLOR honoured), else a line at
 * most every ten seconds, on standard error ---- */
typedef struct progress {
    const char *label;
    int64_t total, first; /* first: what was done before the clock started (a resumed run) */
    bool terminal, color, drawn;
    double started, shown;
} progress;
void progress_begin(progress *p, const char *label, int64_t first, int64_t total);
void progress_show(progress *p, int64_t done, const char *note); /* note: NULL or "loss 0.12" */
void progress_clear(progress *p);                                /* before a line is printed */
void progress_end(progress *p);
double seconds_now(void); /* monotonic */

#endif
