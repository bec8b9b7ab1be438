/* gzip'ed or plain IDX files (the MNIST format: magic 0x0000 08 <dims>, big-endian sizes, bytes). */
#ifndef B2_IO_IDX_H
#define B2_IO_IDX_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

typedef struct b2_idx {
    int dims;
    uint32_t size[4];
    uint8_t *data; /* malloc'ed */
    size_t bytes;
} b2_idx;
/* Truncated, oversized or non-IDX input is an error; at most `limit` bytes are unpacked. */
blip2_status b2_idx_load(b2_idx *out, const char *path, size_t limit, blip2_error *e);
void b2_idx_free(b2_idx *x);
#endif
