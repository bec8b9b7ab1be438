/* captions_train.csv: what a plain captioner learns from. The captions name the same things as the answers
 * do, never in the answers' form. */
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

/* {a} the article, {c} its category, {s} its sub-category. */
static const char *const caption_form[] = {
    "{a}, a product of the {c} department",
    "a shop photo of one {a} ({s})",
    "{c} / {s} / {a}",
    "this picture shows {a}, kind {s}, from {c}",
    "{a}",
    "found among {s}: the article {a}",
    "department {c}, shelf {s}, labelled {a}",
};
enum { FORMS = sizeof caption_form / sizeof *caption_form };

static const char *word(const catalogue *c, const product *p, char letter, const int column[2])
{
    const char *text = letter == 'a' ? p->type : blip2_csv_at(c->styles, p->row, column[letter == 's']);
    return *text ? text : "other";
}

static char *fill(const char *form, const catalogue *c, const product *p, const int column[2])
{
    char *out = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&out, &n);
    if (!f) return NULL;
    for (; *form; form++) {
        if (*form == '{') {
            fputs(word(c, p, form[1], column), f);
            form += 2;
        } else {
            fputc(*form, f);
        }
    }
    if (fclose(f) == 0) return out;
    free(out);
    return NULL;
}

static blip2_status product_captions(catalogue *c, const settings *s, const product *p, size_t number,
                                     const int column[2], blip2_csv_writer *w, blip2_error *err)
{
    blip2_status status = BLIP2_OK;
    for (int64_t i = 0; status == BLIP2_OK && i < s->captions; i++) {
        /* Fewer captions than forms: each product begins at another form, so that all are met equally often.
         */
        char *text = fill(caption_form[((int64_t)number * s->captions + i) % FORMS], c, p, column);
        const char *fields[] = {p->id, text};
        status =
            text ? blip2_csv_write(w, fields, 2, err) : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
        c->captions += status == BLIP2_OK;
        free(text);
    }
    return status;
}

blip2_status captions_write(catalogue *c, const settings *s, blip2_error *err)
{
    static const char *const header[] = {"id", "Caption"};
    const int column[2] = {blip2_csv_column(c->styles, "masterCategory"),
                           blip2_csv_column(c->styles, "subCategory")};
    blip2_csv_writer *w = NULL;
    size_t number = 0;
    char *path = format_text("%s/captions_train.csv", s->out);
    blip2_status status =
        path ? blip2_csv_create(path, &w, err) : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    if (status == BLIP2_OK) status = blip2_csv_write(w, header, 2, err);
    for (size_t i = 0; status == BLIP2_OK && i < c->count; i++)
        if (product_kept(&c->at[i]) && c->at[i].side == 0)
            status = product_captions(c, s, &c->at[i], number++, column, w, err);
    if (status == BLIP2_OK)
        status = blip2_csv_commit(w, err);
    else
        blip2_csv_abort(w);
    free(path);
    return status;
}
