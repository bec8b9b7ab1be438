/* Any bytes as a safetensors file: each byte of each tensor of an accepted one lies inside it, and is covered
 * once. */
#include <stdlib.h>
#include <string.h>
#include "io/st_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    b2_st_header h;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_st_header_parse(&h, data, size, "fuzz", &e) != BLIP2_OK) {
        if (h.tensor || !e.text[0]) abort();
        return 0;
    }
    size_t total = 0;
    for (size_t i = 0; i < h.n; i++) {
        const b2_st_tensor *t = &h.tensor[i];
        if (t->data < data + 8 || t->bytes > size || t->data > data + (size - t->bytes)) abort();
        if (b2_st_lookup(h.tensor, h.n, t->name) != t) abort();
        total += t->bytes;
    }
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | data[i];
    if (total + 8 + n != size) abort();
    for (size_t i = 0; i < h.metas; i++)
        if (!h.meta[2 * i] || !h.meta[2 * i + 1]) abort();
    b2_st_header_free(&h);
    return 0;
}
