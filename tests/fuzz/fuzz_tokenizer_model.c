/* Any bytes as a sentencepiece model; a text goes through those that are taken. */
#include <stdlib.h>
#include <string.h>
#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "Question: what is the colour of this shirt? "
                           "\xEF\xBC\xB2\xE3\x80\x80\xF0\x9F\x98\x80 caf\xC3\xA9\xFF 12\t\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    b2_spm *s;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_spm_open(&s, data, size, &e) != BLIP2_OK) {
        if (s || !e.text[0]) abort();
        return 0;
    }
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n = 0, length = 0;
    if (b2_spm_encode(s, text, sizeof text - 1, &ids, &n, NULL) == BLIP2_OK) {
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= b2_spm_size(s)) abort();
        if (b2_spm_decode(s, ids, n, &back, &length, NULL) == BLIP2_OK && back[length]) abort();
    }
    b2_spm_id(s, "</s>");
    free(ids);
    free(back);
    b2_spm_close(s);
    return 0;
}
