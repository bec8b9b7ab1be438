/* Temporary folders of the unit tests. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "unit/unit.h"

char *unit_folder(void)
{
    const char *base = getenv("TMPDIR");
    char name[1024];
    snprintf(name, sizeof name, "%s/blip2-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(name)) {
        perror(name);
        exit(1);
    }
    return strdup(name);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void unit_remove(char *folder)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
}

const char *unit_path(const char *dir, const char *name)
{
    static char ring[64][2048];
    static unsigned turn;
    char *p = ring[turn++ % 64];
    snprintf(p, sizeof ring[0], "%s/%s", dir, name);
    return p;
}

void unit_write(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

const char *unit_device(void)
{
    const char *name = getenv("BLIP2_TEST_DEVICE");
    return name && *name ? name : "cpu";
}
