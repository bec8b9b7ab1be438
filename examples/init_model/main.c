/* init_model: a model folder with random weights, from a preset or a config.json. */
#include <stdlib.h>
#include <string.h>
#include "examples/init_model/spm_train.h"

typedef struct settings {
    const char *output, *preset, *config, *dtype, *tokenizer, *tokenizer_text, *device;
    int64_t seed, vocab_size, threads;
} settings;

static int check(const program *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    if (!s->preset == !s->config) return usage_error(p, "give either --preset or --config");
    if (s->tokenizer && s->tokenizer_text)
        return usage_error(p, "--tokenizer and --tokenizer-text exclude each other");
    if (program_given(p, "vocab-size") && !s->tokenizer_text)
        return usage_error(p, "--vocab-size goes with --tokenizer-text");
    if (folder_prepare(s->output, &err) != BLIP2_OK) return failure(p, EXIT_USAGE, "--output: %s", err.text);
    return -1;
}

static int write_model(const program *p, const settings *s, const char *tokenizer)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_init_options o = BLIP2_INIT_OPTIONS_INIT;
    o.preset = s->preset;
    o.config_path = s->config;
    o.tokenizer_path = tokenizer;
    o.seed = (uint64_t)s->seed;
    o.threads = (int)s->threads;
    blip2_status status = blip2_dtype_parse(s->dtype, &o.dtype, &err);
    if (status == BLIP2_OK) status = blip2_model_init(s->output, &o, &err);
    return status == BLIP2_OK ? EXIT_DONE : status_failure(p, status, &err);
}

static int describe(const program *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_model_info info = {.size = sizeof info};
    blip2_device *device = NULL;
    blip2_model *model = NULL;
    const device_settings d = {s->device, s->threads};
    blip2_status status = device_open(p, &d, &device, &err);
    if (status == BLIP2_OK) status = blip2_model_open(device, s->output, NULL, &model, &err);
    if (status == BLIP2_OK) {
        blip2_model_get_info(model, &info);
        printf("%s: %lld parameters, %s, vocabulary %d", s->output, (long long)info.parameters,
               info.dtype == BLIP2_DTYPE_BF16 ? "bf16" : "f32", info.vocab);
        const blip2_tokenizer *t = blip2_model_tokenizer(model);
        if (t)
            printf(", tokenizer of %d ids\n", (int)blip2_tokenizer_size(t));
        else
            puts(", no tokenizer");
    }
    blip2_model_close(model);
    blip2_device_close(device);
    return status == BLIP2_OK ? EXIT_DONE : status_failure(p, status, &err);
}

static int train_and_write(const program *p, const settings *s)
{
    const char *tmp = getenv("TMPDIR");
    char *scratch = format_text("%s/init_model-XXXXXX", tmp && *tmp ? tmp : "/tmp"), *tokenizer = NULL;
    if (!scratch || !mkdtemp(scratch)) {
        free(scratch);
        return failure(p, EXIT_FAILED, "no folder for temporary files can be made");
    }
    int code = tokenizer_train(p, s->tokenizer_text, s->vocab_size, scratch, &tokenizer);
    if (code < 0) code = write_model(p, s, tokenizer);
    tokenizer_clean(scratch);
    free(tokenizer);
    free(scratch);
    return code;
}

int main(int argc, char **argv)
{
    settings s = {.dtype = "bf16", .seed = 1, .vocab_size = 128, .device = "cpu"};
    option_row rows[] = {
        {"output", OPTION_TEXT, &s.output, "DIR", 0, 0, "folder to write", true, false},
        {"preset", OPTION_CHOICE, &s.preset, "fashion-tiny|flan-t5-xl|flan-t5-xxl", 0, 0,
         "sizes of the model", false, false},
        {"config", OPTION_TEXT, &s.config, "FILE", 0, 0, "a config.json instead", false, false},
        {"dtype", OPTION_CHOICE, &s.dtype, "f32|float32|bf16|bfloat16", 0, 0, "of the weights", false, false},
        {"seed", OPTION_INT, &s.seed, "N", 0, 4294967295.0, "of the random weights", false, false},
        {"tokenizer", OPTION_TEXT, &s.tokenizer, "FILE", 0, 0, "spiece.model or tokenizer.json to copy",
         false, false},
        {"tokenizer-text", OPTION_TEXT, &s.tokenizer_text, "FILE", 0, 0,
         "train a tokenizer from this text (spm_train)", false, false},
        {"vocab-size", OPTION_INT, &s.vocab_size, "N", 8, 1000000, "pieces of that tokenizer, at most", false,
         false},
        {"device", OPTION_TEXT, &s.device, "NAME", 0, 0, "where the new folder is opened to check it", false,
         false},
        {"threads", OPTION_INT, &s.threads, "N", 0, 1024, "threads; 0: as many as this process may use",
         false, false},
    };
    program p = {.name = "init_model",
                 .summary = "a model folder with random weights",
                 .synopsis = "--output DIR --preset NAME | --config FILE [options]",
                 .rows = rows,
                 .count = sizeof rows / sizeof *rows};
    int code = program_options(&p, argc, argv);
    if (code < 0) code = check(&p, &s);
    if (code >= 0) return program_end(&p, code);
    code = s.tokenizer_text ? train_and_write(&p, &s) : write_model(&p, &s, s.tokenizer);
    return program_end(&p, code == EXIT_DONE ? describe(&p, &s) : code);
}
