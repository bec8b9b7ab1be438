/* Fine-tuning: data sets, the trainer, evaluation. A trainer is used by one thread at a time. */
#ifndef BLIP2_TRAIN_H
#define BLIP2_TRAIN_H

#include "blip2/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- data ---- */
typedef struct blip2_dataset blip2_dataset; /* immutable; any thread */

/* CSV with the columns id (or image), Question, Answer: photo is IMAGES/<id>.jpg (or .jpeg .png .webp;
 * `image` is a path below IMAGES). Or id, Caption: caption rows, learnt as prefix language modelling.
 * Column names match without regard to case. Every photo is opened once to see that it exists; unreadable
 * ones are BLIP2_ERR_DATA with the line. */
typedef struct blip2_dataset_options {
    size_t size;
    const char *csv, *images;
    int64_t limit; /* first rows only; 0: all */
} blip2_dataset_options;
#define BLIP2_DATASET_OPTIONS_INIT                                                                           \
    {                                                                                                        \
        sizeof(blip2_dataset_options), NULL, NULL, 0                                                         \
    }
typedef struct blip2_row {
    const char *id, *image_path, *question, *answer; /* question NULL: a caption row */
    size_t line;                                     /* of the CSV */
    int64_t image;                                   /* rows with the same photo share this number, from 0 */
} blip2_row;
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_dataset_open(const blip2_dataset_options *options,
                                                           blip2_dataset **out, blip2_error *err);
BLIP2_API void blip2_dataset_close(blip2_dataset *d); /* NULL allowed */
BLIP2_API int64_t blip2_dataset_rows(const blip2_dataset *d);
BLIP2_API int64_t blip2_dataset_images(const blip2_dataset *d);
BLIP2_API void blip2_dataset_row(const blip2_dataset *d, int64_t i, blip2_row *row);

/* ---- trainer ---- */
typedef struct blip2_trainer blip2_trainer;
typedef enum blip2_trainable { BLIP2_TRAIN_LORA, BLIP2_TRAIN_QFORMER, BLIP2_TRAIN_ALL } blip2_trainable;
typedef enum blip2_schedule { BLIP2_CONSTANT, BLIP2_LINEAR, BLIP2_COSINE } blip2_schedule;
enum { BLIP2_AUGMENT_FLIP = 1, BLIP2_AUGMENT_SHIFT = 2 };

typedef struct blip2_trainer_options {
    size_t size;
    blip2_trainable trainable;
    int lora_rank;
    double lora_alpha, lora_dropout;
    int lora_rslora;
    const char *lora_targets; /* "q,v": suffixes of module names */
    const char *init_adapter; /* PEFT folder to start from, or NULL */
    int batch, accumulate;    /* samples a micro-batch; micro-batches a step */
    int epochs;
    int64_t max_steps;                                /* 0: epochs decide */
    double lr, weight_decay, beta1, beta2, eps, clip; /* clip 0: none */
    blip2_schedule schedule;
    int64_t warmup; /* steps */
    double dropout; /* of the parts that train; negative: the configuration's */
    int recompute;  /* 1: keep block inputs only */
    int augment;    /* flags; only when the image side trains */
    int shuffle;
    int feature_cache;      /* 1: image tokens computed once a photo (nothing in the image side may train) */
    const char *cache_path; /* file of the feature cache, or NULL: memory only */
    uint64_t seed;
    int max_prompt_tokens, max_answer_tokens; /* longer rows are BLIP2_ERR_DATA with their line */
    const char *prompt_template;              /* NULL: BLIP2_PROMPT_TEMPLATE */
    const char *base_model_name;              /* written into the adapter; NULL: the model's folder */
} blip2_trainer_options;
BLIP2_API void blip2_trainer_options_init(blip2_trainer_options *o); /* the defaults; sets size */

BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_plan(const blip2_model *m, const blip2_dataset *d,
                                                           const blip2_trainer_options *o, blip2_plan *plan,
                                                           blip2_error *err);
/* Holds references to m; d must outlive the trainer. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_open(const blip2_model *m, const blip2_dataset *d,
                                                           const blip2_trainer_options *o,
                                                           blip2_trainer **out, blip2_error *err);
BLIP2_API void blip2_trainer_close(blip2_trainer *t); /* NULL allowed */

typedef struct blip2_step_report {
    size_t size;
    int64_t step, steps;    /* done; planned in all */
    int epoch, epoch_ended; /* from 0 */
    double loss;            /* mean over the step's answer tokens */
    double epoch_loss;      /* mean over the tokens of the epoch so far (whole when epoch_ended) */
    double lr, grad_norm;
    int64_t samples, tokens; /* of this step */
    int done;                /* nothing is left to do */
} blip2_step_report;
/* One optimizer step. BLIP2_ERR_NONFINITE names the first bad op, layer, step and sample; weights are
 * those before. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_step(blip2_trainer *t, blip2_step_report *report,
                                                           blip2_error *err);
/* PEFT folder (LORA) or model folder (else). Atomic per file. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_save(const blip2_trainer *t, const char *dir,
                                                           blip2_error *err);
/* dir/step-N: trained tensors, moments, schedule, data position; checksummed; the last two are kept. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_checkpoint(const blip2_trainer *t, const char *dir,
                                                                 blip2_error *err);
/* Continues from the newest whole checkpoint in dir; *step = 0 when there is none. Damaged ones are passed
 * over with a warning; one of other options or data is BLIP2_ERR_STATE naming the difference. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_resume(blip2_trainer *t, const char *dir, int64_t *step,
                                                             blip2_error *err);
/* A session on the weights being trained (dropout off); use it between steps; close it before the trainer. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_trainer_session(blip2_trainer *t,
                                                              const blip2_session_options *o,
                                                              blip2_session **out, blip2_error *err);
BLIP2_API void blip2_trainer_cancel(blip2_trainer *t); /* any thread */

/* ---- evaluation ---- */
typedef struct blip2_evaluation blip2_evaluation;
typedef struct blip2_evaluate_options {
    size_t size;
    const char *prompt_template; /* NULL: BLIP2_PROMPT_TEMPLATE */
    int adapter;                 /* of the session, or -1 */
    int max_new_tokens;
    void (*progress)(void *user, int64_t done, int64_t total); /* or NULL */
    void *user;
} blip2_evaluate_options;
#define BLIP2_EVALUATE_OPTIONS_INIT                                                                          \
    {                                                                                                        \
        sizeof(blip2_evaluate_options), NULL, -1, 0, NULL, NULL                                              \
    }
/* Asks every question of d; each photo is encoded once. A row's attribute is what stands before ": " in
 * its answer (else its question). */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_evaluate(blip2_session *s, const blip2_dataset *d,
                                                       const blip2_evaluate_options *o,
                                                       blip2_evaluation **out, blip2_error *err);
BLIP2_API void blip2_evaluation_close(blip2_evaluation *e);
BLIP2_API double blip2_evaluation_accuracy(const blip2_evaluation *e, const char *attribute,
                                           int64_t *n); /* NULL: overall; negative: unknown */
/* Table as text (malloc'ed, free()), evaluation.json, and one HTML page with pictures of the misses. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_evaluation_text(const blip2_evaluation *v, char **out,
                                                              blip2_error *err);
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_evaluation_json(const blip2_evaluation *v, const char *path,
                                                              blip2_error *err);
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_evaluation_html(const blip2_evaluation *v, const char *path,
                                                              blip2_error *err);
/* loss.svg from metrics.jsonl. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_plot_loss(const char *metrics_jsonl, const char *svg,
                                                        blip2_error *err);

#ifdef __cplusplus
}
#endif
#endif
