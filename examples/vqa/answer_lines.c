/* Answers as text or as JSON lines. */
#include <math.h>
#include "examples/vqa/vqa.h"

static void print_json(const char *image, const char *question, const blip2_answer *a)
{
    fputs("{\"image\": ", stdout);
    put_json(stdout, image);
    fputs(", \"question\": ", stdout);
    put_json(stdout, question);
    fputs(", \"answer\": ", stdout);
    put_json(stdout, a->text);
    fputs(", \"tokens\": [", stdout);
    for (int i = 0; i < a->count; i++) printf("%s%d", i ? ", " : "", (int)a->tokens[i]);
    if (isfinite(a->logprob))
        printf("], \"logprob\": %.6f}\n", (double)a->logprob);
    else
        puts("], \"logprob\": null}");
}

void answer_print(const settings *s, const char *image, const char *question, const blip2_answer *a)
{
    const char *text = a->text ? a->text : "";
    bool alone = s->images.count == 1 && s->questions.count <= 1 && !s->questions_file;
    if (s->json)
        print_json(image, question, a);
    else if (alone)
        puts(text);
    else
        printf("%s\t%s\t%s\n", image, question ? question : "", text);
    fflush(stdout);
}

void plan_print(const settings *s, const blip2_plan *plan)
{
    if (s->json)
        printf("{\"weights\": %zu, \"state\": %zu, \"saved\": %zu, \"scratch\": %zu, \"total\": %zu}\n",
               plan->weights, plan->state, plan->saved, plan->scratch, plan->total);
    else
        printf("weights %14zu bytes\nstate   %14zu bytes\nsaved   %14zu bytes\nscratch %14zu bytes\ntotal   "
               "%14zu bytes\n",
               plan->weights, plan->state, plan->saved, plan->scratch, plan->total);
}
