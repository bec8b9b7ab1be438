/* Any bytes as CSV under every repair rule; what was read is written and read again: the same table. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "io/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_row(b2_str *s, char *const *cells, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i) b2_str_add(s, ",");
        if (n == 1 && !cells[i][strspn(cells[i], " \t")]) { /* unquoted, it would be a blank line */
            b2_str_addf(s, "\"%s\"", cells[i]);
            continue;
        }
        b2_csv_quote(s, cells[i]);
    }
    b2_str_add(s, "\r\n");
}

static void write_and_compare(const b2_csv *t)
{
    b2_str s = {0};
    b2_csv again;
    blip2_error e = BLIP2_ERROR_INIT;
    b2_str_add(&s, "\xEF\xBB\xBF"); /* a column's name may begin with these bytes */
    add_row(&s, t->header, t->cols);
    for (size_t r = 0; r < t->rows; r++) add_row(&s, t->cell + r * t->cols, t->cols);
    if (b2_csv_parse(&again, s.p, s.n, "again", B2_CSV_STRICT, &e) != BLIP2_OK) abort();
    if (again.rows != t->rows || again.cols != t->cols) abort();
    for (size_t i = 0; i < t->rows * t->cols; i++)
        if (strcmp(t->cell[i], again.cell[i]) != 0) abort();
    b2_csv_free(&again);
    b2_str_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int rule = B2_CSV_STRICT; rule <= B2_CSV_SKIP; rule++) {
        b2_csv t;
        blip2_error e = BLIP2_ERROR_INIT;
        if (b2_csv_parse(&t, (const char *)data, size, "fuzz", (b2_csv_repair)rule, &e) != BLIP2_OK) {
            if (t.owned || !e.text[0]) abort();
            continue;
        }
        for (size_t r = 1; r < t.rows; r++)
            if (t.line[r] <= t.line[r - 1]) abort();
        if (t.rows * t.cols < 100000) write_and_compare(&t);
        b2_csv_free(&t);
    }
    return 0;
}
