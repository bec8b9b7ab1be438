/* Option tables: the same rows are parsed, checked and printed by --help. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "examples/common.h"

static option_row *find(const program *p, const char *name, size_t n)
{
    for (size_t i = 0; i < p->count; i++)
        if (strlen(p->rows[i].name) == n && !strncmp(p->rows[i].name, name, n)) return &p->rows[i];
    return NULL;
}

static bool among(const char *forms, const char *word)
{
    size_t n = strlen(word);
    for (const char *f = forms; n && *f; f += strcspn(f, "|"), f += *f == '|')
        if (strcspn(f, "|") == n && !strncmp(f, word, n)) return true;
    return false;
}

static bool set_switch(int *value, const char *text)
{
    *value = among("on|true|True|yes|1", text);
    return *value || among("off|false|False|no|0", text);
}

static bool set_int(const option_row *r, const char *text, char *why, size_t n)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno == ERANGE) {
        snprintf(why, n, "\"%s\" is not a whole number", text);
        return false;
    }
    if ((double)v < r->lo || (double)v > r->hi) {
        snprintf(why, n, "%s is not between %.15g and %.15g", text, r->lo, r->hi);
        return false;
    }
    *(int64_t *)r->value = v;
    return true;
}

static bool set_real(const option_row *r, const char *text, char *why, size_t n)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end) {
        snprintf(why, n, "\"%s\" is not a number", text);
        return false;
    }
    if (!(v >= r->lo && v <= r->hi)) {
        snprintf(why, n, "%s is not between %.15g and %.15g", text, r->lo, r->hi);
        return false;
    }
    *(double *)r->value = v;
    return true;
}

static bool add_text(text_list *list, const char *text)
{
    const char **more = realloc(list->at, (list->count + 1) * sizeof *more);
    if (!more) return false;
    list->at = more;
    list->at[list->count++] = text;
    return true;
}

/* text NULL: a flag without a value. */
static bool set_row(const option_row *r, const char *text, char *why, size_t n)
{
    switch (r->type) {
    case OPTION_INT: return set_int(r, text, why, n);
    case OPTION_REAL: return set_real(r, text, why, n);
    case OPTION_FLAG:
    case OPTION_SWITCH:
        if (set_switch(r->value, text ? text : "on")) return true;
        snprintf(why, n, "\"%s\" is neither on nor off", text);
        return false;
    case OPTION_CHOICE:
        if (!among(r->form, text)) {
            snprintf(why, n, "\"%s\" is none of %s", text, r->form);
            return false;
        }
        break;
    case OPTION_LIST:
        if (add_text(r->value, text)) return true;
        snprintf(why, n, "out of memory");
        return false;
    case OPTION_TEXT: break;
    }
    if (!*text) {
        snprintf(why, n, "must not be empty");
        return false;
    }
    *(const char **)r->value = text;
    return true;
}

bool program_set(program *p, const char *name, const char *text, char *why, size_t why_size)
{
    option_row *r = find(p, name, strlen(name));
    if (!r) {
        snprintf(why, why_size, "there is no option of this name");
        return false;
    }
    if (!set_row(r, text, why, why_size)) return false;
    r->given = true;
    return true;
}

bool program_preset(program *p, const char *const (*pairs)[2], size_t n)
{
    char why[160];
    for (size_t i = 0; i < n; i++) {
        option_row *r = find(p, pairs[i][0], strlen(pairs[i][0]));
        if (!r || (!r->given && !set_row(r, pairs[i][1], why, sizeof why))) return false;
    }
    return true;
}

bool program_given(const program *p, const char *name)
{
    const option_row *r = find(p, name, strlen(name));
    return r && r->given;
}

static void free_lists(program *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->rows[i].type != OPTION_LIST) continue;
        text_list *list = p->rows[i].value;
        free(list->at);
        *list = (text_list){0};
    }
}

int program_end(program *p, int code)
{
    free_lists(p);
    if ((fflush(stdout) || ferror(stdout)) && code == EXIT_DONE)
        return failure(p, EXIT_FAILED, "standard output cannot be written: %s", strerror(errno));
    return code;
}

/* ---- --help ---- */
static void print_default(const option_row *r)
{
    const char *text = r->type == OPTION_TEXT || r->type == OPTION_CHOICE ? *(const char **)r->value : NULL;
    if (r->required)
        printf(" (required)");
    else if (r->type == OPTION_SWITCH)
        printf(" (default %s)", *(int *)r->value ? "on" : "off");
    else if (r->type == OPTION_INT)
        printf(" (default %lld)", (long long)*(int64_t *)r->value);
    else if (r->type == OPTION_REAL)
        printf(" (default %.10g)", *(double *)r->value);
    else if (text)
        printf(" (default %s)", text);
}

