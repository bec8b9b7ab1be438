/* CSV tables. The text is unquoted where it lies: a field never grows, so all cells point into one copy of
 * the file. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "io/csv.h"

#define FILE_MAX   ((size_t)1 << 30)
#define COLS_MAX   4096
#define FIELDS_MAX ((size_t)1 << 20) /* of one record, surplus included */
#define CELLS_MAX  ((size_t)1 << 26) /* short rows are filled up: a small file could ask for any number */

struct reader {
    char *text;     /* n bytes and a NUL */
    size_t n, r, w; /* everything before w is finished fields, r is the next byte to look at; w <= r */
    size_t line;    /* of r, from 1 */
    const char *name;
    b2_csv_repair repair;
    char **field; /* of the current record */
    size_t fields, cap;
    bool quoted; /* the last field began with a quote */
    blip2_error *e;
};

static bool at_end(const struct reader *r) { return r->r >= r->n; }

static bool at_delimiter(const struct reader *r)
{
    return at_end(r) || r->text[r->r] == ',' || r->text[r->r] == '\n' || r->text[r->r] == '\r';
}

/* Copies one byte and counts lines: \n, \r\n and a lone \r end one. */
static void take(struct reader *r)
{
    char c = r->text[r->r++];
    if (c == '\n' || (c == '\r' && (at_end(r) || r->text[r->r] != '\n'))) r->line++;
    r->text[r->w++] = c;
}

static blip2_status read_quoted(struct reader *r)
{
    size_t from = r->line;
    for (r->r++;; take(r)) {
        if (at_end(r))
            return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: line %zu: a quoted field that does not end", r->name,
                           from);
        if (r->text[r->r] != '"') continue;
        r->r++;
        if (at_end(r) || r->text[r->r] != '"') break; /* else two quotes mean one */
    }
    if (!at_delimiter(r) && r->repair == B2_CSV_STRICT)
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: line %zu: text after a closing quote", r->name, r->line);
    return BLIP2_OK;
}

/* Steps over a comma or a line's end; *last: the record is complete. */
static void step(struct reader *r, bool *last)
{
    *last = at_end(r) || r->text[r->r] != ',';
    if (at_end(r)) return;
    char c = r->text[r->r++];
    if (c == '\r' && !at_end(r) && r->text[r->r] == '\n') r->r++;
    if (c != ',') r->line++;
}

static blip2_status add_field(struct reader *r, char *at)
{
    if (r->fields == FIELDS_MAX)
        return b2_fail(r->e, BLIP2_ERR_LIMIT, "%s: line %zu: more than %zu fields", r->name, r->line,
                       FIELDS_MAX);
    if (r->fields == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        char **p = realloc(r->field, cap * sizeof *p);
        if (!p) return B2_NOMEM(r->e, r->name);
        r->field = p;
        r->cap = cap;
    }
    r->field[r->fields++] = at;
    return BLIP2_OK;
}

/* A quote is special only where a field begins; text after a closing quote is kept as it stands (as pandas
 * does). */
static blip2_status read_field(struct reader *r, bool *last)
{
    char *start = r->text + r->w;
    r->quoted = !at_end(r) && r->text[r->r] == '"';
    if (r->quoted) B2_TRY(read_quoted(r));
    while (!at_delimiter(r)) take(r);
    step(r, last); /* first, so that the NUL falls on a byte that was read */
    r->text[r->w++] = 0;
    return add_field(r, start);
}

static blip2_status read_record(struct reader *r)
{
    r->fields = 0;
    for (bool last = false; !last;) B2_TRY(read_field(r, &last));
    return BLIP2_OK;
}

/* A line of nothing, or of spaces and tabs, is no row (pandas skips the same). */
static bool is_blank(const struct reader *r)
{
    return r->fields == 1 && !r->quoted && !r->field[0][strspn(r->field[0], " \t")];
}

/* Text that C strings and Unicode readers can hold, or the line where it is not. */
static blip2_status check_text(const struct reader *r)
{
    if (!memchr(r->text, 0, r->n) && b2_utf8_valid(r->text, r->n)) return BLIP2_OK;
    size_t line = 1;
    for (const char *p = r->text, *end = p + r->n, *next; p < end; p = next, line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        next = nl ? nl + 1 : end;
        if (memchr(p, 0, (size_t)(next - p)))
            return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: line %zu: a NUL byte", r->name, line);
        if (!b2_utf8_valid(p, (size_t)(next - p))) break;
    }
    return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: line %zu: not valid UTF-8", r->name, line);
}

static blip2_status read_header(b2_csv *t, struct reader *r)
{
    do {
        if (at_end(r))
            return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: empty, a header line was expected", r->name);
        B2_TRY(read_record(r));
    } while (is_blank(r));
    if (r->fields > COLS_MAX)
        return b2_fail(r->e, BLIP2_ERR_LIMIT, "%s: %zu columns, at most %d are read", r->name, r->fields,
                       COLS_MAX);
    t->header = malloc(r->fields * sizeof *t->header);
    if (!t->header) return B2_NOMEM(r->e, r->name);
    memcpy(t->header, r->field, r->fields * sizeof *t->header);
    t->cols = r->fields;
    for (size_t i = 1; i < t->cols; i++)
        if (t->header[i][0] && b2_csv_column(t, t->header[i]) != (int)i)
            return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: the column \"%.200s\" stands twice", r->name,
                           t->header[i]);
    return BLIP2_OK;
}

