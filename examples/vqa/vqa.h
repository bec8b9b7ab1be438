/* vqa: every question meets every photo. */
#ifndef EXAMPLES_VQA_H
#define EXAMPLES_VQA_H

#include "examples/common.h"

typedef struct settings {
    const char *model, *adapter, *questions_file, *prompt_template, *dtype, *trace;
    text_list images, questions;
    int64_t max_new_tokens, min_new_tokens, batch_size;
    int raw_prompt, json, plan;
    device_settings device;
} settings;

/* ---- prompts.c ---- */
typedef struct prompts {
    char **question; /* as asked; NULL: captioning */
    char **prompt;   /* as the model reads it; NULL: captioning */
    size_t count;    /* at least 1 */
    int longest;     /* tokens */
} prompts;
/* Questions of the command line, then those of the file, one a line; none at all is captioning. */
blip2_status prompts_collect(prompts *q, const settings *s, blip2_error *err);
/* Puts them into the template (NULL: taken as they are) and counts their tokens. */
blip2_status prompts_build(prompts *q, const program *p, const char *form, const blip2_tokenizer *t,
                           blip2_error *err);
void prompts_free(prompts *q);

/* ---- answer_lines.c ---- */
void answer_print(const settings *s, const char *image, const char *question, const blip2_answer *a);
void plan_print(const settings *s, const blip2_plan *plan);

#endif
