/* Questions and the prompts made of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "examples/vqa/vqa.h"

static blip2_status add(prompts *q, const char *text, blip2_error *err)
{
    char **more = realloc(q->question, (q->count + 1) * sizeof *more);
    char *copy = text ? strdup(text) : NULL;
    if (more) q->question = more;
    if (!more || (text && !copy)) {
        free(copy);
        return fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    }
    q->question[q->count++] = copy;
    return BLIP2_OK;
}

static blip2_status read_lines(prompts *q, const char *path, blip2_error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) return fail_with(err, BLIP2_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    char *line = NULL;
    size_t cap = 0, before = q->count;
    ssize_t n;
    blip2_status s = BLIP2_OK;
    while (s == BLIP2_OK && (n = getline(&line, &cap, f)) >= 0) {
        while (n > 0 && strchr(" \t\r\n", line[n - 1])) line[--n] = 0;
        if (strlen(line) != (size_t)n)
            s = fail_with(err, BLIP2_ERR_DATA, "%s: holds a NUL byte", path);
        else if (n > 0)
            s = add(q, line, err);
    }
    if (s == BLIP2_OK && ferror(f))
        s = fail_with(err, BLIP2_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (s == BLIP2_OK && q->count == before)
        s = fail_with(err, BLIP2_ERR_DATA, "%s: holds no question", path);
    free(line);
    fclose(f);
    return s;
}

blip2_status prompts_collect(prompts *q, const settings *s, blip2_error *err)
{
    blip2_status status = BLIP2_OK;
    for (size_t i = 0; status == BLIP2_OK && i < s->questions.count; i++)
        status = add(q, s->questions.at[i], err);
    if (status == BLIP2_OK && s->questions_file) status = read_lines(q, s->questions_file, err);
    if (status == BLIP2_OK && q->count == 0) status = add(q, NULL, err);
    return status;
}

static blip2_status build_one(const char *form, const char *question, char **out, blip2_error *err)
{
    size_t n = 0;
    if (!question) return BLIP2_OK;
    if (!form) {
        *out = strdup(question);
        return *out ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    }
    blip2_status s = blip2_prompt_format(form, question, NULL, 0, &n, err);
    if (s != BLIP2_OK) return s;
    *out = malloc(n + 1);
    return *out ? blip2_prompt_format(form, question, *out, n + 1, &n, err)
                : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
}

blip2_status prompts_build(prompts *q, const program *p, const char *form, const blip2_tokenizer *t,
                           blip2_error *err)
{
    q->prompt = calloc(q->count, sizeof *q->prompt);
    q->longest = 1;
    if (!q->prompt) return fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < q->count; i++) {
        size_t n = 1;
        const char *question = q->question[i];
        if (form && question && !strncasecmp(question, "Question:", 9) && !strncasecmp(form, "Question:", 9))
            warning(p, "\"%s\" begins with \"Question:\", and so does the template; see --raw-prompt",
                    question);
        blip2_status s = build_one(form, question, &q->prompt[i], err);
        if (s == BLIP2_OK && t && q->prompt[i])
            s = blip2_tokenizer_encode(t, q->prompt[i], strlen(q->prompt[i]), NULL, 0, &n, err);
        if (s != BLIP2_OK) return s;
        if (n > 4096)
            return fail_with(err, BLIP2_ERR_LIMIT, "\"%.60s...\": %zu tokens, at most 4096", question, n);
        if ((int)n > q->longest) q->longest = (int)n;
    }
    return BLIP2_OK;
}

void prompts_free(prompts *q)
{
    for (size_t i = 0; i < q->count; i++) {
        free(q->question[i]);
        if (q->prompt) free(q->prompt[i]);
    }
    free(q->question);
    free(q->prompt);
    *q = (prompts){0};
}
