/* Photos and styles/ID.json of every product: read on all threads, judged in the order of the file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

typedef struct job {
    catalogue *c;
    const settings *s;
    const attribute_set *set;
} job;

enum { PHOTO_LIMIT = 256 << 20 };

/* The whole file, or NULL with errno. */
static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rbe");
    if (!f) return NULL;
    long n = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    unsigned char *bytes = n >= 0 && n <= PHOTO_LIMIT ? malloc((size_t)n + 1) : NULL;
    rewind(f);
    if (bytes && fread(bytes, 1, (size_t)n, f) != (size_t)n) {
        free(bytes);
        bytes = NULL;
    }
    if (!bytes && !errno) errno = EFBIG;
    fclose(f);
    *size = bytes ? (size_t)n : 0;
    return bytes;
}

static void drop(product *p, const char *why, char *story)
{
    p->dropped = why;
    p->problem = story;
}

static void check_photo(product *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_image image = {0};
    size_t size = 0;
    char *path = format_text("%s/images/%s.jpg", s->data, p->id);
    errno = 0;
    unsigned char *bytes = path ? read_file(path, &size) : NULL;
    if (!bytes) {
        drop(p, "no photo (file missing)", format_text("images/%s.jpg\n%s", p->id, strerror(errno)));
    } else if (s->check_photos && blip2_image_decode(&image, bytes, size, &err) != BLIP2_OK) {
        drop(p, "unreadable photo", format_text("images/%s.jpg\n%s", p->id, err.text));
    } else {
        p->hash = blip2_hash(bytes, size);
        p->bytes = (int64_t)size;
    }
    blip2_image_free(&image);
    free(bytes);
    free(path);
}

/* Markup out, entities in, white space as single blanks; NULL when nothing is left, or only "NA". */
static char *plain_text(const char *html)
{
    static const char *const entity[][2] = {{"&amp;", "&"},   {"&lt;", "<"},  {"&gt;", ">"},
                                            {"&quot;", "\""}, {"&#39;", "'"}, {"&nbsp;", " "}};
    char *out = malloc(strlen(html) + 1), *w = out;
    if (!out) return NULL;
    for (const char *r = html; *r;) {
        char c = *r;
        size_t step = 1;
        if (c == '<' && strchr(r, '>')) {
            step = (size_t)(strchr(r, '>') - r) + 1;
            c = ' ';
        }
        for (size_t i = 0; c == '&' && step == 1 && i < sizeof entity / sizeof *entity; i++)
            if (!strncmp(r, entity[i][0], strlen(entity[i][0]))) {
                step = strlen(entity[i][0]);
                c = entity[i][1][0];
                break;
            }
        r += step;
        if (strchr(" \t\r\n", c)) c = ' ';
        if (c != ' ' || (w > out && w[-1] != ' ')) *w++ = c;
    }
    while (w > out && w[-1] == ' ') w--;
    *w = 0;
    if (*out && strcmp(out, "NA")) return out;
    free(out);
    return NULL;
}

/* "", "NA" and blanks are no value. */
static char *clean(const char *text)
{
    size_t n;
    text += strspn(text, " \t\r\n");
    for (n = strlen(text); n && strchr(" \t\r\n", text[n - 1]);) n--;
    return n == 0 || (n == 2 && !strncmp(text, "NA", 2)) ? NULL : strndup(text, n);
}

static char *from_json(const attribute *a, const blip2_json *data)
{
    if (a->source == FROM_ATTRIBUTES) {
        const char *text =
            blip2_json_string(blip2_json_get(blip2_json_get(data, "articleAttributes"), a->name));
        return text ? clean(text) : NULL;
    }
    const blip2_json *entry = blip2_json_get(blip2_json_get(data, "productDescriptors"), a->name);
    const char *text = blip2_json_string(blip2_json_get(entry, "value"));
    return text ? plain_text(text) : NULL;
}

