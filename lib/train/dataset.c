/* Data sets: CSV rows with their photos, checked once when they are opened. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"
#include "train/dataset.h"

typedef struct columns {
    int id, image, question, answer, caption;
} columns;

/* Photos by their name in the CSV: open addressing, filled to at most a half. */
typedef struct photo_index {
    int64_t *slot; /* image number, -1: free */
    const char **name;
    size_t cap;
} photo_index;

static int find_column(const b2_csv *c, const char *name)
{
    for (size_t i = 0; i < c->cols; i++) {
        if (strcasecmp(c->header[i], name) == 0) return (int)i;
    }
    return -1;
}

static blip2_status find_columns(columns *k, const b2_csv *c, const char *csv, blip2_error *e)
{
    *k = (columns){find_column(c, "id"), find_column(c, "image"), find_column(c, "question"),
                   find_column(c, "answer"), find_column(c, "caption")};
    if (k->id < 0 && k->image < 0)
        return b2_fail(e, BLIP2_ERR_DATA, "%s: neither a column \"id\" nor a column \"image\" in its header",
                       csv);
    if (k->question >= 0 && k->answer >= 0) {
        k->caption = -1;
        return BLIP2_OK;
    }
    if (k->caption >= 0) return BLIP2_OK;
    if (k->question < 0 && k->answer < 0)
        return b2_fail(
            e, BLIP2_ERR_DATA,
            "%s: neither columns \"Question\" and \"Answer\" nor a column \"Caption\" in its header", csv);
    return b2_fail(e, BLIP2_ERR_DATA, "%s: column \"%s\" is missing", csv,
                   k->question < 0 ? "Question" : "Answer");
}

static bool below(const char *name)
{
    if (name[0] == '/' || name[0] == 0) return false;
    for (const char *p = name; p; p = strchr(p, '/'), p = p ? p + 1 : NULL) {
        if (p[0] == '.' && p[1] == '.' && (p[2] == 0 || p[2] == '/')) return false;
    }
    return true;
}

static bool known_picture(const unsigned char *p, ssize_t n)
{
    static const unsigned char png[4] = {0x89, 'P', 'N', 'G'};
    if (n < 12) return false;
    if (p[0] == 0xFF && p[1] == 0xD8) return true;
    if (memcmp(p, png, 4) == 0) return true;
    return memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0;
}

/* Is there a picture at `path`? Its size is written; 0: no such file, -1: something else is wrong (said in
 * e). */
static int look_at(const char *path, size_t line, const char *csv, uint64_t *bytes, blip2_error *e)
{
    unsigned char head[12];
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) return 0;
        b2_fail_errno(e, BLIP2_ERR_DATA, "%s: line %zu: photo %s cannot be opened", csv, line, path);
        return -1;
    }
    const ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? pread(fd, head, sizeof head, 0) : -1;
    close(fd);
    if (!known_picture(head, n)) {
        b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: photo %s is not a JPEG, PNG or WebP file", csv, line, path);
        return -1;
    }
    *bytes = (uint64_t)st.st_size;
    return 1;
}

static blip2_status find_photo(char **out, const char *images, const char *name, bool is_path, size_t line,
                               const char *csv, uint64_t *bytes, blip2_error *e)
{
    static const char *const ext[] = {".jpg", ".jpeg", ".png", ".webp"};
    if (!below(name))
        return b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: \"%s\" does not name a photo below the image folder",
                       csv, line, name);
    b2_str path = {0};
    for (size_t i = 0; i < (is_path ? 1 : 4); i++) {
        b2_str_clear(&path);
        b2_str_addf(&path, "%s/%s%s", images, name, is_path ? "" : ext[i]);
        if (path.failed) return b2_str_free(&path), B2_NOMEM(e, "a file name");
        const int found = look_at(path.p, line, csv, bytes, e);
        if (found > 0) {
            *out = path.p;
            return BLIP2_OK;
        }
        if (found < 0) return b2_str_free(&path), BLIP2_ERR_DATA;
    }
    b2_str_free(&path);
    return b2_fail(e, BLIP2_ERR_DATA,
                   is_path ? "%s: line %zu: there is no photo %s/%s"
                           : "%s: line %zu: there is no photo %s/%s.jpg (nor .jpeg, .png, .webp)",
                   csv, line, images, name);
}

static blip2_status image_of_row(blip2_dataset *d, photo_index *ix, const char *images, const char *name,
                                 bool is_path, int64_t row, blip2_error *e)
{
    const size_t line = d->row[row].line;
    uint64_t bytes = 0, key = b2_hash64(is_path, name, strlen(name));
    size_t at = (size_t)key & (ix->cap - 1);
    while (ix->slot[at] >= 0 && strcmp(ix->name[at], name) != 0) at = (at + 1) & (ix->cap - 1);
    if (ix->slot[at] < 0) {
        char *path = NULL;
        B2_TRY(find_photo(&path, images, name, is_path, line, d->name, &bytes, e));
        d->path[d->images] = path;
        d->first[d->images] = row;
        ix->slot[at] = d->images++;
        ix->name[at] = name;
        d->hash = b2_hash64(d->hash, &bytes, sizeof bytes);
    }
    d->row[row].image = ix->slot[at];
    d->row[row].image_path = d->path[ix->slot[at]];
    return BLIP2_OK;
}

