/* adapter: what a LoRA adapter holds; base and adapter merged into a plain folder; a folder in another
 * dtype, or quantised. */
#include <string.h>
#include "examples/adapter/adapter.h"

typedef struct run {
    const program *p;
    const settings *s;
    blip2_device *device;
    blip2_model *model;
    blip2_adapter *adapter;
} run;

static blip2_status open_both(run *r, blip2_error *err)
{
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_status s = device_open(r->p, &r->s->device, &r->device, err);
    if (s == BLIP2_OK) s = blip2_model_open(r->device, r->s->model, &o, &r->model, err);
    if (s == BLIP2_OK && r->s->adapter) s = blip2_adapter_open(r->model, r->s->adapter, &r->adapter, err);
    return s;
}

static const char *dtype_name(blip2_dtype t) { return t == BLIP2_DTYPE_BF16 ? "bf16" : "f32"; }

static void model_text(const blip2_model_info *m)
{
    printf("model: %lld parameters, %zu bytes of weights, %s\n", (long long)m->parameters, m->weight_bytes,
           dtype_name(m->dtype));
    if (m->int8_tensors + m->int4_tensors)
        printf("quantised: %d matrices int8, %d int4\n", m->int8_tensors, m->int4_tensors);
    printf("image: %d pixels a side, %d image tokens\n", m->image_size, m->queries);
    printf("layers: vit %d, q-former %d, encoder %d, decoder %d; hidden %d, vocabulary %d\n", m->vit_layers,
           m->qformer_layers, m->encoder_layers, m->decoder_layers, m->hidden, m->vocab);
}

static void adapter_text(const blip2_adapter_info *a)
{
    printf("adapter: rank %d, alpha %g, dropout %g%s, %lld parameters\n", a->rank, a->alpha, a->dropout,
           a->rslora ? ", rank-stabilised" : "", (long long)a->parameters);
    printf("targets: %s\n", a->targets);
    printf("applied to %d of %d modules\n", a->modules, a->modules_matched);
    printf("image side: %s\n", a->touches_image ? "adapted" : "untouched");
    printf("base model: %s\n", a->base_model);
    printf("prompt template: %s\n", a->prompt_template ? a->prompt_template : "none stored");
}

static void model_json(const blip2_model_info *m)
{
    printf("{\"model\": {\"parameters\": %lld, \"weight_bytes\": %zu, \"dtype\": \"%s\", \"image_size\": %d, "
           "\"queries\": %d, \"int8_tensors\": %d, \"int4_tensors\": %d, ",
           (long long)m->parameters, m->weight_bytes, dtype_name(m->dtype), m->image_size, m->queries,
           m->int8_tensors, m->int4_tensors);
    printf("\"vit_layers\": %d, \"qformer_layers\": %d, \"encoder_layers\": %d, \"decoder_layers\": %d, "
           "\"hidden\": %d, \"vocab\": %d}",
           m->vit_layers, m->qformer_layers, m->encoder_layers, m->decoder_layers, m->hidden, m->vocab);
}

static void adapter_json(const blip2_adapter_info *a)
{
    printf(", \"adapter\": {\"rank\": %d, \"alpha\": %g, \"dropout\": %g, \"rslora\": %s, \"parameters\": "
           "%lld, ",
           a->rank, a->alpha, a->dropout, a->rslora ? "true" : "false", (long long)a->parameters);
    printf("\"modules\": %d, \"modules_matched\": %d, \"touches_image\": %s, \"targets\": ", a->modules,
           a->modules_matched, a->touches_image ? "true" : "false");
    put_json(stdout, a->targets);
    fputs(", \"base_model\": ", stdout);
    put_json(stdout, a->base_model);
    fputs(", \"prompt_template\": ", stdout);
    put_json(stdout, a->prompt_template);
    fputs("}", stdout);
}

static int info(const run *r)
{
    blip2_model_info m = {.size = sizeof m};
    blip2_adapter_info a = {.size = sizeof a};
    blip2_model_get_info(r->model, &m);
    if (r->adapter) blip2_adapter_get_info(r->adapter, &a);
    if (r->s->json) {
        model_json(&m);
        if (r->adapter) adapter_json(&a);
        puts("}");
    } else {
        model_text(&m);
        if (r->adapter) adapter_text(&a);
    }
    return EXIT_DONE;
}

static int export_folder(const run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_dtype dtype;
    blip2_status s = blip2_dtype_parse(r->s->dtype, &dtype, &err);
    if (s == BLIP2_OK) s = blip2_model_export(r->model, r->adapter, dtype, r->s->output, &err);
    if (s != BLIP2_OK) return output_failure(r->p, s, &err);
    printf("written: %s\n", r->s->output);
    return EXIT_DONE;
}

/* Both spellings. */
static bool quantises(const settings *s) { return !strncmp(s->command, "quanti", 6); }

