/* train_fashion: fine-tunes a BLIP-2 model on rows of questions and answers, or evaluates one. */
#include <string.h>
#include "examples/train_fashion/train.h"

/* Hyperparameters of the AWS sample that this project started from; its Adam has neither decay nor warm-up.
 */
static const char *const aws_seed[][2] = {
    {"trainable", "lora"},    {"lora-rank", "8"}, {"lora-alpha", "32"}, {"lora-dropout", "0.05"},
    {"lora-targets", "q,v"},  {"lr", "0.0025"},   {"batch-size", "16"}, {"epochs", "10"},
    {"schedule", "constant"}, {"warmup", "0"},    {"clip", "0"},        {"weight-decay", "0"},
    {"beta1", "0.9"},         {"beta2", "0.999"},
};

static int train_or_evaluate(run *r)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_status s = run_open(r, &err);
    if (s != BLIP2_OK) return status_failure(r->p, s, &err);
    return r->s->train ? run_training(r) : run_evaluation(r);
}

int main(int argc, char **argv)
{
    settings s;
    settings_defaults(&s);
    setvbuf(stdout, NULL, _IOLBF, 0);
    option_row rows[] = {
        {"model", OPTION_TEXT, &s.model, "DIR", 0, 0, "base model folder in Hugging Face layout", true,
         false},
        {"images", OPTION_TEXT, &s.images, "DIR", 0, 0, "folder of the photos, ID.jpg", true, false},
        {"train", OPTION_TEXT, &s.train, "CSV", 0, 0, "id,Question,Answer or id,Caption; none: only evaluate",
         false, false},
        {"eval", OPTION_TEXT, &s.eval, "CSV", 0, 0, "held-out rows, evaluated at the end", false, false},
        {"output", OPTION_TEXT, &s.output, "DIR", 0, 0, "adapter (lora) or model folder, figures", true,
         false},
        {"preset", OPTION_CHOICE, &s.preset, "none|aws-seed", 0, 0, "hyperparameters of the AWS sample",
         false, false},
        {"epochs", OPTION_INT, &s.epochs, "N", 1, 1000000, "passes over the rows", false, false},
        {"max-steps", OPTION_INT, &s.max_steps, "N", 0, 1e12, "optimizer steps; 0: --epochs decides", false,
         false},
        {"batch-size", OPTION_INT, &s.batch_size, "N", 1, 65536, "rows at once", false, false},
        {"accumulate", OPTION_INT, &s.accumulate, "N", 1, 65536, "batches an optimizer step", false, false},
        {"lr", OPTION_REAL, &s.lr, "X", 0, 100, "highest learning rate", false, false},
        {"schedule", OPTION_CHOICE, &s.schedule, "constant|linear|cosine", 0, 0, "of the learning rate",
         false, false},
        {"warmup", OPTION_INT, &s.warmup, "N", -1, 1e12, "steps of warm-up; -1: chosen from the run's length",
         false, false},
        {"weight-decay", OPTION_REAL, &s.weight_decay, "X", 0, 10, "decoupled, as AdamW", false, false},
        {"beta1", OPTION_REAL, &s.beta1, "X", 0, 0.999999, "AdamW", false, false},
        {"beta2", OPTION_REAL, &s.beta2, "X", 0, 0.99999999, "AdamW", false, false},
        {"eps", OPTION_REAL, &s.eps, "X", 1e-30, 1, "AdamW", false, false},
        {"clip", OPTION_REAL, &s.clip, "X", 0, 1e9, "largest gradient norm; 0: none", false, false},
        {"recompute", OPTION_FLAG, &s.recompute, NULL, 0, 0, "keep block inputs only: less memory, more time",
         false, false},
        {"trainable", OPTION_CHOICE, &s.trainable, "lora|qformer|all", 0, 0, "what is trained", false, false},
        {"lora-rank", OPTION_INT, &s.lora_rank, "N", 1, 4096, "LoRA", false, false},
        {"lora-alpha", OPTION_REAL, &s.lora_alpha, "X", 1e-6, 1e6, "LoRA", false, false},
        {"lora-dropout", OPTION_REAL, &s.lora_dropout, "X", 0, 0.999999, "LoRA", false, false},
        {"lora-targets", OPTION_TEXT, &s.lora_targets, "A,B", 0, 0, "names that modules end with", false,
         false},
        {"lora-rslora", OPTION_FLAG, &s.rslora, NULL, 0, 0, "scale by alpha/sqrt(rank)", false, false},
        {"init-adapter", OPTION_TEXT, &s.init_adapter, "DIR", 0, 0, "adapter to start from, or to evaluate",
         false, false},
        {"dropout", OPTION_REAL, &s.dropout, "X", -1, 0.999999,
         "of the parts that train; -1: the model's own", false, false},
        {"augment", OPTION_CHOICE, &s.augment, "none|flip|shift|flip,shift", 0, 0,
         "where the image side trains", false, false},
        {"shuffle", OPTION_SWITCH, &s.shuffle, NULL, 0, 0, "a new order each epoch", false, false},
        {"feature-cache", OPTION_CHOICE, &s.feature_cache, "auto|on|off", 0, 0, "encode each photo once",
         false, false},
        {"cache-file", OPTION_TEXT, &s.cache_file, "FILE", 0, 0, "keep that cache in a file", false, false},
        {"seed", OPTION_INT, &s.seed, "N", 0, 4294967295.0, "of everything random", false, false},
        {"checkpoint-dir", OPTION_TEXT, &s.checkpoint_dir, "DIR", 0, 0, "where checkpoints go; none: none",
         false, false},
        {"checkpoint-every", OPTION_INT, &s.checkpoint_every, "N", 0, 1e12, "steps; 0: at the end of epochs",
         false, false},
        {"resume", OPTION_CHOICE, &s.resume, "auto|no", 0, 0, "go on from the newest checkpoint", false,
         false},
        {"eval-every", OPTION_INT, &s.eval_every, "N", 0, 1e12, "steps between evaluations; 0: at the end",
         false, false},
        {"sample-every", OPTION_INT, &s.sample_every, "N", 0, 1e12,
         "steps between sample predictions; 0: none", false, false},
        {"log-every", OPTION_INT, &s.log_every, "N", 1, 1e12, "steps between Loss lines", false, false},
        {"limit", OPTION_INT, &s.limit, "N", 0, 1e12, "first N rows of --train; 0: all", false, false},
        {"eval-limit", OPTION_INT, &s.eval_limit, "N", 0, 1e12, "first N rows of --eval; 0: all", false,
         false},
        {"eval-batch", OPTION_INT, &s.eval_batch, "N", 1, 4096, "questions answered at once", false, false},
        {"max-new-tokens", OPTION_INT, &s.max_new_tokens, "N", 1, 4096, "longest answer in an evaluation",
         false, false},
        {"prompt-template", OPTION_TEXT, &s.prompt_template, "TEXT", 0, 0,
         "{} stands for the question (default \"" BLIP2_PROMPT_TEMPLATE "\")", false, false},
        {"base-model-name", OPTION_TEXT, &s.base_model_name, "NAME", 0, 0, "name of the base in the adapter",
         false, false},
        {"dtype", OPTION_CHOICE, &s.dtype, "file|f32|float32|bf16|bfloat16|int8|int4", 0, 0,
         "of the frozen weights", false, false},
        {"plan", OPTION_FLAG, &s.plan, NULL, 0, 0, "print the memory it would take, and stop", false, false},
        DEVICE_OPTIONS(s.device),
    };
    program p = {.name = "train_fashion",
                 .summary = "fine-tunes a model on questions and answers about photos",
                 .synopsis = "--model DIR --images DIR --train CSV [--eval CSV] --output DIR [options]",
                 .rows = rows,
                 .count = sizeof rows / sizeof *rows};
    int code = program_options(&p, argc, argv);
    if (code >= 0) return program_end(&p, code);
    if (!strcmp(s.preset, "aws-seed") && !program_preset(&p, aws_seed, sizeof aws_seed / sizeof *aws_seed))
        return failure(&p, EXIT_FAILED, "the preset does not fit the options");
    code = settings_check(&p, &s);
    if (code >= 0) return code;
    run r = {.p = &p, .s = &s};
    stop_signal_watch();
    code = train_or_evaluate(&r);
    stop_signal_unwatch();
    run_close(&r);
    return program_end(&p, code);
}
