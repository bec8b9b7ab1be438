/* The catalogue: rows of styles.csv, minus what images.csv says has no photo, with the sides of split.csv. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "examples/prepare_fashion/prepare.h"

bool product_kept(const product *p) { return !p->dropped; }

void catalogue_problem(catalogue *c, char *file, size_t line, char *what)
{
    problem *more = file && what ? realloc(c->problem, (c->problems + 1) * sizeof *more) : NULL;
    if (!more) {
        free(file);
        free(what);
        return;
    }
    c->problem = more;
    c->problem[c->problems++] = (problem){file, what, line};
}

static blip2_status column(const blip2_csv *csv, const char *path, const char *name, int *out,
                           blip2_error *err)
{
    *out = blip2_csv_column(csv, name);
    if (*out >= 0) return BLIP2_OK;
    return fail_with(err, BLIP2_ERR_DATA, "%s: line 1: no column \"%s\"", path, name);
}

static bool wanted(const char *types, const char *type)
{
    size_t n = strlen(type);
    if (!strcmp(types, "all")) return true;
    for (const char *t = types; *t; t += strcspn(t, ","), t += *t == ',')
        if (strcspn(t, ",") == n && !strncmp(t, type, n)) return true;
    return false;
}

static int by_id(const void *a, const void *b)
{
    const product *const *x = a, *const *y = b;
    int order = strcmp((*x)->id, (*y)->id);
    return order ? order : (*x)->row < (*y)->row ? -1 : 1;
}

/* The products, sorted by id for look-ups; repeated ids lose their later rows. */
static product **sorted(catalogue *c)
{
    product **list = malloc((c->count + 1) * sizeof(product *));
    if (!list) return NULL;
    for (size_t i = 0; i < c->count; i++) list[i] = &c->at[i];
    qsort(list, c->count, sizeof *list, by_id);
    return list;
}

static product *look_up(product *const *list, size_t n, const char *id)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(list[mid]->id, id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && !strcmp(list[lo]->id, id) ? list[lo] : NULL;
}

static blip2_status take_rows(catalogue *c, const settings *s, const char *path, blip2_error *err)
{
    blip2_csv_info info = {.size = sizeof info};
    int id, type;
    blip2_status status = column(c->styles, path, "id", &id, err);
    if (status == BLIP2_OK) status = column(c->styles, path, "articleType", &type, err);
    if (status != BLIP2_OK) return status;
    blip2_csv_get_info(c->styles, &info);
    c->rows = info.rows + info.skipped;
    c->repaired = info.repaired;
    c->skipped = info.skipped;
    c->at = calloc(info.rows + 1, sizeof *c->at);
    if (!c->at) return fail_with(err, BLIP2_ERR_MEMORY, "%s: out of memory", path);
    for (size_t r = 0; r < info.rows; r++) {
        product p = {.id = blip2_csv_at(c->styles, r, id),
                     .type = blip2_csv_at(c->styles, r, type),
                     .row = r,
                     .line = blip2_csv_line(c->styles, r),
                     .side = -1};
        if (!*p.id || strchr(p.id, '/') || p.id[0] == '.') {
            catalogue_problem(c, strdup(path), p.line, format_text("\"%s\" cannot be an id", p.id));
            continue;
        }
        if (wanted(s->article_types, p.type))
            c->at[c->count++] = p;
        else
            c->other_types++;
    }
    return BLIP2_OK;
}

static void drop_repeats(catalogue *c, product **list, const char *path)
{
    for (size_t i = 1; i < c->count; i++) {
        if (strcmp(list[i]->id, list[i - 1]->id)) continue;
        list[i]->dropped = "repeated id";
        c->repeated++;
        catalogue_problem(c, strdup(path), list[i]->line, format_text("id %s was there before", list[i]->id));
    }
}

