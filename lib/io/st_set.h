/* Inside safetensors: one file's header, and the set of files behind b2_st_set. */
#ifndef B2_IO_ST_SET_H
#define B2_IO_ST_SET_H
#include "io/safetensors.h"

#define B2_ST_HEADER_MAX 100000000u        /* bytes of JSON; the format's own limit */
#define B2_ST_VALUES_MAX ((size_t)1 << 21) /* JSON values: about 200,000 tensors */

typedef struct b2_st_header {
    b2_st_tensor *tensor; /* [n], sorted by name */
    size_t n;
    const char **meta; /* [2*metas]: key, value, key, value */
    size_t metas;
    char *text; /* owns names, keys and values */
} b2_st_header;

/* Checks and reads a whole safetensors file lying at p; the tensors' data point into it. `path` must outlive
 * the header. On failure nothing is left allocated. */
blip2_status b2_st_header_parse(b2_st_header *h, const uint8_t *p, size_t size, const char *path,
                                blip2_error *e);
void b2_st_header_free(b2_st_header *h);
/* Binary search in an array sorted by name; NULL when absent. */
const b2_st_tensor *b2_st_lookup(const b2_st_tensor *sorted, size_t n, const char *name);
/* Sorts by name. */
void b2_st_sort(b2_st_tensor *t, size_t n);

typedef struct b2_st_shard {
    char *path;
    b2_map map;
    b2_st_header header;
} b2_st_shard;

struct b2_st_set {
    b2_st_shard *shard; /* [shards] */
    size_t shards;
    b2_st_tensor *tensor; /* [n] sorted by name: a copy of the shards' entries */
    size_t n;
};
/* A set with room for so many files, none open yet; NULL when out of memory. */
b2_st_set *b2_st_set_new(size_t shards);
/* Opens file i; `path` is copied. */
blip2_status b2_st_set_load(b2_st_set *s, size_t i, const char *path, blip2_error *e);
/* The tensors that DIR/model.safetensors.index.json names. */
blip2_status b2_st_open_index(b2_st_set **out, const char *dir, const char *index_path, blip2_error *e);
#endif
