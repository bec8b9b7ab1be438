/* Samples while training, and the evaluation on held-out rows. */
#include <stdlib.h>
#include <string.h>
#include "examples/train_fashion/train.h"

static blip2_session_options session_size(const run *r)
{
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    o.max_batch = (int)r->s->eval_batch;
    o.max_images = 8;
    o.max_prompt_tokens = r->options.max_prompt_tokens;
    o.max_new_tokens = (int)r->s->max_new_tokens;
    return o;
}

/* Opened when it is first wanted: it stands on the trainer's own weights, so it never falls behind them. */
static blip2_status need_session(run *r, blip2_error *err)
{
    blip2_session_options o = session_size(r);
    if (r->session) return BLIP2_OK;
    if (r->trainer) return blip2_trainer_session(r->trainer, &o, &r->session, err);
    o.adapters = r->adapter ? &r->adapter : NULL;
    o.n_adapters = r->adapter != NULL;
    return blip2_session_open(r->model, &o, &r->session, err);
}

static int bound_adapter(const run *r) { return r->adapter ? 0 : -1; }

static blip2_status predict(run *r, const blip2_row *row, blip2_answer *answer, blip2_error *err)
{
    char prompt[4096];
    size_t n;
    blip2_image image = {0};
    blip2_features *features = NULL;
    blip2_request q = BLIP2_REQUEST_INIT;
    blip2_status s = need_session(r, err);
    if (s == BLIP2_OK && row->question)
        s = blip2_prompt_format(r->options.prompt_template, row->question, prompt, sizeof prompt, &n, err);
    if (s == BLIP2_OK) s = blip2_image_load(&image, row->image_path, err);
    if (s == BLIP2_OK) s = blip2_session_encode(r->session, &image, 1, bound_adapter(r), &features, err);
    q.features = features;
    q.prompt = row->question ? prompt : NULL;
    q.adapter = bound_adapter(r);
    if (s == BLIP2_OK) s = blip2_session_generate(r->session, &q, 1, answer, err);
    blip2_features_close(features);
    blip2_image_free(&image);
    return s;
}

blip2_status sample_show(run *r, int64_t step, blip2_error *err)
{
    const blip2_dataset *d = r->eval ? r->eval : r->train;
    blip2_row row;
    blip2_answer answer = {0};
    /* A stride that shares no small factor with the rows of a photo, so that the questions take turns. */
    blip2_dataset_row(d, step / r->s->sample_every * 97 % blip2_dataset_rows(d), &row);
    blip2_status s = predict(r, &row, &answer, err);
    if (s != BLIP2_OK) return s;
    progress_clear(&r->bar);
    printf("sample: step %lld, photo %s, question \"%s\", truth \"%s\", prediction \"%s\"\n", (long long)step,
           row.id, row.question ? row.question : "", row.answer, answer.text ? answer.text : "");
    return BLIP2_OK;
}

static void show_progress(void *user, int64_t done, int64_t total)
{
    progress *bar = user;
    bar->total = total;
    progress_show(bar, done, NULL);
}

static blip2_status evaluate(run *r, blip2_evaluation **out, blip2_error *err)
{
    progress bar;
    blip2_evaluate_options o = BLIP2_EVALUATE_OPTIONS_INIT;
    blip2_status s = need_session(r, err);
    if (s != BLIP2_OK) return s;
    progress_clear(&r->bar);
    progress_begin(&bar, "evaluating", 0, blip2_dataset_rows(r->eval));
    o.prompt_template = r->options.prompt_template;
    o.adapter = bound_adapter(r);
    o.progress = show_progress;
    o.user = &bar;
    s = blip2_evaluate(r->session, r->eval, &o, out, err);
    progress_end(&bar);
    return s;
}

blip2_status evaluate_now(run *r, int64_t step, blip2_error *err)
{
    blip2_evaluation *e = NULL;
    int64_t n = 0;
    blip2_status s = evaluate(r, &e, err);
    if (s == BLIP2_OK) {
        double accuracy = blip2_evaluation_accuracy(e, NULL, &n);
        printf("eval: step=%lld; eval_accuracy=%.4f; rows=%lld;\n", (long long)step, accuracy, (long long)n);
    }
    blip2_evaluation_close(e);
    return s;
}

static blip2_status write_evaluation(const run *r, const blip2_evaluation *e, blip2_error *err)
{
    char *text = NULL, *json = format_text("%s/evaluation.json", r->s->output);
    char *html = format_text("%s/report.html", r->s->output);
    blip2_status s = json && html ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    if (s == BLIP2_OK) s = blip2_evaluation_text(e, &text, err);
    if (s == BLIP2_OK) fputs(text, stdout);
    if (s == BLIP2_OK) s = blip2_evaluation_json(e, json, err);
    if (s == BLIP2_OK) s = blip2_evaluation_html(e, html, err);
    if (s == BLIP2_OK) printf("written: %s, %s\n", json, html);
    free(text);
    free(json);
    free(html);
    return s;
}

blip2_status evaluate_and_write(run *r, blip2_error *err)
{
    blip2_evaluation *e = NULL;
    blip2_status s = evaluate(r, &e, err);
    if (s == BLIP2_OK) s = write_evaluation(r, e, err);
    blip2_evaluation_close(e);
    return s;
}

int run_evaluation(run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_adapter_info info = {.size = sizeof info};
    blip2_status s = BLIP2_OK;
    if (r->s->init_adapter) s = blip2_adapter_open(r->model, r->s->init_adapter, &r->adapter, &err);
    if (s == BLIP2_OK && r->adapter) {
        blip2_adapter_get_info(r->adapter, &info);
        if (!r->options.prompt_template) r->options.prompt_template = info.prompt_template;
    }
    if (s == BLIP2_OK) s = evaluate_and_write(r, &err);
    return s == BLIP2_OK ? EXIT_DONE : status_failure(r->p, s, &err);
}
