/* train_fashion: fine-tunes on rows of questions and answers (or captions). main.c shows the order of the
 * steps. */
#ifndef EXAMPLES_TRAIN_H
#define EXAMPLES_TRAIN_H

#include "examples/common.h"

typedef struct settings {
    const char *model, *images, *train, *eval, *output, *preset;
    const char *schedule, *trainable, *augment, *lora_targets, *init_adapter, *feature_cache, *cache_file;
    const char *checkpoint_dir, *resume, *dtype, *prompt_template, *base_model_name;
    int64_t epochs, max_steps, batch_size, accumulate, warmup, lora_rank, seed, limit, eval_limit;
    int64_t checkpoint_every, eval_every, sample_every, log_every, max_new_tokens, eval_batch;
    double lr, weight_decay, beta1, beta2, eps, clip, lora_alpha, lora_dropout, dropout;
    int recompute, shuffle, rslora, plan;
    device_settings device;
} settings;

typedef struct run {
    const program *p;
    const settings *s;
    blip2_device *device;
    blip2_model *model;
    blip2_adapter *adapter; /* evaluation only */
    blip2_dataset *train, *eval;
    blip2_trainer_options options;
    blip2_trainer *trainer;
    blip2_session *session; /* on the trainer; samples and evaluations between steps */
    FILE *metrics;
    char *metrics_path;
    progress bar;
    int64_t resumed; /* step at which this process began */
} run;

/* ---- train_setup.c ---- */
void settings_defaults(settings *s); /* the library's own */
int settings_check(const program *p, const settings *s);
blip2_status run_open(run *r, blip2_error *err); /* device, model, data, options */
void run_close(run *r);

/* ---- train_loop.c: returns an exit code ---- */
int run_training(run *r);

/* ---- train_metrics.c ---- */
/* metrics.jsonl in --output; of an earlier file the lines up to `step` stay. */
blip2_status metrics_open(run *r, int64_t step, blip2_error *err);
blip2_status metrics_step(run *r, const blip2_step_report *report, double seconds, blip2_error *err);
blip2_status metrics_finish(run *r, blip2_error *err); /* closes, draws loss.svg */

/* ---- train_evaluate.c ---- */
blip2_status sample_show(run *r, int64_t step, blip2_error *err);  /* a question, the truth, the prediction */
blip2_status evaluate_now(run *r, int64_t step, blip2_error *err); /* one line with the accuracy */
blip2_status evaluate_and_write(run *r, blip2_error *err);         /* table, evaluation.json, report.html */
int run_evaluation(run *r);                                        /* without --train; an exit code */

/* ---- stop_signal.c: with a trainer, the first SIGINT or SIGTERM lets the step end, the second cancels it,
 * the third ends all; without one they do what they always do ---- */
void stop_signal_watch(void); /* before any other thread starts */
void stop_signal_trainer(blip2_trainer *trainer);
void stop_signal_unwatch(void); /* before the trainer is closed */
bool stop_signal_seen(void);

#endif
