/* safetensors, single files and sharded folders (format: huggingface/safetensors README).
 * Files are mmap'ed; tensor data is used where it lies. Every rule of the format is checked before use. */
#ifndef B2_IO_SAFETENSORS_H
#define B2_IO_SAFETENSORS_H
#include "base/file.h"

typedef enum {
    B2_ST_F32,
    B2_ST_BF16,
    B2_ST_F16,
    B2_ST_I64,
    B2_ST_I32,
    B2_ST_I8,
    B2_ST_U8,
    B2_ST_OTHER
} b2_st_dtype;
const char *b2_st_dtype_name(b2_st_dtype t); /* "F32", ... */
size_t b2_st_dtype_size(b2_st_dtype t);

typedef struct b2_st_tensor {
    const char *name; /* belongs to the set */
    b2_st_dtype dtype;
    char dtype_name[12];
    int rank;
    int64_t shape[8];
    const uint8_t *data; /* inside the mapping; may be misaligned */
    size_t bytes;
    const char *file; /* path of the shard, for messages */
} b2_st_tensor;

typedef struct b2_st_set b2_st_set;
blip2_status b2_st_open_file(b2_st_set **out, const char *path, blip2_error *e);
/* DIR/model.safetensors, or DIR/model.safetensors.index.json with its shards. A folder with only
 * pytorch_model*.bin is refused with the command that converts it. */
blip2_status b2_st_open_model(b2_st_set **out, const char *dir, blip2_error *e);
void b2_st_close(b2_st_set *s);
size_t b2_st_count(const b2_st_set *s);
const b2_st_tensor *b2_st_at(const b2_st_set *s, size_t i);           /* sorted by name */
const b2_st_tensor *b2_st_find(const b2_st_set *s, const char *name); /* NULL when absent; O(log n) */
const char *b2_st_metadata(const b2_st_set *s, const char *key);      /* of a single file; NULL when absent */
size_t b2_st_mapped_bytes(const b2_st_set *s);

/* Streaming writer: declare all tensors, then supply their bytes in any number of pieces in declared order.
 * Header: sorted by descending dtype size then name by the writer itself; so ask b2_st_order() for the order
 * to feed. Atomic like b2_writer. Memory: the header only. */
typedef struct b2_st_writer b2_st_writer;
blip2_status b2_st_writer_open(b2_st_writer **out, const char *path, blip2_error *e);
blip2_status b2_st_writer_declare(b2_st_writer *w, const char *name, b2_st_dtype t, int rank,
                                  const int64_t *shape, blip2_error *e);
/* {"format":"pt"} is always there. */
blip2_status b2_st_writer_metadata(b2_st_writer *w, const char *key, const char *value, blip2_error *e);
blip2_status b2_st_writer_begin(b2_st_writer *w, blip2_error *e); /* fixes the order, writes the header */
size_t b2_st_writer_order(const b2_st_writer *w, size_t i); /* i-th tensor to feed = index of declaration */
blip2_status b2_st_writer_data(b2_st_writer *w, const void *p, size_t n, blip2_error *e);
blip2_status b2_st_writer_commit(b2_st_writer *w, blip2_error *e); /* fails when bytes are missing; frees w */
void b2_st_writer_abort(b2_st_writer *w);
#endif