/* Applies the repair rule to a record with too many fields; *keep: the row stays. */
static blip2_status mend(b2_csv *t, struct reader *r, size_t line, bool *keep)
{
    *keep = r->repair == B2_CSV_JOIN_LAST;
    if (r->repair == B2_CSV_STRICT)
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: line %zu: %zu fields, the header has %zu", r->name, line,
                       r->fields, t->cols);
    if (!*keep) {
        t->skipped++;
        return BLIP2_OK;
    }
    for (size_t i = t->cols; i < r->fields; i++) r->field[i][-1] = ','; /* the NUL of the field before */
    r->fields = t->cols;
    t->repaired++;
    return BLIP2_OK;
}

static blip2_status add_row(b2_csv *t, const struct reader *r, size_t line, size_t *cap)
{
    if (t->rows == *cap) {
        size_t rows = *cap ? *cap + *cap / 2 : 64;
        if (rows > CELLS_MAX / t->cols) rows = CELLS_MAX / t->cols;
        if (rows == t->rows)
            return b2_fail(r->e, BLIP2_ERR_LIMIT, "%s: line %zu: more than %zu cells", r->name, line,
                           CELLS_MAX);
        char **cell = realloc(t->cell, rows * t->cols * sizeof *cell);
        if (cell) t->cell = cell;
        size_t *lines = realloc(t->line, rows * sizeof *lines);
        if (lines) t->line = lines;
        if (!cell || !lines) return B2_NOMEM(r->e, r->name);
        *cap = rows;
    }
    char **row = t->cell + t->rows * t->cols;
    for (size_t i = 0; i < t->cols; i++) row[i] = i < r->fields ? r->field[i] : r->text + r->n; /* "" */
    t->short_rows += r->fields < t->cols;
    t->line[t->rows++] = line;
    return BLIP2_OK;
}

static blip2_status read_rows(b2_csv *t, struct reader *r)
{
    size_t cap = 0;
    while (!at_end(r)) {
        size_t line = r->line;
        bool keep = true;
        B2_TRY(read_record(r));
        if (is_blank(r)) continue;
        if (r->fields > t->cols) B2_TRY(mend(t, r, line, &keep));
        if (keep) B2_TRY(add_row(t, r, line, &cap));
    }
    return BLIP2_OK;
}

/* Takes over `text`, which is malloc'ed and has a NUL at n. */
static blip2_status parse_owned(b2_csv *out, char *text, size_t n, const char *name, b2_csv_repair repair,
                                blip2_error *e)
{
    struct reader r = {.text = text, .n = n, .line = 1, .name = name, .repair = repair, .e = e};
    *out = (b2_csv){.owned = text};
    blip2_status s = check_text(&r);
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) r.r = 3; /* a byte order mark */
    if (s == BLIP2_OK) s = read_header(out, &r);
    if (s == BLIP2_OK) s = read_rows(out, &r);
    free(r.field);
    if (s != BLIP2_OK) b2_csv_free(out);
    return s;
}

blip2_status b2_csv_parse(b2_csv *out, const char *text, size_t n, const char *name, b2_csv_repair repair,
                          blip2_error *e)
{
    *out = (b2_csv){0};
    if (n > FILE_MAX)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s: %zu bytes, the limit is %zu", name, n, FILE_MAX);
    char *copy = malloc(n + 1);
    if (!copy) return B2_NOMEM(e, name);
    if (n) memcpy(copy, text, n);
    copy[n] = 0;
    return parse_owned(out, copy, n, name, repair, e);
}

blip2_status b2_csv_load(b2_csv *out, const char *path, b2_csv_repair repair, blip2_error *e)
{
    char *text;
    size_t n;
    *out = (b2_csv){0};
    B2_TRY(b2_read_file(path, FILE_MAX, &text, &n, e));
    return parse_owned(out, text, n, path, repair, e);
}

void b2_csv_free(b2_csv *c)
{
    free(c->header);
    free(c->cell);
    free(c->line);
    free(c->owned);
    *c = (b2_csv){0};
}

int b2_csv_column(const b2_csv *c, const char *name)
{
    for (size_t i = 0; i < c->cols; i++)
        if (strcmp(c->header[i], name) == 0) return (int)i;
    return -1;
}

const char *b2_csv_at(const b2_csv *c, size_t row, int col)
{
    if (row >= c->rows || col < 0 || (size_t)col >= c->cols) return "";
    return c->cell[row * c->cols + (size_t)col];
}

void b2_csv_quote(b2_str *s, const char *field)
{
    if (!strpbrk(field, ",\"\r\n")) {
        b2_str_add(s, field);
        return;
    }
    b2_str_add(s, "\"");
    for (const char *q; (q = strchr(field, '"')); field = q + 1) {
        b2_str_addn(s, field, (size_t)(q - field) + 1);
        b2_str_add(s, "\"");
    }
    b2_str_add(s, field);
    b2_str_add(s, "\"");
}