/* images.csv: `link` is the word "undefined" for a product without a photo. */
static blip2_status read_links(catalogue *c, product *const *list, const char *path, blip2_error *err)
{
    blip2_csv *csv = NULL;
    blip2_csv_info info = {.size = sizeof info};
    int file = 0, link = 0;
    blip2_status s = blip2_csv_load(path, BLIP2_CSV_JOIN_LAST, &csv, err);
    if (s == BLIP2_OK) s = column(csv, path, "filename", &file, err);
    if (s == BLIP2_OK) s = column(csv, path, "link", &link, err);
    if (s == BLIP2_OK) blip2_csv_get_info(csv, &info);
    for (size_t r = 0; s == BLIP2_OK && r < info.rows; r++) {
        if (strcmp(blip2_csv_at(csv, r, link), "undefined")) continue;
        char *id = strdup(blip2_csv_at(csv, r, file));
        char *dot = id ? strrchr(id, '.') : NULL;
        if (dot) *dot = 0;
        product *p = id ? look_up(list, c->count, id) : NULL;
        free(id);
        if (!p || p->dropped) continue;
        p->dropped = "no photo (images.csv: undefined)";
        c->without_link++;
    }
    blip2_csv_close(csv);
    return s;
}

static blip2_status read_split(catalogue *c, product *const *list, const char *path, blip2_error *err)
{
    blip2_csv *csv = NULL;
    blip2_csv_info info = {.size = sizeof info};
    int id = 0, split = 0;
    if (access(path, F_OK)) return BLIP2_OK;
    blip2_status s = blip2_csv_load(path, BLIP2_CSV_STRICT, &csv, err);
    if (s == BLIP2_OK) s = column(csv, path, "id", &id, err);
    if (s == BLIP2_OK) s = column(csv, path, "split", &split, err);
    if (s == BLIP2_OK) blip2_csv_get_info(csv, &info);
    for (size_t r = 0; s == BLIP2_OK && r < info.rows; r++) {
        const char *side = blip2_csv_at(csv, r, split);
        product *p = look_up(list, c->count, blip2_csv_at(csv, r, id));
        if (strcmp(side, "train") && strcmp(side, "test"))
            s = fail_with(err, BLIP2_ERR_DATA, "%s: line %zu: split is \"%s\", not train or test", path,
                          blip2_csv_line(csv, r), side);
        else if (p)
            p->side = !strcmp(side, "test");
    }
    c->has_split = s == BLIP2_OK;
    blip2_csv_close(csv);
    return s;
}

static void keep_first(catalogue *c, int64_t limit)
{
    int64_t kept = 0;
    for (size_t i = 0; limit > 0 && i < c->count; i++)
        if (product_kept(&c->at[i]) && ++kept > limit) c->at[i].dropped = "over --limit";
}

static blip2_status find_columns(const catalogue *c, attribute_set *set, const char *path, blip2_error *err)
{
    blip2_status s = BLIP2_OK;
    for (size_t i = 0; s == BLIP2_OK && i < set->count; i++)
        if (set->at[i].source == FROM_STYLES_CSV)
            s = column(c->styles, path, set->at[i].name, &set->at[i].column, err);
    return s;
}

blip2_status catalogue_load(catalogue *c, const settings *s, attribute_set *set, blip2_error *err)
{
    *c = (catalogue){0};
    char *styles = format_text("%s/styles.csv", s->data), *images = format_text("%s/images.csv", s->data);
    char *split = format_text("%s/split.csv", s->data);
    product **list = NULL;
    blip2_status status =
        styles && images && split ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    blip2_csv_repair repair = strcmp(s->repair, "skip") ? BLIP2_CSV_JOIN_LAST : BLIP2_CSV_SKIP;
    if (status == BLIP2_OK) status = blip2_csv_load(styles, repair, &c->styles, err);
    if (status == BLIP2_OK) status = take_rows(c, s, styles, err);
    if (status == BLIP2_OK) status = find_columns(c, set, styles, err);
    if (status == BLIP2_OK && !(list = sorted(c))) status = fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    if (status == BLIP2_OK) {
        drop_repeats(c, list, styles);
        status = read_links(c, list, images, err);
    }
    if (status == BLIP2_OK && !strcmp(s->split_by, "product")) status = read_split(c, list, split, err);
    if (status == BLIP2_OK) keep_first(c, s->limit);
    free(list);
    free(styles);
    free(images);
    free(split);
    return status;
}

void catalogue_free(catalogue *c, const attribute_set *set)
{
    for (size_t i = 0; i < c->count; i++) {
        for (size_t a = 0; c->at[i].value && a < set->count; a++) free(c->at[i].value[a]);
        free(c->at[i].value);
        free(c->at[i].problem);
    }
    for (size_t i = 0; i < c->problems; i++) {
        free(c->problem[i].file);
        free(c->problem[i].what);
    }
    free(c->problem);
    free(c->at);
    blip2_csv_close(c->styles);
    *c = (catalogue){0};
}
