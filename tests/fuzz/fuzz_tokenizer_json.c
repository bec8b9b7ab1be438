/* Any bytes as tokenizer.json: refused, or a model that sentencepiece takes or refuses. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    const int fd = memfd_create("tokenizer", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    /* a name that ends as tokenizer.json does, and no tokenizer_config.json beside it */
    snprintf(path, sizeof path, "/tmp/blip2-fuzz-%d.json", (int)getpid());
    char target[64];
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    unlink(path);
    if (symlink(target, path) != 0) abort();
    blip2_tokenizer *t;
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_tokenizer_open(path, &t, &e) == BLIP2_OK) {
        int32_t ids[64];
        size_t n = 0, length;
        const char *text = "red <extra_id_0> shirt</s>";
        if (blip2_tokenizer_encode(t, text, 26, ids, 64, &n, NULL) == BLIP2_OK)
            blip2_tokenizer_decode(t, ids, n, NULL, 0, &length, NULL);
    } else if (t || !e.text[0]) {
        abort();
    }
    blip2_tokenizer_close(t);
    unlink(path);
    close(fd);
    return 0;
}
