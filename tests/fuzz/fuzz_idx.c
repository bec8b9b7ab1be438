/* Any bytes as an IDX file, gzip'ed or not, through a file in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "io/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LIMIT = 1 << 20 };
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    b2_idx x;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_idx_load(&x, path, LIMIT, &e) == BLIP2_OK) {
        size_t bytes = 1;
        for (int i = 0; i < x.dims; i++) bytes *= x.size[i];
        if (x.dims < 1 || x.dims > 4 || bytes != x.bytes || bytes > LIMIT) abort();
        volatile uint8_t sum = 0;
        for (size_t i = 0; i < bytes; i++) sum = (uint8_t)(sum + x.data[i]);
        b2_idx_free(&x);
    } else if (x.data || !e.text[0]) {
        abort();
    }
    close(fd);
    return 0;
}