static bool blank(const char *s) { return s[strspn(s, " \t\r\n")] == 0; }

static blip2_status read_row(blip2_dataset *d, const columns *k, photo_index *ix, const char *images,
                             int64_t i, blip2_error *e)
{
    blip2_row *r = &d->row[i];
    const b2_csv *c = &d->csv;
    const size_t at = (size_t)i;
    const char *image = k->image >= 0 ? b2_csv_at(c, at, k->image) : "";
    const bool is_path = image[0] != 0;
    r->line = c->line[i];
    r->id = k->id >= 0 ? b2_csv_at(c, at, k->id) : image;
    r->question = k->caption >= 0 ? NULL : b2_csv_at(c, at, k->question);
    r->answer = b2_csv_at(c, at, k->caption >= 0 ? k->caption : k->answer);
    if (r->question && blank(r->question))
        return b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: the question is empty", d->name, r->line);
    if (blank(r->answer))
        return b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: the %s is empty", d->name, r->line,
                       r->question ? "answer" : "caption");
    if (!is_path && r->id[0] == 0)
        return b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: names no photo", d->name, r->line);
    d->hash = b2_hash64(d->hash, r->id, strlen(r->id) + 1);
    if (r->question) d->hash = b2_hash64(d->hash, r->question, strlen(r->question) + 1);
    d->hash = b2_hash64(d->hash, r->answer, strlen(r->answer) + 1);
    return image_of_row(d, ix, images, is_path ? image : r->id, is_path, i, e);
}

static blip2_status read_rows(blip2_dataset *d, const char *images, blip2_error *e)
{
    columns k;
    photo_index ix = {.cap = 64};
    B2_TRY(find_columns(&k, &d->csv, d->name, e));
    while (ix.cap < 2 * (size_t)d->rows) ix.cap *= 2;
    ix.slot = malloc(ix.cap * sizeof *ix.slot);
    ix.name = calloc(ix.cap, sizeof *ix.name);
    d->row = calloc((size_t)d->rows, sizeof *d->row);
    d->path = calloc((size_t)d->rows, sizeof *d->path);
    d->first = calloc((size_t)d->rows, sizeof *d->first);
    blip2_status s =
        ix.slot && ix.name && d->row && d->path && d->first ? BLIP2_OK : B2_NOMEM(e, "a data set");
    for (size_t i = 0; s == BLIP2_OK && i < ix.cap; i++) ix.slot[i] = -1;
    for (int64_t i = 0; s == BLIP2_OK && i < d->rows; i++) s = read_row(d, &k, &ix, images, i, e);
    free(ix.slot);
    free(ix.name);
    return s;
}

static blip2_status fill(blip2_dataset *d, const blip2_dataset_options *o, blip2_error *e)
{
    d->name = b2_strdup(o->csv);
    if (!d->name) return B2_NOMEM(e, "a data set");
    B2_TRY(b2_csv_load(&d->csv, o->csv, B2_CSV_STRICT, e));
    if (d->csv.rows == 0) return b2_fail(e, BLIP2_ERR_DATA, "%s: has no rows", o->csv);
    if (d->csv.rows > INT32_MAX)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s: has more than %d rows", o->csv, INT32_MAX);
    d->rows = (int64_t)d->csv.rows;
    if (o->limit > 0 && o->limit < d->rows) d->rows = o->limit;
    return read_rows(d, o->images, e);
}

blip2_status blip2_dataset_open(const blip2_dataset_options *options, blip2_dataset **out, blip2_error *e)
{
    if (!options || !out || options->size != sizeof *options || !options->csv || !options->images ||
        options->limit < 0)
        return b2_fail(
            e, BLIP2_ERR_ARGUMENT,
            "blip2_dataset_open: options (with csv and images) and a place for the result are needed");
    *out = NULL;
    blip2_dataset *d = calloc(1, sizeof *d);
    if (!d) return B2_NOMEM(e, "a data set");
    const blip2_status s = fill(d, options, e);
    if (s != BLIP2_OK) {
        blip2_dataset_close(d);
        return s;
    }
    *out = d;
    return BLIP2_OK;
}

void blip2_dataset_close(blip2_dataset *d)
{
    if (!d) return;
    for (int64_t i = 0; i < d->images; i++) free(d->path[i]);
    free(d->path);
    free(d->first);
    free(d->row);
    free(d->name);
    b2_csv_free(&d->csv);
    free(d);
}

int64_t blip2_dataset_rows(const blip2_dataset *d) { return d ? d->rows : 0; }
int64_t blip2_dataset_images(const blip2_dataset *d) { return d ? d->images : 0; }

void blip2_dataset_row(const blip2_dataset *d, int64_t i, blip2_row *row)
{
    *row = d && i >= 0 && i < d->rows ? d->row[i] : (blip2_row){0};
}
