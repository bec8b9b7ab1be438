/* vqa: asks a BLIP-2 model questions about photos. Every question meets every photo; a photo is encoded once.
 */
#include <stdlib.h>
#include <string.h>
#include "examples/vqa/vqa.h"

enum { AT_ONCE = 8 /* photos encoded in one go */ };

typedef struct run {
    const program *p;
    const settings *s;
    prompts q;
    blip2_device *device;
    blip2_model *model;
    blip2_adapter *adapter;
    blip2_session *session;
    blip2_session_options size;
} run;

static blip2_status open_model(run *r, blip2_error *err)
{
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_status s = blip2_dtype_parse(r->s->dtype, &o.dtype, err);
    if (s == BLIP2_OK) s = device_open(r->p, &r->s->device, &r->device, err);
    if (s == BLIP2_OK) s = blip2_model_open(r->device, r->s->model, &o, &r->model, err);
    if (s == BLIP2_OK && r->s->adapter) s = blip2_adapter_open(r->model, r->s->adapter, &r->adapter, err);
    return s;
}

/* --prompt-template, else the adapter's, else the seed's; NULL: questions are prompts already. */
static const char *template_of(const run *r)
{
    blip2_adapter_info info = {.size = sizeof info};
    if (r->s->raw_prompt) return NULL;
    if (r->s->prompt_template) return r->s->prompt_template;
    if (r->adapter) blip2_adapter_get_info(r->adapter, &info);
    return info.prompt_template ? info.prompt_template : BLIP2_PROMPT_TEMPLATE;
}

static void choose_size(run *r)
{
    size_t photos = r->s->images.count ? r->s->images.count : 1, rows;
    if (photos > AT_ONCE) photos = AT_ONCE;
    rows = photos * r->q.count;
    r->size.max_images = (int)photos;
    r->size.max_batch = rows < (size_t)r->s->batch_size ? (int)rows : (int)r->s->batch_size;
    r->size.max_prompt_tokens = r->q.longest;
    r->size.max_new_tokens = (int)r->s->max_new_tokens;
    r->size.adapters = r->adapter ? &r->adapter : NULL;
    r->size.n_adapters = r->adapter != NULL;
}

static blip2_request request_for(const run *r, const char *prompt, const blip2_features *f)
{
    blip2_request q = BLIP2_REQUEST_INIT;
    q.features = f;
    q.prompt = prompt;
    q.adapter = r->adapter ? 0 : -1;
    q.min_new_tokens = (int)r->s->min_new_tokens;
    return q;
}

/* All questions for n encoded photos, answered as one batch. */
static blip2_status ask(run *r, size_t first, size_t n, blip2_features *const *features, blip2_error *err)
{
    size_t rows = n * r->q.count;
    blip2_request *request = malloc(rows * sizeof *request);
    blip2_answer *answer = malloc(rows * sizeof *answer);
    blip2_status s = request && answer ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; s == BLIP2_OK && i < rows; i++)
        request[i] = request_for(r, r->q.prompt[i % r->q.count], features[i / r->q.count]);
    if (s == BLIP2_OK) s = blip2_session_generate(r->session, request, (int)rows, answer, err);
    for (size_t i = 0; s == BLIP2_OK && i < rows; i++)
        answer_print(r->s, r->s->images.at[first + i / r->q.count], r->q.question[i % r->q.count],
                     &answer[i]);
    free(request);
    free(answer);
    return s;
}

static blip2_status photos(run *r, size_t first, size_t n, blip2_error *err)
{
    blip2_image image[AT_ONCE] = {{0}};
    blip2_features *features[AT_ONCE] = {NULL};
    blip2_status s = BLIP2_OK;
    for (size_t i = 0; s == BLIP2_OK && i < n; i++)
        s = blip2_image_load(&image[i], r->s->images.at[first + i], err);
    if (s == BLIP2_OK)
        s = blip2_session_encode(r->session, image, (int)n, r->adapter ? 0 : -1, features, err);
    for (size_t i = 0; i < n; i++) blip2_image_free(&image[i]);
    if (s == BLIP2_OK) s = ask(r, first, n, features, err);
    for (size_t i = 0; i < n; i++) blip2_features_close(features[i]);
    return s;
}

static blip2_status trace(run *r, blip2_error *err)
{
    blip2_image image = {0};
    blip2_answer answer;
    blip2_request request = request_for(r, r->q.prompt[0], NULL);
    blip2_status s = blip2_image_load(&image, r->s->images.at[0], err);
    if (s == BLIP2_OK) s = blip2_session_trace(r->session, &image, &request, r->s->trace, &answer, err);
    if (s == BLIP2_OK) answer_print(r->s, r->s->images.at[0], r->q.question[0], &answer);
    blip2_image_free(&image);
    return s;
}

