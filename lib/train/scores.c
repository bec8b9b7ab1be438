/* Scores of an evaluation: exact match and macro-F1 by attribute. */
#include <stdlib.h>
#include <string.h>
#include "train/evaluation.h"

static bool space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The next character, a run of blanks being one blank and those at the end nothing; 0 at the end. */
static int next(const char **p)
{
    if (!space(**p)) return **p ? (unsigned char)*(*p)++ : 0;
    while (space(**p)) (*p)++;
    return **p ? ' ' : 0;
}

/* Order of two texts but for the number of blanks. */
static int compare(const char *a, const char *b)
{
    while (space(*a)) a++;
    while (space(*b)) b++;
    for (;;) {
        const int x = next(&a), y = next(&b);
        if (x != y) return x < y ? -1 : 1;
        if (!x) return 0;
    }
}

/* A row's attribute: what stands before ": " in its answer, else its question, else "caption". */
static char *attribute_of(const b2_result *r)
{
    const char *colon = strstr(r->truth, ": ");
    if (!r->question[0]) return b2_strdup("caption");
    return colon && colon > r->truth ? b2_strndup(r->truth, (size_t)(colon - r->truth))
                                     : b2_strdup(r->question);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const b2_attribute *)a)->name, ((const b2_attribute *)b)->name);
}
static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int by_text(const void *a, const void *b) { return compare(*(char *const *)a, *(char *const *)b); }

static int find_attribute(const blip2_evaluation *e, const char *name)
{
    const b2_attribute key = {.name = (char *)(uintptr_t)name};
    const b2_attribute *x =
        e->attributes ? bsearch(&key, e->attribute, (size_t)e->attributes, sizeof key, by_name) : NULL;
    return x ? (int)(x - e->attribute) : -1;
}

static int find_value(const b2_attribute *a, const char *text)
{
    char *key = (char *)(uintptr_t)text;
    char **x = bsearch(&key, a->value, (size_t)a->values, sizeof key, by_text);
    return x ? (int)(x - a->value) : a->values;
}

/* The distinct names, sorted; their texts move into the attributes. */
static blip2_status name_attributes(blip2_evaluation *e, char **name, blip2_error *err)
{
    blip2_status s = BLIP2_OK;
    for (int64_t i = 0; i < e->n; i++) {
        name[i] = attribute_of(&e->result[i]);
        if (!name[i]) s = B2_NOMEM(err, "an evaluation");
    }
    e->attribute = calloc((size_t)e->n, sizeof *e->attribute);
    if (!e->attribute) s = B2_NOMEM(err, "an evaluation");
    if (s == BLIP2_OK) qsort(name, (size_t)e->n, sizeof *name, by_bytes);
    for (int64_t i = 0; i < e->n; i++) {
        if (s == BLIP2_OK && (!e->attributes || strcmp(e->attribute[e->attributes - 1].name, name[i]) != 0))
            e->attribute[e->attributes++].name = name[i];
        else
            free(name[i]);
    }
    return s;
}

static blip2_status number_results(blip2_evaluation *e, blip2_error *err)
{
    for (int64_t i = 0; i < e->n; i++) {
        b2_result *r = &e->result[i];
        char *name = attribute_of(r);
        if (!name) return B2_NOMEM(err, "an evaluation");
        r->attribute = find_attribute(e, name);
        r->right = compare(r->truth, r->answer) == 0;
        e->attribute[r->attribute].n++;
        e->attribute[r->attribute].right += r->right;
        e->right += r->right;
        free(name);
    }
    return BLIP2_OK;
}

/* The mean of the F1 of every value that occurs among the truths. */
static double macro_f1(const b2_attribute *a)
{
    double sum = 0;
    const size_t width = (size_t)a->values + 1;
    for (size_t v = 0; v < (size_t)a->values; v++) {
        int64_t truth = 0, said = 0;
        for (size_t j = 0; j < width; j++) truth += a->count[v * width + j];
        for (size_t i = 0; i < (size_t)a->values; i++) said += a->count[i * width + v];
        sum += 2.0 * (double)a->count[v * width + v] / (double)(truth + said);
    }
    return a->values ? sum / a->values : 0;
}

