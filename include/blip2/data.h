/* Data files as the programs read and write them: CSV with a repair rule, JSON behind guards, IDX (the MNIST
 * format), JPEG writing. Advanced, and may change until 1.0: the model needs none of it. Handles are used by
 * one thread at a time; a document that nobody closes meanwhile can be read by any number. */
#ifndef BLIP2_DATA_H
#define BLIP2_DATA_H

#include <stdint.h>
#include "blip2/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- CSV (RFC 4180: quotes, quoted line ends, CRLF, byte order mark) ---- */
typedef struct blip2_csv blip2_csv;
/* What becomes of a row with more fields than the header: an error; the surplus joined back into the last
 * column; the row left out. Missing fields at the end of a row are "". */
typedef enum blip2_csv_repair { BLIP2_CSV_STRICT, BLIP2_CSV_JOIN_LAST, BLIP2_CSV_SKIP } blip2_csv_repair;

BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_csv_load(const char *path, blip2_csv_repair repair,
                                                       blip2_csv **out, blip2_error *err);
BLIP2_API void blip2_csv_close(blip2_csv *c); /* NULL allowed */
typedef struct blip2_csv_info {
    size_t size;
    size_t rows, columns;
    size_t repaired, skipped, short_rows; /* joined; left out; with too few fields */
} blip2_csv_info;
BLIP2_API void blip2_csv_get_info(const blip2_csv *c, blip2_csv_info *info); /* set info->size first */
BLIP2_API int blip2_csv_column(const blip2_csv *c, const char *name);        /* -1 when there is none */
/* A cell, "" when outside the table. Lives as long as c. */
BLIP2_API const char *blip2_csv_at(const blip2_csv *c, size_t row, int column);
BLIP2_API size_t blip2_csv_line(const blip2_csv *c, size_t row); /* of the file, from 1 */

/* Fields are quoted only where needed; the file appears whole on commit, which frees w as abort does. */
typedef struct blip2_csv_writer blip2_csv_writer;
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_csv_create(const char *path, blip2_csv_writer **out,
                                                         blip2_error *err);
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_csv_write(blip2_csv_writer *w, const char *const *fields,
                                                        size_t n, blip2_error *err);
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_csv_commit(blip2_csv_writer *w, blip2_error *err);
BLIP2_API void blip2_csv_abort(blip2_csv_writer *w); /* NULL allowed */

/* ---- JSON ---- */
typedef struct blip2_json blip2_json; /* a value; the document is what load and parse return */
typedef enum blip2_json_type {
    BLIP2_JSON_NULL,
    BLIP2_JSON_BOOL,
    BLIP2_JSON_NUMBER,
    BLIP2_JSON_STRING,
    BLIP2_JSON_ARRAY,
    BLIP2_JSON_OBJECT
} blip2_json_type;
/* Limits: 64 MiB, 4 million values, and a bounded depth. `name` stands in messages where a file has its path.
 */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_json_load(const char *path, blip2_json **out, blip2_error *err);
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_json_parse(const char *text, size_t size, const char *name,
                                                         blip2_json **out, blip2_error *err);
BLIP2_API void blip2_json_close(blip2_json *document);          /* NULL allowed */
BLIP2_API blip2_json_type blip2_json_kind(const blip2_json *v); /* NULL reads as null, here and below */
BLIP2_API const blip2_json *blip2_json_get(const blip2_json *object, const char *key); /* NULL when absent */
BLIP2_API const blip2_json *
blip2_json_first(const blip2_json *v); /* members of an object, items of an array */
BLIP2_API const blip2_json *blip2_json_next(const blip2_json *v);
BLIP2_API const char *blip2_json_key(const blip2_json *v);    /* of a member of an object, else NULL */
BLIP2_API const char *blip2_json_string(const blip2_json *v); /* NULL when it is not a string */
BLIP2_API double blip2_json_number(const blip2_json *v, double fallback);
/* A text as a JSON string, quotes and escapes included. Writes a NUL; *size = bytes without it; buffer may be
 * NULL to ask. BLIP2_ERR_LIMIT when it does not fit. */
BLIP2_API blip2_status blip2_json_quote(const char *text, char *buffer, size_t capacity, size_t *size,
                                        blip2_error *err);

/* ---- IDX, plain or gzip'ed ---- */
typedef struct blip2_idx {
    int dims;
    uint32_t shape[4];
    uint8_t *data; /* the library's: blip2_idx_free */
    size_t bytes;
} blip2_idx;
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_idx_load(const char *path, size_t max_bytes, blip2_idx *out,
                                                       blip2_error *err);
BLIP2_API void blip2_idx_free(blip2_idx *x);

/* ---- pictures and bytes ---- */
/* A baseline JPEG, quality 1..100; *out is malloc'ed, free() it. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_image_encode_jpeg(const blip2_image *img, int quality,
                                                                unsigned char **out, size_t *size,
                                                                blip2_error *err);
BLIP2_API uint64_t blip2_hash(const void *bytes, size_t size); /* of contents; not cryptographic */

#ifdef __cplusplus
}
#endif
#endif
