/* vqa_train.csv and vqa_test.csv: one row per product and attribute. */
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

/* Which article types know an attribute: rows of `has`, one per type, in the order of `type`. */
typedef struct type_table {
    const char **type;
    size_t count;
    bool *has;
} type_table;

typedef struct rows_job {
    catalogue *c;
    const settings *s;
    const attribute_set *set;
    value_table *values;
    type_table types;
    blip2_csv_writer *file[2];
    bool *on_side[2]; /* [photo]: has rows there; for the leak count */
} rows_job;

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t type_index(const type_table *t, const char *type)
{
    const char **hit = bsearch(&type, t->type, t->count, sizeof *t->type, by_text);
    return hit ? (size_t)(hit - t->type) : 0;
}

static bool types_build(type_table *t, const catalogue *c, const attribute_set *set)
{
    t->type = malloc((c->count + 1) * sizeof *t->type);
    if (!t->type) return false;
    for (size_t i = 0; i < c->count; i++) t->type[i] = c->at[i].type;
    qsort(t->type, c->count, sizeof *t->type, by_text);
    for (size_t i = 0; i < c->count; i++)
        if (t->count == 0 || strcmp(t->type[i], t->type[t->count - 1])) t->type[t->count++] = t->type[i];
    t->has = calloc(t->count * set->count + 1, sizeof *t->has);
    for (size_t i = 0; t->has && i < c->count; i++) {
        const product *p = &c->at[i];
        bool *has = t->has + type_index(t, p->type) * set->count;
        for (size_t a = 0; product_kept(p) && a < set->count; a++) has[a] |= p->value[a] != NULL;
    }
    return t->has != NULL;
}

static value_count *value_entry(value_table *t, const char *value)
{
    for (size_t i = 0; i < t->count; i++)
        if (!strcmp(t->at[i].value, value)) return &t->at[i];
    value_count *more = realloc(t->at, (t->count + 1) * sizeof *more);
    if (!more) return NULL;
    t->at = more;
    t->at[t->count] = (value_count){strdup(value), 0, 0};
    return t->at[t->count].value ? &t->at[t->count++] : NULL;
}

static blip2_status write_row(rows_job *j, const product *p, size_t a, const char *value, int side,
                              blip2_error *err)
{
    const attribute *q = &j->set->at[a];
    value_count *count = value_entry(&j->values[a], value);
    char *answer = format_text("%s: %s", q->prefix, value);
    blip2_status s = BLIP2_OK;
    if (!count || !answer)
        s = fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    else if (!(side == 0 && q->test_only)) {
        const char *fields[] = {p->id, q->question, answer};
        s = blip2_csv_write(j->file[side], fields, 3, err);
        count->train += side == 0;
        count->test += side == 1;
        j->c->rows_train += side == 0;
        j->c->rows_test += side == 1;
        j->on_side[side][p->twin] = true;
    }
    free(answer);
    return s;
}

/* The product's rows: an attribute without a value has one only with --missing NA, and only where other
 * products of the type have the attribute. */
static blip2_status product_rows(rows_job *j, const product *p, size_t *which, bool *held_out,
                                 blip2_error *err)
{
    size_t rows = 0, before[2] = {j->c->rows_train, j->c->rows_test};
    const bool *has = j->types.has + type_index(&j->types, p->type) * j->set->count;
    bool na = !strcmp(j->s->missing, "NA"), by_question = !strcmp(j->s->split_by, "question");
    for (size_t a = 0; a < j->set->count; a++)
        if (p->value[a] || (na && has[a])) which[rows++] = a;
    if (by_question) division_by_question(p, j->s, rows, held_out);
    for (size_t i = 0; i < rows; i++) {
        const char *value = p->value[which[i]] ? p->value[which[i]] : "NA";
        blip2_status s = write_row(j, p, which[i], value, by_question ? held_out[i] : p->side == 1, err);
        if (s != BLIP2_OK) return s;
    }
    bool train = j->c->rows_train > before[0], test = j->c->rows_test > before[1];
    j->c->products_train += train;
    j->c->products_test += test;
    j->c->leaked += train && test;
    return BLIP2_OK;
}

static blip2_status all_rows(rows_job *j, blip2_error *err)
{
    size_t *which = malloc(j->set->count * sizeof *which);
    bool *held_out = malloc(j->set->count * sizeof *held_out);
    blip2_status s = which && held_out ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; s == BLIP2_OK && i < j->c->count; i++)
        if (product_kept(&j->c->at[i])) s = product_rows(j, &j->c->at[i], which, held_out, err);
    for (size_t i = 0; s == BLIP2_OK && i < j->c->count; i++)
        j->c->leaked_photos += j->on_side[0][i] && j->on_side[1][i];
    free(which);
    free(held_out);
    return s;
}

static blip2_status open_files(rows_job *j, blip2_error *err)
{
    static const char *const name[] = {"vqa_train.csv", "vqa_test.csv"};
    static const char *const header[] = {"id", "Question", "Answer"};
    blip2_status s = BLIP2_OK;
    for (int side = 0; s == BLIP2_OK && side < 2; side++) {
        char *path = format_text("%s/%s", j->s->out, name[side]);
        j->on_side[side] = calloc(j->c->count + 1, sizeof(bool));
        if (!path || !j->on_side[side]) s = fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
        if (s == BLIP2_OK) s = blip2_csv_create(path, &j->file[side], err);
        if (s == BLIP2_OK) s = blip2_csv_write(j->file[side], header, 3, err);
        free(path);
    }
    return s;
}

static int by_count(const void *a, const void *b)
{
    const value_count *x = a, *y = b;
    size_t n = x->train + x->test, m = y->train + y->test;
    return n != m ? (n < m ? 1 : -1) : strcmp(x->value, y->value);
}

blip2_status rows_write(catalogue *c, const settings *s, const attribute_set *set, value_table *values,
                        blip2_error *err)
{
    rows_job j = {.c = c, .s = s, .set = set, .values = values};
    blip2_status status =
        types_build(&j.types, c, set) ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    if (status == BLIP2_OK) status = open_files(&j, err);
    if (status == BLIP2_OK) status = all_rows(&j, err);
    for (int side = 0; side < 2; side++) {
        if (status == BLIP2_OK)
            status = blip2_csv_commit(j.file[side], err);
        else
            blip2_csv_abort(j.file[side]);
        free(j.on_side[side]);
    }
    for (size_t a = 0; a < set->count; a++)
        if (values[a].count) qsort(values[a].at, values[a].count, sizeof *values[a].at, by_count);
    free(j.types.type);
    free(j.types.has);
    return status;
}
