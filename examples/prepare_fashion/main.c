/* prepare_fashion: a shop's folder (Kaggle's fashion layout) → questions and answers for training and test.
 */
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

/* The choices of the sample that this project started from: questions are divided, not products, so that most
 * photos are on both sides; colour is asked in the test alone. */
static const char *const aws_seed[][2] = {
    {"article-types", "Tshirts,Shirts"},
    {"attributes", "shirts"},
    {"split-by", "question"},
    {"test-fraction", "0.2"},
    {"missing", "drop"},
    {"repair", "skip"},
    {"seed", "200"},
    {"test-only", "baseColour"},
};

/* What nobody chose: the shirts' questions for shirts, the generic ones for everything else. */
static void choose_defaults(settings *s)
{
    static const char shirts[] = "Tshirts,Shirts";
    if (!s->article_types) s->article_types = s->fashion_mnist ? "all" : shirts;
    if (!s->attributes) s->attributes = !strcmp(s->article_types, shirts) ? "shirts" : "generic";
    if (!s->data && s->fashion_mnist) s->data = s->out;
}

static int too_many_bad(const program *p, const catalogue *c, const settings *s)
{
    enum { SHOWN = 20 };
    for (size_t i = 0; i < c->problems && i < SHOWN; i++)
        warning(p, "%s (styles.csv, line %zu): %s", c->problem[i].file, c->problem[i].line,
                c->problem[i].what);
    if (c->problems > SHOWN) warning(p, "and %zu more", c->problems - SHOWN);
    double share = c->count ? 100.0 * (double)c->problems / (double)c->count : 0;
    if (share <= s->max_bad) return -1;
    return failure(p, EXIT_DATA, "%zu of %zu products are bad, %.1f %%; --max-bad allows %g %%", c->problems,
                   c->count, share, s->max_bad);
}

static int write_all(const program *p, catalogue *c, const settings *s, const attribute_set *set)
{
    blip2_error err = BLIP2_ERROR_INIT;
    value_table *values = calloc(set->count, sizeof *values);
    if (!values) return failure(p, EXIT_FAILED, "out of memory");
    blip2_status status = rows_write(c, s, set, values, &err);
    if (status == BLIP2_OK && s->captions > 0) status = captions_write(c, s, &err);
    if (status == BLIP2_OK) status = taxonomy_write(s, set, values, &err);
    if (status == BLIP2_OK) status = report_write(c, s, set, values, &err);
    if (status == BLIP2_OK) report_print(c, s, set, values);
    for (size_t a = 0; a < set->count; a++) {
        for (size_t i = 0; i < values[a].count; i++) free(values[a].at[i].value);
        free(values[a].at);
    }
    free(values);
    return status == BLIP2_OK ? EXIT_DONE : output_failure(p, status, &err);
}

static int prepare(const program *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    attribute_set set = {0};
    catalogue c = {0};
    int code = -1;
    blip2_status status = attributes_load(&set, s->attributes, &err);
    if (status == BLIP2_OK) status = attributes_hold_out(&set, s->test_only, &err);
    if (status == BLIP2_OK) status = catalogue_load(&c, s, &set, &err);
    if (status == BLIP2_OK) status = files_check(&c, s, &set, &err);
    if (status == BLIP2_OK) code = too_many_bad(p, &c, s);
    if (status == BLIP2_OK && code < 0 && c.count == 0)
        status = fail_with(&err, BLIP2_ERR_DATA, "%s/styles.csv: no product of the article types %s", s->data,
                           s->article_types);
    if (status == BLIP2_OK && code < 0) {
        if (!strcmp(s->split_by, "product")) division_by_product(&c, s);
        code = write_all(p, &c, s, &set);
    }
    if (status != BLIP2_OK) code = status_failure(p, status, &err);
    catalogue_free(&c, &set);
    attributes_free(&set);
    return code;
}

