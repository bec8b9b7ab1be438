/* What is asked: the shipped sets are JSON files made part of the program, others are read from disk. */
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

/* The files' bytes; paths are as seen from the top of the tree, where make runs the compiler. */
#define SHIPPED(symbol, file)                                                                                \
    __asm__(".section .rodata\n"                                                                             \
            ".global " #symbol ", " #symbol "_end\n" #symbol ":\n.incbin \"examples/prepare_fashion/" file   \
            "\"\n" #symbol "_end:\n.byte 0\n.previous\n");                                                   \
    extern const char symbol[], symbol##_end[]
SHIPPED(attributes_shirts, "attributes_shirts.json");
SHIPPED(attributes_generic, "attributes_generic.json");

static bool source_of(const char *text, value_source *out)
{
    static const char *const name[] = {"styles.csv", "articleAttributes", "productDescriptors"};
    for (int i = 0; text && i < 3; i++) {
        if (strcmp(text, name[i])) continue;
        *out = (value_source)i;
        return true;
    }
    return false;
}

static char *copy_of(const blip2_json *row, const char *key)
{
    const char *text = blip2_json_string(blip2_json_get(row, key));
    return text ? strdup(text) : NULL;
}

static blip2_status read_row(attribute *a, const blip2_json *row, const char *name, size_t number,
                             blip2_error *err)
{
    a->name = copy_of(row, "attribute");
    a->question = copy_of(row, "question");
    a->prefix = copy_of(row, "answer_prefix");
    a->column = -1;
    if (!a->name || !a->question || !a->prefix)
        return fail_with(
            err, BLIP2_ERR_CONFIG,
            "%s: row %zu: \"attribute\", \"source\", \"question\" and \"answer_prefix\" must be strings",
            name, number);
    const char *source = blip2_json_string(blip2_json_get(row, "source"));
    if (!source_of(source, &a->source))
        return fail_with(
            err, BLIP2_ERR_CONFIG,
            "%s: row %zu: \"source\" is %s, not styles.csv, articleAttributes or productDescriptors", name,
            number, source ? source : "missing");
    return BLIP2_OK;
}

static blip2_status read_rows(attribute_set *set, const blip2_json *root, const char *name, blip2_error *err)
{
    size_t n = 0;
    for (const blip2_json *r = blip2_json_first(root); r; r = blip2_json_next(r)) n++;
    if (blip2_json_kind(root) != BLIP2_JSON_ARRAY || n == 0)
        return fail_with(err, BLIP2_ERR_CONFIG, "%s: a list of attributes is expected", name);
    set->at = calloc(n, sizeof *set->at);
    if (!set->at) return fail_with(err, BLIP2_ERR_MEMORY, "%s: out of memory", name);
    for (const blip2_json *r = blip2_json_first(root); r; r = blip2_json_next(r)) {
        attribute *a = &set->at[set->count++];
        blip2_status s = read_row(a, r, name, set->count, err);
        if (s != BLIP2_OK) return s;
        if (a->source != FROM_STYLES_CSV) set->needs_json = true;
    }
    return BLIP2_OK;
}

blip2_status attributes_load(attribute_set *set, const char *name, blip2_error *err)
{
    blip2_json *root = NULL;
    blip2_status s;
    *set = (attribute_set){0};
    if (!strcmp(name, "shirts"))
        s = blip2_json_parse(attributes_shirts, (size_t)(attributes_shirts_end - attributes_shirts), name,
                             &root, err);
    else if (!strcmp(name, "generic"))
        s = blip2_json_parse(attributes_generic, (size_t)(attributes_generic_end - attributes_generic), name,
                             &root, err);
    else
        s = blip2_json_load(name, &root, err);
    if (s == BLIP2_OK) s = read_rows(set, root, name, err);
    blip2_json_close(root);
    return s;
}

blip2_status attributes_hold_out(attribute_set *set, const char *names, blip2_error *err)
{
    for (const char *w = names; w && *w; w += strcspn(w, ","), w += *w == ',') {
        size_t n = strcspn(w, ","), hits = 0;
        for (size_t i = 0; i < set->count; i++) {
            if (strlen(set->at[i].name) != n || strncmp(set->at[i].name, w, n)) continue;
            set->at[i].test_only = true;
            hits++;
        }
        if (!hits)
            return fail_with(err, BLIP2_ERR_CONFIG, "--test-only: no attribute is called \"%.*s\"", (int)n,
                             w);
    }
    return BLIP2_OK;
}

void attributes_free(attribute_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        free(set->at[i].name);
        free(set->at[i].question);
        free(set->at[i].prefix);
    }
    free(set->at);
    *set = (attribute_set){0};
}
