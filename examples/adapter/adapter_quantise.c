/* adapter quantise: which kinds of matrices can be narrow is measured, each kind alone, on questions about
 * photos; then the folder is written, and what all of them together cost is measured again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "examples/adapter/adapter.h"

enum { KINDS = 64, NEW_TOKENS = 32 };

typedef struct job {
    const program *p;
    const settings *s;
    blip2_device *device;
    blip2_dtype dtype;
    blip2_model *wide;
    blip2_session *asks; /* on wide; NULL without data */
    blip2_dataset *data;
    blip2_matrix_kind kind[KINDS];
    bool stays_wide[KINDS];
    int kinds;
    char keep[2048]; /* of the folder that is written */
} job;

static blip2_status session_on(const blip2_model *m, blip2_session **out, blip2_error *err)
{
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    o.max_batch = 1;
    o.max_new_tokens = NEW_TOKENS;
    return blip2_session_open(m, &o, out, err);
}

static blip2_status open_all(job *j, blip2_error *err)
{
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_dataset_options d = BLIP2_DATASET_OPTIONS_INIT;
    blip2_model_info info = {.size = sizeof info};
    o.dtype = BLIP2_DTYPE_BF16;
    d.csv = j->s->data;
    d.images = j->s->images;
    d.limit = j->s->rows;
    blip2_status s = blip2_model_open(j->device, j->s->model, &o, &j->wide, err);
    if (s == BLIP2_OK) blip2_model_get_info(j->wide, &info);
    if (info.int8_tensors + info.int4_tensors)
        return fail_with(err, BLIP2_ERR_DATA, "%s: is quantised already: start from the wide model",
                         j->s->model);
    if (s == BLIP2_OK && d.csv) s = blip2_dataset_open(&d, &j->data, err);
    if (s == BLIP2_OK && d.csv) s = session_on(j->wide, &j->asks, err);
    if (s == BLIP2_OK) s = blip2_model_kinds(j->wide, j->dtype, j->keep, j->kind, KINDS, &j->kinds, err);
    if (s == BLIP2_OK && j->kinds > KINDS) j->kinds = KINDS;
    return s;
}

static blip2_status compare_row(const job *j, blip2_session *narrow, int64_t i, blip2_drift *sum,
                                blip2_error *err)
{
    blip2_image image = {0};
    blip2_row row;
    char prompt[4096] = "";
    size_t n = 0;
    blip2_request r = BLIP2_REQUEST_INIT;
    blip2_dataset_row(j->data, i, &row);
    blip2_status s = BLIP2_OK;
    if (row.question)
        s = blip2_prompt_format(BLIP2_PROMPT_TEMPLATE, row.question, prompt, sizeof prompt, &n, err);
    if (s == BLIP2_OK) s = blip2_image_load(&image, row.image_path, err);
    r.prompt = prompt;
    if (s == BLIP2_OK) s = blip2_session_drift(j->asks, narrow, &image, &r, sum, err);
    blip2_image_free(&image);
    return s;
}

static blip2_status open_narrow(const job *j, const char *keep, blip2_model **out, blip2_error *err)
{
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    o.dtype = j->dtype;
    o.keep = keep;
    return blip2_model_open(j->device, j->s->model, &o, out, err);
}

static blip2_status measure(const job *j, const blip2_model *narrow, blip2_drift *sum, blip2_error *err)
{
    blip2_session *session = NULL;
    blip2_status s = session_on(narrow, &session, err);
    for (int64_t i = 0; s == BLIP2_OK && i < blip2_dataset_rows(j->data); i++)
        s = compare_row(j, session, i, sum, err);
    blip2_session_close(session);
    return s;
}

static void add_word(char *list, size_t size, const char *word)
{
    const size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s", n ? "," : "", word);
}

/* What kind i costs alone: every other one is kept wide. */
static blip2_status measure_kind(const job *j, int i, blip2_drift *sum, blip2_error *err)
{
    char others[sizeof j->keep + KINDS * 33];
    blip2_model *narrow = NULL;
    snprintf(others, sizeof others, "%s", j->keep);
    for (int k = 0; k < j->kinds; k++)
        if (k != i) add_word(others, sizeof others, j->kind[k].name);
    blip2_status s = open_narrow(j, others, &narrow, err);
    if (s == BLIP2_OK) s = measure(j, narrow, sum, err);
    blip2_model_close(narrow);
    return s;
}