enum { VALUES = 2048 }; /* an attribute with more different truths is free text: it gets no confusion table */

static blip2_status score(b2_attribute *a, b2_result *const *r, blip2_error *err)
{
    a->value = malloc((size_t)a->n * sizeof *a->value);
    if (!a->value) return B2_NOMEM(err, "an evaluation");
    for (int64_t i = 0; i < a->n; i++) a->value[i] = r[i]->truth;
    qsort(a->value, (size_t)a->n, sizeof *a->value, by_text);
    int distinct = 0;
    for (int64_t i = 0; i < a->n; i++) {
        if (!distinct || compare(a->value[distinct - 1], a->value[i]) != 0)
            a->value[distinct++] = a->value[i];
    }
    if (distinct > VALUES) return BLIP2_OK;
    a->values = distinct;
    const size_t width = (size_t)distinct + 1;
    a->count = calloc((size_t)distinct * width, sizeof *a->count);
    if (!a->count) return B2_NOMEM(err, "an evaluation");
    for (int64_t i = 0; i < a->n; i++)
        a->count[(size_t)find_value(a, r[i]->truth) * width + (size_t)find_value(a, r[i]->answer)]++;
    a->macro_f1 = macro_f1(a);
    return BLIP2_OK;
}

/* Results in the order of their attributes: counting sort. */
static b2_result **by_attribute(const blip2_evaluation *e)
{
    b2_result **out = malloc((size_t)e->n * sizeof(b2_result *));
    int64_t *at = calloc((size_t)e->attributes + 1, sizeof *at);
    for (int i = 0; out && at && i < e->attributes; i++) at[i + 1] = at[i] + e->attribute[i].n;
    for (int64_t i = 0; out && at && i < e->n; i++) out[at[e->result[i].attribute]++] = &e->result[i];
    if (!at) {
        free(out);
        out = NULL;
    }
    free(at);
    return out;
}

blip2_status b2_evaluation_score(blip2_evaluation *e, blip2_error *err)
{
    char **name = calloc((size_t)e->n, sizeof *name);
    blip2_status s = name ? name_attributes(e, name, err) : B2_NOMEM(err, "an evaluation");
    free(name);
    if (s == BLIP2_OK) s = number_results(e, err);
    if (s != BLIP2_OK) return s;
    b2_result **r = by_attribute(e);
    if (!r) return B2_NOMEM(err, "an evaluation");
    int64_t at = 0;
    for (int i = 0; i < e->attributes && s == BLIP2_OK; at += e->attribute[i].n, i++)
        s = score(&e->attribute[i], r + at, err);
    free(r);
    return s;
}

void blip2_evaluation_close(blip2_evaluation *e)
{
    if (!e) return;
    for (int64_t i = 0; e->result && i < e->n; i++) {
        b2_result *r = &e->result[i];
        free(r->id);
        free(r->image_path);
        free(r->question);
        free(r->truth);
        free(r->answer);
    }
    for (int i = 0; i < e->attributes; i++) {
        free(e->attribute[i].name);
        free(e->attribute[i].value);
        free(e->attribute[i].count);
    }
    free(e->result);
    free(e->attribute);
    free(e);
}

double blip2_evaluation_accuracy(const blip2_evaluation *e, const char *attribute, int64_t *n)
{
    const int i = e && attribute ? find_attribute(e, attribute) : -1;
    if (n) *n = 0;
    if (!e || (attribute && i < 0)) return -1.0;
    const int64_t all = i < 0 ? e->n : e->attribute[i].n, right = i < 0 ? e->right : e->attribute[i].right;
    if (n) *n = all;
    return all ? (double)right / (double)all : 0.0;
}
