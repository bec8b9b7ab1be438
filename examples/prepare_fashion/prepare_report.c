/* taxonomy.json, report.json, and the same figures on the terminal. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

static blip2_status open_text(const settings *s, const char *name, char **path, FILE **f, blip2_error *err)
{
    *path = format_text("%s/%s", s->out, name);
    if (!*path) return fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    *f = fopen(*path, "we");
    return *f ? BLIP2_OK : fail_with(err, BLIP2_ERR_IO, "%s: cannot be created: %s", *path, strerror(errno));
}

static blip2_status close_text(FILE *f, char *path, blip2_error *err)
{
    blip2_status s = BLIP2_OK;
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed)
        s = fail_with(err, BLIP2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    free(path);
    return s;
}

static bool learnt(const value_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->at[i].train) return true;
    return false;
}

blip2_status taxonomy_write(const settings *s, const attribute_set *set, const value_table *values,
                            blip2_error *err)
{
    FILE *f = NULL;
    char *path = NULL;
    blip2_status status = open_text(s, "taxonomy.json", &path, &f, err);
    if (status != BLIP2_OK) {
        free(path);
        return status;
    }
    const char *between = "";
    fputs("{", f);
    for (size_t a = 0; a < set->count; a++) {
        const char *comma = "";
        if (!learnt(&values[a])) continue;
        fprintf(f, "%s\n  ", between);
        put_json(f, set->at[a].prefix);
        fputs(": {", f);
        for (size_t i = 0; i < values[a].count; i++) {
            if (!values[a].at[i].train) continue;
            fputs(comma, f);
            put_json(f, values[a].at[i].value);
            fprintf(f, ": %zu", values[a].at[i].train);
            comma = ", ";
        }
        fputs("}", f);
        between = ",";
    }
    fputs("\n}\n", f);
    return close_text(f, path, err);
}

/* ---- report.json ---- */
static size_t kept_count(const catalogue *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) n += product_kept(&c->at[i]);
    return n;
}

/* Calls each(f, reason, count) for every reason, in the order of first use. */
static void each_reason(const catalogue *c, FILE *f,
                        void (*each)(FILE *f, const char *why, size_t n, bool first))
{
    enum { MOST = 16 };
    const char *why[MOST];
    size_t count[MOST], n = 0;
    for (size_t i = 0; i < c->count; i++) {
        size_t k = 0;
        if (!c->at[i].dropped) continue;
        while (k < n && strcmp(why[k], c->at[i].dropped)) k++;
        if (k == MOST) continue;
        if (k == n) {
            why[n] = c->at[i].dropped;
            count[n++] = 0;
        }
        count[k]++;
    }
    for (size_t k = 0; k < n; k++) each(f, why[k], count[k], k == 0);
}

static void reason_json(FILE *f, const char *why, size_t n, bool first)
{
    fputs(first ? "" : ", ", f);
    put_json(f, why);
    fprintf(f, ": %zu", n);
}

static void reason_text(FILE *f, const char *why, size_t n, bool first)
{
    (void)first;
    fprintf(f, "  dropped, %s: %zu\n", why, n);
}

static void problems_json(FILE *f, const catalogue *c)
{
    fputs("  \"problems\": [", f);
    for (size_t i = 0; i < c->problems; i++) {
        fputs(i ? ",\n    {\"file\": " : "\n    {\"file\": ", f);
        put_json(f, c->problem[i].file);
        fprintf(f, ", \"line\": %zu, \"problem\": ", c->problem[i].line);
        put_json(f, c->problem[i].what);
        fputc('}', f);
    }
    fputs(c->problems ? "\n  ],\n" : "],\n", f);
}

static void duplicates_json(FILE *f, const catalogue *c)
{
    const char *between = "";
    fputs("  \"duplicate_photos\": [", f);
    for (size_t i = 0; i < c->count; i++) {
        const product *p = &c->at[i];
        if (!product_kept(p) || p->twin == i) continue;
        fputs(between, f);
        fputs("[", f);
        put_json(f, c->at[p->twin].id);
        fputs(", ", f);
        put_json(f, p->id);
        fputs("]", f);
        between = ", ";
    }
    fputs("],\n", f);
}

static void attributes_json(FILE *f, const attribute_set *set, const value_table *values)
{
    fputs("  \"attributes\": {", f);
    for (size_t a = 0; a < set->count; a++) {
        fputs(a ? ",\n    " : "\n    ", f);
        put_json(f, set->at[a].name);
        fprintf(f, ": {\"products\": %zu, \"values\": {", set->at[a].found);
        for (size_t i = 0; i < values[a].count; i++) {
            fputs(i ? ", " : "", f);
            put_json(f, values[a].at[i].value);
            fprintf(f, ": {\"train\": %zu, \"test\": %zu}", values[a].at[i].train, values[a].at[i].test);
        }
        fputs("}}", f);
    }
    fputs("\n  }\n", f);
}

blip2_status report_write(const catalogue *c, const settings *s, const attribute_set *set,
                          const value_table *values, blip2_error *err)
{
    FILE *f = NULL;
    char *path = NULL;
    blip2_status status = open_text(s, "report.json", &path, &f, err);
    if (status != BLIP2_OK) {
        free(path);
        return status;
    }
    fprintf(f,
            "{\n  \"rows\": {\"read\": %zu, \"repaired\": %zu, \"skipped\": %zu, \"other_article_types\": "
            "%zu},\n",
            c->rows, c->repaired, c->skipped, c->other_types);
    fprintf(
        f,
        "  \"products\": {\"wanted\": %zu, \"kept\": %zu, \"train\": %zu, \"test\": %zu},\n  \"dropped\": {",
        c->count, kept_count(c), c->products_train, c->products_test);
    each_reason(c, f, reason_json);
    fprintf(f, "},\n  \"written\": {\"train\": %zu, \"test\": %zu, \"captions\": %zu},\n", c->rows_train,
            c->rows_test, c->captions);
    fprintf(f, "  \"leakage\": {\"products\": %zu, \"photos\": %zu},\n", c->leaked, c->leaked_photos);
    duplicates_json(f, c);
    problems_json(f, c);
    attributes_json(f, set, values);
    fputs("}\n", f);
    return close_text(f, path, err);
}

static void print_attribute(const attribute *a, const value_table *t)
{
    enum { SHOWN = 6 };
    printf("  %-16s %6zu products, %3zu values", a->name, a->found, t->count);
    for (size_t i = 0; i < t->count && i < SHOWN; i++)
        printf("%s %s %zu", i ? "," : ":", t->at[i].value, t->at[i].train + t->at[i].test);
    puts(t->count > SHOWN ? ", ..." : "");
}

void report_print(const catalogue *c, const settings *s, const attribute_set *set, const value_table *values)
{
    printf("rows read %zu, repaired %zu, skipped %zu, of other article types %zu\n", c->rows, c->repaired,
           c->skipped, c->other_types);
    printf("products %zu, kept %zu\n", c->count, kept_count(c));
    each_reason(c, stdout, reason_text);
    printf("training: %zu products, %zu rows; test: %zu products, %zu rows\n", c->products_train,
           c->rows_train, c->products_test, c->rows_test);
    if (c->captions) printf("captions: %zu rows\n", c->captions);
    printf("leakage: %zu products and %zu photos on both sides\n", c->leaked, c->leaked_photos);
    puts("attributes");
    for (size_t a = 0; a < set->count; a++) print_attribute(&set->at[a], &values[a]);
    printf("written: %s/vqa_train.csv, vqa_test.csv, taxonomy.json, report.json%s\n", s->out,
           c->captions ? ", captions_train.csv" : "");
}
