/* Reads texts, one a line, and prints for each its ids, a tab, and the text those ids stand for. */
#include <blip2.h>
#include <stdio.h>
#include <stdlib.h>

static int one(const blip2_tokenizer *t, const char *line, size_t n, blip2_error *err)
{
    size_t count = 0, size = 0, room = n + 64;
    int32_t *ids = malloc(room * sizeof *ids);
    char *text = NULL;
    blip2_status s = ids ? blip2_tokenizer_encode(t, line, n, ids, room, &count, err) : BLIP2_ERR_MEMORY;
    if (s == BLIP2_OK) s = blip2_tokenizer_decode(t, ids, count, NULL, 0, &size, err);
    if (s == BLIP2_OK && !(text = malloc(size + 1))) s = BLIP2_ERR_MEMORY;
    if (s == BLIP2_OK) s = blip2_tokenizer_decode(t, ids, count, text, size + 1, &size, err);
    for (size_t i = 0; s == BLIP2_OK && i < count; i++) printf("%s%d", i ? " " : "", (int)ids[i]);
    if (s == BLIP2_OK) {
        putchar('\t');
        fwrite(text, 1, size, stdout);
        putchar('\n');
    }
    free(ids);
    free(text);
    return s == BLIP2_OK;
}

int main(int argc, char **argv)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_tokenizer *t = NULL;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int ok = argc == 2 && blip2_tokenizer_open(argv[1], &t, &err) == BLIP2_OK;
    while (ok && (n = getline(&line, &capacity, stdin)) >= 0)
        ok = one(t, line, (size_t)n - (n > 0 && line[n - 1] == '\n'), &err);
    if (!ok) fprintf(stderr, "tokens: %s\n", argc == 2 ? err.text : "expected a tokenizer's file or folder");
    free(line);
    blip2_tokenizer_close(t);
    return !ok;
}
