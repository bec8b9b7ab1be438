/* Runs a fuzz target over files, and over all files of folders: for ordinary test runs, without libFuzzer.
 * usage: fuzz_NAME PATH...   Prints one count line; a target that finds a fault ends the program. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    /* exactly as large as the input, so that sanitizers see a read past its end */
    size_t n = (size_t)st.st_size;
    uint8_t *data = malloc(n ? n : 1);
    if (!data || fread(data, 1, n, f) != n) {
        perror(path);
        exit(1);
    }
    fclose(f);
    fprintf(stderr, "%s\n", path); /* the last line names the culprit of a crash */
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

static int replay_folder(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return replay(path);
    int count = 0;
    for (const struct dirent *e; (e = readdir(d));) {
        char name[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        count += replay_folder(name);
    }
    closedir(d);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) count += replay_folder(argv[i]);
    printf("%d passed, 0 failed, 0 skipped\n", count);
    return count == 0; /* no corpus: nothing was tested */
}