static int check_quantise(const program *p, const settings *s)
{
    static const char *const own[] = {"keep", "data", "images", "rows", "most"};
    const bool narrow = !strncmp(s->dtype, "int", 3);
    for (size_t i = 0; !quantises(s) && i < sizeof own / sizeof *own; i++)
        if (program_given(p, own[i])) return usage_error(p, "--%s belongs to quantise", own[i]);
    if (!quantises(s)) return narrow ? usage_error(p, "--dtype %s: see quantise", s->dtype) : -1;
    if (s->adapter) return usage_error(p, "quantise: takes no --adapter; see merge");
    if (!narrow) return usage_error(p, "quantise: --dtype int8 or int4 is missing");
    if (s->keep && strlen(s->keep) > 1024) return usage_error(p, "--keep: more than 1024 characters");
    if (!s->data != !s->images) return usage_error(p, "quantise: --data and --images belong together");
    return -1;
}

static int check(const program *p, const settings *s)
{
    blip2_error err = BLIP2_ERROR_INIT;
    bool merge = !strcmp(s->command, "merge"), convert = !strcmp(s->command, "convert");
    const bool writes = merge || convert || quantises(s);
    if (merge && !s->adapter) return usage_error(p, "merge: --adapter is missing");
    if (convert && s->adapter) return usage_error(p, "convert: takes no --adapter; see merge");
    if (convert && !program_given(p, "dtype")) return usage_error(p, "convert: --dtype is missing");
    if (check_quantise(p, s) >= 0) return EXIT_USAGE;
    if (writes && !s->output) return usage_error(p, "%s: --output is missing", s->command);
    if (writes && same_folder(s->output, s->model))
        return usage_error(p, "--output: %s is the model's own folder", s->output);
    if (writes && folder_prepare(s->output, &err) != BLIP2_OK)
        return failure(p, EXIT_USAGE, "--output: %s", err.text);
    return -1;
}

static int run_command(run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_status s =
        quantises(r->s) ? device_open(r->p, &r->s->device, &r->device, &err) : open_both(r, &err);
    if (s != BLIP2_OK) return status_failure(r->p, s, &err);
    if (quantises(r->s)) return quantise(r->p, r->s, r->device);
    return !strcmp(r->s->command, "info") ? info(r) : export_folder(r);
}

int main(int argc, char **argv)
{
    settings s = {.command = "", .dtype = "file", .rows = 32, .most = 1e-3, .device = DEVICE_SETTINGS_INIT};
    option_row rows[] = {
        {"model", OPTION_TEXT, &s.model, "DIR", 0, 0, "model folder in Hugging Face layout", true, false},
        {"adapter", OPTION_TEXT, &s.adapter, "DIR", 0, 0, "LoRA adapter, a PEFT folder (info, merge)", false,
         false},
        {"output", OPTION_TEXT, &s.output, "DIR", 0, 0, "folder to write (merge, convert, quantise)", false,
         false},
        {"dtype", OPTION_CHOICE, &s.dtype, "file|f32|float32|bf16|bfloat16|int8|int4", 0, 0,
         "of the written weights", false, false},
        {"data", OPTION_TEXT, &s.data, "CSV", 0, 0, "quantise: questions to measure with", false, false},
        {"images", OPTION_TEXT, &s.images, "DIR", 0, 0, "quantise: their photos", false, false},
        {"rows", OPTION_INT, &s.rows, "N", 1, 1e9, "quantise: first N rows of --data", false, false},
        {"most", OPTION_REAL, &s.most, "X", 0, 1e3,
         "quantise: a kind of matrix that alone costs more nats a token stays bf16", false, false},
        {"keep", OPTION_TEXT, &s.keep, "A,B", 0, 0,
         "quantise: names that stay bf16 (without --data: " BLIP2_KEEP_WIDE ")", false, false},
        {"json", OPTION_FLAG, &s.json, NULL, 0, 0, "info as one JSON object", false, false},
        DEVICE_OPTIONS(s.device),
    };
    program p = {.name = "adapter",
                 .summary = "looks into LoRA adapters, merges them, converts and quantises model folders",
                 .synopsis =
                     "info|merge|convert|quantise --model DIR [--adapter DIR] [--output DIR] [options]",
                 .rows = rows,
                 .count = sizeof rows / sizeof *rows,
                 .word = &s.command,
                 .word_forms = "info|merge|convert|quantise|quantize"};
    int code = program_options(&p, argc, argv);
    if (code < 0) code = check(&p, &s);
    if (code >= 0) return program_end(&p, code);
    run r = {.p = &p, .s = &s};
    code = run_command(&r);
    blip2_adapter_close(r.adapter);
    blip2_model_close(r.model);
    blip2_device_close(r.device);
    return program_end(&p, code);
}
