/* prepare_fashion: from a shop's folder to rows of questions and answers. main.c shows the order of the
 * steps. */
#ifndef PREPARE_H
#define PREPARE_H

#include "examples/common.h"

typedef struct settings {
    const char *data, *out, *article_types, *attributes, *split_by, *missing, *repair, *preset,
        *fashion_mnist;
    const char *test_only;
    double test_fraction, max_bad;
    int64_t seed, limit, captions, threads;
    int check_photos;
} settings;

/* ---- attribute_sets.c: what is asked, read from JSON ---- */
typedef enum value_source { FROM_STYLES_CSV, FROM_ATTRIBUTES, FROM_DESCRIPTORS } value_source;
typedef struct attribute {
    char *name, *question, *prefix;
    value_source source;
    bool test_only;
    int column;   /* of styles.csv, where the value stands there */
    size_t found; /* products that have a value */
} attribute;
typedef struct attribute_set {
    attribute *at;
    size_t count;
    bool needs_json;
} attribute_set;
/* name: "shirts", "generic", or the path of a file. */
blip2_status attributes_load(attribute_set *set, const char *name, blip2_error *err);
/* test_only: comma-separated names. */
blip2_status attributes_hold_out(attribute_set *set, const char *names, blip2_error *err);
void attributes_free(attribute_set *set);

/* ---- products.c: styles.csv, images.csv, split.csv ---- */
typedef struct product {
    const char *id, *type; /* of styles.csv */
    size_t row, line;      /* there */
    const char *dropped;   /* why it is left out, or NULL */
    char *problem;         /* what is wrong with its files, or NULL */
    char **value;          /* [attributes], NULL where missing */
    uint64_t hash;         /* of the photo's bytes */
    int64_t bytes;
    size_t twin; /* the first product with the same photo; itself when there is none before */
    int side;    /* 0 training, 1 test, -1 not known yet */
} product;
typedef struct problem {
    char *file, *what;
    size_t line;
} problem;
typedef struct catalogue {
    blip2_csv *styles;
    product *at;
    size_t count; /* products of the wanted types */
    size_t rows, other_types, without_link, repaired, skipped, repeated;
    bool has_split;   /* split.csv was there */
    problem *problem; /* in the order of the file */
    size_t problems;
    size_t rows_train, rows_test, products_train, products_test, leaked, leaked_photos, captions;
} catalogue;
blip2_status catalogue_load(catalogue *c, const settings *s, attribute_set *set, blip2_error *err);
void catalogue_free(catalogue *c, const attribute_set *set);
/* Notes a problem; takes `what`. */
void catalogue_problem(catalogue *c, char *file, size_t line, char *what);
bool product_kept(const product *p);

/* ---- product_files.c: photos and styles/ID.json of every product ---- */
blip2_status files_check(catalogue *c, const settings *s, attribute_set *set, blip2_error *err);

/* ---- division.c: which product, or which question, is held out ---- */
void division_by_product(catalogue *c, const settings *s);
/* Marks the held-out rows of a product with n rows: about fraction*n of them, chosen by seed and id. */
void division_by_question(const product *p, const settings *s, size_t n, bool *held_out);

/* ---- qa_rows.c, caption_rows.c, prepare_report.c: what is written ---- */
typedef struct value_count {
    char *value;
    size_t train, test;
} value_count;
typedef struct value_table { /* of one attribute, most frequent first once sorted */
    value_count *at;
    size_t count;
} value_table;
blip2_status rows_write(catalogue *c, const settings *s, const attribute_set *set, value_table *values,
                        blip2_error *err);
blip2_status captions_write(catalogue *c, const settings *s, blip2_error *err);
blip2_status taxonomy_write(const settings *s, const attribute_set *set, const value_table *values,
                            blip2_error *err);
blip2_status report_write(const catalogue *c, const settings *s, const attribute_set *set,
                          const value_table *values, blip2_error *err);
void report_print(const catalogue *c, const settings *s, const attribute_set *set, const value_table *values);

/* ---- mnist_layout.c: Fashion-MNIST as a shop's folder ---- */
blip2_status mnist_lay_out(const settings *s, blip2_error *err);

#endif