static blip2_status answer_all(run *r, blip2_error *err)
{
    size_t step = (size_t)r->size.max_images;
    blip2_status s = blip2_session_open(r->model, &r->size, &r->session, err);
    if (s == BLIP2_OK && r->s->trace) return trace(r, err);
    for (size_t i = 0; s == BLIP2_OK && i < r->s->images.count; i += step)
        s = photos(r, i, r->s->images.count - i < step ? r->s->images.count - i : step, err);
    return s;
}

static int run_all(run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_plan plan = {.size = sizeof plan};
    blip2_status s = prompts_collect(&r->q, r->s, &err);
    if (s == BLIP2_OK && r->s->trace && r->q.count != 1)
        return usage_error(r->p, "--trace needs exactly one question, or none");
    if (s == BLIP2_OK) s = open_model(r, &err);
    if (s == BLIP2_OK) s = prompts_build(&r->q, r->p, template_of(r), blip2_model_tokenizer(r->model), &err);
    if (s == BLIP2_OK) choose_size(r);
    if (s == BLIP2_OK && r->s->plan) {
        s = blip2_session_plan(r->model, &r->size, &plan, &err);
        if (s == BLIP2_OK) plan_print(r->s, &plan);
    } else if (s == BLIP2_OK) {
        s = answer_all(r, &err);
    }
    return s == BLIP2_OK ? EXIT_DONE : status_failure(r->p, s, &err);
}

static int check(const program *p, const settings *s)
{
    if (!s->images.count && !s->plan) return usage_error(p, "--image is missing");
    if (s->raw_prompt && s->prompt_template)
        return usage_error(p, "--raw-prompt and --prompt-template exclude each other");
    if (s->min_new_tokens > s->max_new_tokens)
        return usage_error(p, "--min-new-tokens is above --max-new-tokens");
    if (s->trace && s->images.count > 1) return usage_error(p, "--trace needs exactly one photo");
    return -1;
}

int main(int argc, char **argv)
{
    settings s = {.dtype = "file", .max_new_tokens = 64, .batch_size = 32, .device = DEVICE_SETTINGS_INIT};
    option_row rows[] = {
        {"model", OPTION_TEXT, &s.model, "DIR", 0, 0, "model folder in Hugging Face layout", true, false},
        {"adapter", OPTION_TEXT, &s.adapter, "DIR", 0, 0, "LoRA adapter, a PEFT folder", false, false},
        {"image", OPTION_LIST, &s.images, "FILE", 0, 0, "JPEG, PNG or WebP; repeats", false, false},
        {"question", OPTION_LIST, &s.questions, "TEXT", 0, 0, "a question; repeats; none: captioning", false,
         false},
        {"questions", OPTION_TEXT, &s.questions_file, "FILE", 0, 0, "more questions, one a line", false,
         false},
        {"prompt-template", OPTION_TEXT, &s.prompt_template, "TEXT", 0, 0,
         "{} stands for the question (default the adapter's, else \"" BLIP2_PROMPT_TEMPLATE "\")", false,
         false},
        {"raw-prompt", OPTION_FLAG, &s.raw_prompt, NULL, 0, 0, "questions are whole prompts already", false,
         false},
        {"max-new-tokens", OPTION_INT, &s.max_new_tokens, "N", 1, 4096, "longest answer", false, false},
        {"min-new-tokens", OPTION_INT, &s.min_new_tokens, "N", 0, 4096, "shortest answer", false, false},
        {"batch-size", OPTION_INT, &s.batch_size, "N", 1, 4096, "questions answered at once", false, false},
        {"dtype", OPTION_CHOICE, &s.dtype, "file|f32|float32|bf16|bfloat16|int8|int4", 0, 0, "of the weights",
         false, false},
        {"json", OPTION_FLAG, &s.json, NULL, 0, 0,
         "a JSON object a line: image, question, answer, tokens, logprob", false, false},
        {"plan", OPTION_FLAG, &s.plan, NULL, 0, 0, "print the memory it would take, and stop", false, false},
        {"trace", OPTION_TEXT, &s.trace, "FILE", 0, 0, "write each stage's activations to a safetensors file",
         false, false},
        DEVICE_OPTIONS(s.device),
    };
    program p = {.name = "vqa",
                 .summary = "questions about photos",
                 .synopsis = "--model DIR [--adapter DIR] --image FILE... --question TEXT... [options]",
                 .rows = rows,
                 .count = sizeof rows / sizeof *rows};
    int code = program_options(&p, argc, argv);
    if (code < 0) code = check(&p, &s);
    if (code < 0) {
        run r = {.p = &p, .s = &s, .size = BLIP2_SESSION_OPTIONS_INIT};
        code = run_all(&r);
        prompts_free(&r.q);
        blip2_session_close(r.session);
        blip2_adapter_close(r.adapter);
        blip2_model_close(r.model);
        blip2_device_close(r.device);
    }
    return program_end(&p, code);
}