static int run(const program *p, settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    choose_defaults(s);
    if (!s->data) return usage_error(p, "--data is missing");
    if (s->captions > 0 && strcmp(s->split_by, "product"))
        return usage_error(p, "--captions needs --split-by product");
    blip2_status status = folder_prepare(s->out, &err);
    if (status != BLIP2_OK) return failure(p, EXIT_USAGE, "--out: %s", err.text);
    if (s->fashion_mnist) {
        settings all = *s;
        status = mnist_lay_out(&all, &err);
        if (status != BLIP2_OK) return status_failure(p, status, &err);
        s->limit = 0; /* it has chosen already */
    }
    return prepare(p, s);
}

int main(int argc, char **argv)
{
    settings s = {.split_by = "product",
                  .missing = "drop",
                  .repair = "join-last",
                  .preset = "none",
                  .test_fraction = 0.2,
                  .max_bad = 1,
                  .seed = 1,
                  .check_photos = 1};
    option_row rows[] = {
        {"data", OPTION_TEXT, &s.data, "DIR", 0, 0, "styles.csv, images.csv, images/ID.jpg, styles/ID.json",
         false, false},
        {"out", OPTION_TEXT, &s.out, "DIR", 0, 0, "where the files go", true, false},
        {"article-types", OPTION_TEXT, &s.article_types, "A,B|all", 0, 0,
         "article types to keep (default Tshirts,Shirts; all with --fashion-mnist)", false, false},
        {"attributes", OPTION_TEXT, &s.attributes, "FILE|shirts|generic", 0, 0,
         "what is asked (default shirts for Tshirts,Shirts, else generic)", false, false},
        {"split-by", OPTION_CHOICE, &s.split_by, "product|question", 0, 0, "what is held out for the test",
         false, false},
        {"test-fraction", OPTION_REAL, &s.test_fraction, "X", 0, 1, "share that is held out", false, false},
        {"test-only", OPTION_TEXT, &s.test_only, "A,B", 0, 0, "attributes asked in the test file only", false,
         false},
        {"seed", OPTION_INT, &s.seed, "N", 0, 4294967295.0, "of the division", false, false},
        {"missing", OPTION_CHOICE, &s.missing, "drop|NA", 0, 0, "attributes without a value", false, false},
        {"repair", OPTION_CHOICE, &s.repair, "join-last|skip", 0, 0, "rows with too many fields", false,
         false},
        {"limit", OPTION_INT, &s.limit, "N", 0, 1e9, "first N products, or photos to lay out; 0: all", false,
         false},
        {"max-bad", OPTION_REAL, &s.max_bad, "PERCENT", 0, 100, "stop when more of the products are bad",
         false, false},
        {"check-photos", OPTION_SWITCH, &s.check_photos, NULL, 0, 0, "decode every photo", false, false},
        {"captions", OPTION_INT, &s.captions, "N", 0, 7, "also captions_train.csv, N captions a photo", false,
         false},
        {"preset", OPTION_CHOICE, &s.preset, "none|aws-seed", 0, 0, "the choices of the AWS sample", false,
         false},
        {"fashion-mnist", OPTION_TEXT, &s.fashion_mnist, "DIR", 0, 0, "first lay these photos out in --data",
         false, false},
        {"device", OPTION_CHOICE, &(const char *){"cpu"}, "cpu", 0, 0,
         "for uniformity; photos are read on the CPU", false, false},
        {"threads", OPTION_INT, &s.threads, "N", 0, 1024, "threads; 0: as many as this process may use",
         false, false},
    };
    program p = {.name = "prepare_fashion",
                 .summary = "product photos and their data to questions and answers",
                 .synopsis = "--data DIR --out DIR [options]",
                 .rows = rows,
                 .count = sizeof rows / sizeof *rows};
    int code = program_options(&p, argc, argv);
    if (code >= 0) return program_end(&p, code);
    if (!strcmp(s.preset, "aws-seed") && !program_preset(&p, aws_seed, sizeof aws_seed / sizeof *aws_seed))
        return failure(&p, EXIT_FAILED, "the preset does not fit the options");
    return program_end(&p, run(&p, &s));
}
