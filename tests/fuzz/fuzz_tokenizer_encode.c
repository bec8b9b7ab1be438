/* Any bytes as a text, and as ids, for a small tokenizer with added tokens. */
#include <stdlib.h>
#include <string.h>
#include "blip2/tokenizer.h"

#define MODEL B2_SRCDIR "/tests/unit/data/small"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const blip2_tokenizer *t, const int32_t *ids, size_t n)
{
    size_t length, again;
    if (blip2_tokenizer_decode(t, ids, n, NULL, 0, &length, NULL) != BLIP2_OK) abort();
    char *text = malloc(length + 1);
    if (!text || blip2_tokenizer_decode(t, ids, n, text, length + 1, &again, NULL) != BLIP2_OK) abort();
    if (again != length || text[length] != 0) abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static blip2_tokenizer *t;
    if (!t && blip2_tokenizer_open(MODEL, &t, NULL) != BLIP2_OK) return 0; /* built without it */
    size_t n, again;
    if (blip2_tokenizer_encode(t, (const char *)data, size, NULL, 0, &n, NULL) != BLIP2_OK) abort();
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids || blip2_tokenizer_encode(t, (const char *)data, size, ids, n, &again, NULL) != BLIP2_OK)
        abort();
    if (n != again || ids[n - 1] != 1) abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= blip2_tokenizer_size(t)) abort();
    decode(t, ids, n);
    free(ids);
    int32_t *any = malloc(size + 1);
    if (!any) abort();
    memcpy(any, data, size / 4 * 4);
    decode(t, any, size / 4);
    for (size_t i = 0; i < size / 4; i++) any[i] &= 255;
    decode(t, any, size / 4);
    free(any);
    return 0;
}