static void print_drift(const blip2_drift *d)
{
    const double n = d->tokens ? (double)d->tokens : 1;
    printf("  %11.3g %9.3g %9.3g %8.2f%%", d->kl / n, sqrt(d->squares / n), d->largest,
           100.0 * (double)d->same / n);
}

static void print_row(const job *j, int i, const blip2_drift *d)
{
    const blip2_matrix_kind *k = &j->kind[i];
    printf("%-20s %7d %12lld %10.3f%%", k->name, k->tensors, (long long)k->parameters, 100 * k->error);
    if (j->data) print_drift(d);
    printf("  %s\n", j->stays_wide[i] ? "stays bf16" : j->s->dtype);
    fflush(stdout);
}

static blip2_status decide(job *j, blip2_error *err)
{
    blip2_status s = BLIP2_OK;
    char costly[sizeof j->keep] = "";
    printf("%-20s %7s %12s %11s", "matrices", "tensors", "parameters", "of weights");
    if (j->data) printf("  %11s %9s %9s %9s", "nats/token", "rms", "largest", "same");
    printf("\n");
    for (int i = 0; s == BLIP2_OK && i < j->kinds; i++) {
        blip2_drift d = BLIP2_DRIFT_INIT;
        if (j->data) s = measure_kind(j, i, &d, err);
        j->stays_wide[i] = j->data && !(d.kl <= j->s->most * (double)(d.tokens ? d.tokens : 1));
        if (j->stays_wide[i]) add_word(costly, sizeof costly, j->kind[i].name);
        if (s == BLIP2_OK) print_row(j, i, &d);
    }
    if (costly[0]) add_word(j->keep, sizeof j->keep, costly);
    return s;
}

static blip2_status write_folder(job *j, blip2_error *err)
{
    blip2_drift d = BLIP2_DRIFT_INIT;
    blip2_model *narrow = NULL;
    blip2_model_info is = {.size = sizeof is};
    blip2_status s = open_narrow(j, j->keep, &narrow, err);
    if (s == BLIP2_OK && j->data) s = measure(j, narrow, &d, err);
    if (s == BLIP2_OK && j->data) {
        printf("%-53s", "all of them together");
        print_drift(&d);
        printf("\n");
    }
    if (s == BLIP2_OK) s = blip2_model_export(narrow, NULL, j->dtype, j->s->output, err);
    if (s == BLIP2_OK) {
        blip2_model_get_info(narrow, &is);
        printf("kept bf16: %s\nwritten: %s (%d int8, %d int4 matrices)\n", j->keep[0] ? j->keep : "none",
               j->s->output, is.int8_tensors, is.int4_tensors);
    }
    blip2_model_close(narrow);
    return s;
}

int quantise(const program *p, const settings *s, blip2_device *d)
{
    blip2_error err = BLIP2_ERROR_INIT;
    job *j = calloc(1, sizeof *j);
    int code = EXIT_DONE;
    if (!j) return failure(p, EXIT_FAILED, "out of memory");
    j->p = p;
    j->s = s;
    j->device = d;
    snprintf(j->keep, sizeof j->keep, "%s", s->keep ? s->keep : s->data ? "" : BLIP2_KEEP_WIDE);
    j->dtype = !strcmp(s->dtype, "int4") ? BLIP2_DTYPE_INT4 : BLIP2_DTYPE_INT8;
    blip2_status st = open_all(j, &err);
    if (st == BLIP2_OK) st = decide(j, &err);
    if (st != BLIP2_OK) code = status_failure(p, st, &err);
    bool any = false;
    for (int i = 0; i < j->kinds; i++) any = any || !j->stays_wide[i];
    if (st == BLIP2_OK && !any)
        code = failure(p, EXIT_FAILED,
                       "nothing is left to quantise: raise --most or keep less; nothing is written");
    if (st == BLIP2_OK && any) st = write_folder(j, &err);
    if (st != BLIP2_OK && code == EXIT_DONE) code = output_failure(p, st, &err);
    blip2_session_close(j->asks);
    blip2_dataset_close(j->data);
    blip2_model_close(j->wide);
    free(j);
    return code;
}