static void print_row(const option_row *r)
{
    char left[128];
    const char *form = r->form ? r->form : "", *dots = r->type == OPTION_LIST ? "..." : "";
    if (r->type == OPTION_SWITCH) form = "on|off";
    snprintf(left, sizeof left, "--%s%s%s%s", r->name, *form ? " " : "", form, dots);
    printf(strlen(left) < 28 ? "  %-28s" : "  %s\n                              ", left);
    printf("%s", r->help);
    if (r->type == OPTION_INT || r->type == OPTION_REAL) printf("; %.15g..%.15g", r->lo, r->hi);
    print_default(r);
    putchar('\n');
}

static int print_help(const program *p)
{
    printf("%s: %s\n\nusage: %s %s\n\n", p->name, p->summary, p->name, p->synopsis);
    for (size_t i = 0; i < p->count; i++) print_row(&p->rows[i]);
    printf("  %-28s%s\n  %-28s%s\n", "--help", "this text", "--version", "the version");
    printf("\nExit status: 0 done, 1 failed while running, 2 usage or configuration, 3 data, 4 device.\n");
    return EXIT_DONE;
}

static int print_version(const program *p)
{
    printf("%s (libblip2) %s\n", p->name, blip2_version());
    return EXIT_DONE;
}

/* ---- the command line ---- */
enum { HELP = 1000, VERSION };

static struct option *long_options(const program *p)
{
    struct option *o = calloc(p->count + 3, sizeof *o);
    if (!o) return NULL;
    for (size_t i = 0; i < p->count; i++) {
        int has = p->rows[i].type == OPTION_FLAG ? optional_argument : required_argument;
        o[i] = (struct option){p->rows[i].name, has, NULL, (int)i};
    }
    o[p->count] = (struct option){"help", no_argument, NULL, HELP};
    o[p->count + 1] = (struct option){"version", no_argument, NULL, VERSION};
    return o;
}

static int apply(program *p, option_row *r, const char *text, int argc, char **argv)
{
    char why[256];
    r->given = true;
    if (!set_row(r, text, why, sizeof why)) return usage_error(p, "--%s: %s", r->name, why);
    if (r->type != OPTION_LIST) return -1;
    for (; optind < argc && argv[optind][0] != '-'; optind++)
        if (!set_row(r, argv[optind], why, sizeof why)) return usage_error(p, "--%s: %s", r->name, why);
    return -1;
}

/* getopt_long takes the beginning of a name for the name; a script that relies on that breaks with the next
 * option. */
static bool shortened(const char *arg, const char *name)
{
    const char *given = arg + 2;
    return strcspn(given, "=") != strlen(name);
}

static int parse_one(program *p, int code, const char *arg, int argc, char **argv, const struct option *known)
{
    if (code == HELP || code == VERSION) {
        if (shortened(arg, code == HELP ? "help" : "version"))
            return usage_error(p, "%s: unknown option", arg);
        return code == HELP ? print_help(p) : print_version(p);
    }
    if (code == ':') return usage_error(p, "%s: a value is missing", arg);
    if (code == '?' || shortened(arg, known[code].name)) return usage_error(p, "%s: unknown option", arg);
    return apply(p, &p->rows[code], optarg, argc, argv);
}

static int check_rest(program *p, int argc, char **argv)
{
    if (optind < argc) return usage_error(p, "%s: unexpected argument", argv[optind]);
    for (size_t i = 0; i < p->count; i++)
        if (p->rows[i].required && !p->rows[i].given)
            return usage_error(p, "--%s is missing", p->rows[i].name);
    return -1;
}

int program_options(program *p, int argc, char **argv)
{
    struct option *known = long_options(p);
    if (!known) return failure(p, EXIT_FAILED, "out of memory");
    optind = 1;
    if (p->word && argc > 1 && argv[1][0] != '-') {
        if (!among(p->word_forms, argv[1])) {
            free(known);
            return usage_error(p, "%s: unknown command, not one of %s", argv[1], p->word_forms);
        }
        *p->word = argv[1];
        optind = 2;
    }
    int result = -1;
    while (result < 0) {
        const char *arg = optind < argc ? argv[optind] : "";
        int code = getopt_long(argc, argv, "+:", known, NULL);
        if (code == -1) break;
        result = parse_one(p, code, arg, argc, argv, known);
    }
    free(known);
    if (result >= 0) return result;
    if (p->word && !**p->word) return usage_error(p, "no command, one of %s", p->word_forms);
    return check_rest(p, argc, argv);
}
