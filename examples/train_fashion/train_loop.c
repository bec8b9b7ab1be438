/* The loop: step, write down, show a sample, keep a checkpoint; at the end save, draw, evaluate. */
#include <stdlib.h>
#include <string.h>
#include "examples/train_fashion/train.h"

static bool every(int64_t n, int64_t step) { return n > 0 && step % n == 0; }

static blip2_status keep(run *r, blip2_error *err)
{
    return r->s->checkpoint_dir ? blip2_trainer_checkpoint(r->trainer, r->s->checkpoint_dir, err) : BLIP2_OK;
}

static blip2_status after_step(run *r, const blip2_step_report *report, double seconds, blip2_error *err)
{
    bool due = r->s->checkpoint_every ? every(r->s->checkpoint_every, report->step) : report->epoch_ended;
    blip2_status s = metrics_step(r, report, seconds, err);
    if (s == BLIP2_OK && every(r->s->sample_every, report->step)) s = sample_show(r, report->step, err);
    if (s == BLIP2_OK && (due || report->done || stop_signal_seen())) s = keep(r, err);
    if (s == BLIP2_OK && every(r->s->eval_every, report->step) && !report->done && !stop_signal_seen())
        s = evaluate_now(r, report->step, err);
    return s;
}

/* *done: step last finished. BLIP2_ERR_CANCELLED: stopped in the middle of a step, which left no trace. */
static blip2_status loop(run *r, int64_t *done, blip2_error *err)
{
    blip2_step_report report = {.size = sizeof report};
    blip2_status s = BLIP2_OK;
    bool begun = false;
    while (s == BLIP2_OK && !report.done && !stop_signal_seen()) {
        double start = seconds_now();
        s = blip2_trainer_step(r->trainer, &report, err);
        if (s == BLIP2_ERR_STATE && report.done) s = BLIP2_OK; /* a resumed run may have nothing left to do */
        if (s != BLIP2_OK || report.step <= *done) break;
        if (!begun) progress_begin(&r->bar, "training", r->resumed, report.steps);
        begun = true;
        *done = report.step;
        s = after_step(r, &report, seconds_now() - start, err);
    }
    progress_end(&r->bar);
    return s;
}

static blip2_status resume(run *r, blip2_error *err)
{
    blip2_status s = BLIP2_OK;
    if (r->s->checkpoint_dir && !strcmp(r->s->resume, "auto"))
        s = blip2_trainer_resume(r->trainer, r->s->checkpoint_dir, &r->resumed, err);
    if (s == BLIP2_OK && r->resumed > 0) printf("Resuming from step %lld\n", (long long)r->resumed);
    return s;
}

/* The weights are those before the step that failed: good, and worth keeping. */
static int save_last_good(run *r, const blip2_error *why)
{
    blip2_error err = BLIP2_ERROR_INIT;
    failure(r->p, EXIT_FAILED, "%s: %s", blip2_strerror(why->code), why->text);
    blip2_status s = blip2_trainer_save(r->trainer, r->s->output, &err);
    if (s != BLIP2_OK) return output_failure(r->p, s, &err);
    return failure(r->p, EXIT_FAILED, "stopped; %s holds the weights from before that step", r->s->output);
}

static int finish(run *r, int64_t step)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_status s = blip2_trainer_save(r->trainer, r->s->output, &err);
    if (s == BLIP2_OK) s = metrics_finish(r, &err);
    if (s != BLIP2_OK) return output_failure(r->p, s, &err);
    printf("written: %s (step %lld)\n", r->s->output, (long long)step);
    if (stop_signal_seen()) {
        printf("stopped at step %lld by a signal%s\n", (long long)step,
               r->s->checkpoint_dir ? "; the same command goes on from there" : "");
        return EXIT_DONE;
    }
    if (r->eval) s = evaluate_and_write(r, &err);
    return s == BLIP2_OK ? EXIT_DONE : output_failure(r->p, s, &err);
}

static int print_plan(const run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_plan plan = {.size = sizeof plan};
    blip2_status s = blip2_trainer_plan(r->model, r->train, &r->options, &plan, &err);
    if (s != BLIP2_OK) return status_failure(r->p, s, &err);
    printf("weights %14zu bytes\nstate   %14zu bytes\nsaved   %14zu bytes\nscratch %14zu bytes\ntotal   "
           "%14zu bytes\n",
           plan.weights, plan.state, plan.saved, plan.scratch, plan.total);
    return EXIT_DONE;
}

int run_training(run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    if (r->s->plan) return print_plan(r);
    blip2_status s = blip2_trainer_open(r->model, r->train, &r->options, &r->trainer, &err);
    if (s == BLIP2_OK) s = resume(r, &err);
    if (s != BLIP2_OK) return status_failure(r->p, s, &err);
    s = metrics_open(r, r->resumed, &err);
    if (s != BLIP2_OK) return output_failure(r->p, s, &err);
    int64_t done = r->resumed;
    stop_signal_trainer(r->trainer);
    s = loop(r, &done, &err);
    if (s == BLIP2_ERR_CANCELLED) s = keep(r, &err);
    if (s == BLIP2_OK) return finish(r, done);
    return s == BLIP2_ERR_NONFINITE ? save_last_good(r, &err) : output_failure(r->p, s, &err);
}
