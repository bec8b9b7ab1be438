/* RFC 4180 CSV: quotes, quoted newlines, CRLF, BOM; rows are checked against the header.
 * Surplus fields: an error, joined into the last column, or the row skipped. */
#ifndef B2_IO_CSV_H
#define B2_IO_CSV_H
#include <stddef.h>
#include "base/err.h"

typedef enum { B2_CSV_STRICT, B2_CSV_JOIN_LAST, B2_CSV_SKIP } b2_csv_repair;
typedef struct b2_csv {
    size_t rows, cols;
    char **header; /* [cols] */
    char **cell;   /* [rows*cols], NUL-terminated UTF-8; missing trailing fields are "" */
    size_t *line;  /* [rows] line of the file where the row begins, from 1 */
    size_t repaired, skipped, short_rows;
    void *owned;
} b2_csv;
blip2_status b2_csv_load(b2_csv *out, const char *path, b2_csv_repair repair, blip2_error *e);
blip2_status b2_csv_parse(b2_csv *out, const char *text, size_t n, const char *name, b2_csv_repair repair,
                          blip2_error *e);
void b2_csv_free(b2_csv *c);
/* Index of a column, -1 when absent. */
int b2_csv_column(const b2_csv *c, const char *name);
const char *b2_csv_at(const b2_csv *c, size_t row, int col);
/* Appends a field, quoted only where needed (as pandas' QUOTE_MINIMAL does). */
struct b2_str;
void b2_csv_quote(struct b2_str *s, const char *field);
#endif