static blip2_json *load_style(product *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_json *root = NULL;
    char *path = format_text("%s/styles/%s.json", s->data, p->id);
    blip2_status status =
        path ? blip2_json_load(path, &root, &err) : fail_with(&err, BLIP2_ERR_MEMORY, "out of memory");
    if (status == BLIP2_OK && blip2_json_kind(blip2_json_get(root, "data")) != BLIP2_JSON_OBJECT) {
        status = fail_with(&err, BLIP2_ERR_DATA, "no object \"data\"");
        blip2_json_close(root);
        root = NULL;
    }
    if (status != BLIP2_OK)
        drop(p, status == BLIP2_ERR_IO ? "no styles/ID.json" : "broken styles/ID.json",
             format_text("styles/%s.json\n%s", p->id, err.text));
    free(path);
    return root;
}

static void read_values(product *p, const job *j)
{
    const attribute_set *set = j->set;
    blip2_json *root = set->needs_json ? load_style(p, j->s) : NULL;
    if (p->dropped) return;
    const blip2_json *data = blip2_json_get(root, "data");
    p->value = calloc(set->count, sizeof *p->value);
    for (size_t i = 0; p->value && i < set->count; i++) {
        const attribute *a = &set->at[i];
        p->value[i] = a->source == FROM_STYLES_CSV ? clean(blip2_csv_at(j->c->styles, p->row, a->column))
                                                   : from_json(a, data);
    }
    if (!p->value) drop(p, "out of memory", NULL);
    blip2_json_close(root);
}

static void check_one(void *user, int64_t i)
{
    const job *j = user;
    product *p = &j->c->at[i];
    if (!product_kept(p)) return;
    check_photo(p, j->s);
    if (product_kept(p)) read_values(p, j);
}

/* A worker leaves "file\nwhat happened". */
static void collect_problems(catalogue *c)
{
    for (size_t i = 0; i < c->count; i++) {
        product *p = &c->at[i];
        char *cut = p->problem ? strchr(p->problem, '\n') : NULL;
        if (cut)
            catalogue_problem(c, strndup(p->problem, (size_t)(cut - p->problem)), p->line, strdup(cut + 1));
    }
}

static int by_photo(const void *a, const void *b)
{
    const product *const *x = a, *const *y = b;
    if ((*x)->hash != (*y)->hash) return (*x)->hash < (*y)->hash ? -1 : 1;
    if ((*x)->bytes != (*y)->bytes) return (*x)->bytes < (*y)->bytes ? -1 : 1;
    return (*x)->row < (*y)->row ? -1 : 1;
}

static blip2_status find_twins(catalogue *c, blip2_error *err)
{
    const product **list = malloc((c->count + 1) * sizeof(const product *));
    if (!list) return fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) {
        c->at[i].twin = i;
        if (product_kept(&c->at[i])) list[n++] = &c->at[i];
    }
    qsort(list, n, sizeof *list, by_photo);
    for (size_t i = 1; i < n; i++)
        if (list[i]->hash == list[i - 1]->hash && list[i]->bytes == list[i - 1]->bytes)
            c->at[list[i] - c->at].twin = list[i - 1]->twin;
    free(list);
    return BLIP2_OK;
}

blip2_status files_check(catalogue *c, const settings *s, attribute_set *set, blip2_error *err)
{
    enum { SLICE = 512 };
    progress bar;
    progress_begin(&bar, "reading", 0, (int64_t)c->count);
    for (size_t from = 0; from < c->count; from += SLICE) {
        catalogue part = *c;
        part.at += from;
        size_t n = c->count - from < SLICE ? c->count - from : SLICE;
        parallel((int64_t)n, thread_count(s->threads), check_one, &(job){&part, s, set});
        progress_show(&bar, (int64_t)(from + n), NULL);
    }
    progress_end(&bar);
    collect_problems(c);
    for (size_t i = 0; i < c->count; i++)
        for (size_t a = 0; product_kept(&c->at[i]) && a < set->count; a++)
            set->at[a].found += c->at[i].value[a] != NULL;
    return find_twins(c, err);
}
