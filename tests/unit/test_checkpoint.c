/* Checkpoints: two are kept, damaged ones are passed over, those of another run are refused, a failed writing
 * harms none, and a run that goes on from any of them ends in the same bytes. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "tests/unit/train_common.h"

enum { STEPS = 6 }; /* two epochs of three */

/* Dropout, an order of its own and AdamW's moments: all that a resumed run could lose. */
static blip2_trainer_options run_options(void)
{
    blip2_trainer_options o = shop_options();
    o.max_steps = STEPS;
    o.lora_dropout = 0.2;
    o.accumulate = 2;
    o.schedule = BLIP2_COSINE;
    return o;
}

static bool there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static int entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *x; (x = readdir(d));) n += strcmp(x->d_name, ".") && strcmp(x->d_name, "..");
    closedir(d);
    return n;
}

/* What a run without interruption says and ends in. */
typedef struct course {
    blip2_step_report step[STEPS];
    uint64_t hash;
} course;

static void keep(const blip2_trainer *t, const char *dir)
{
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_trainer_checkpoint(t, dir, &e)) fail_msg("%s", e.text);
}

/* A run with a checkpoint after every step. */
static course whole_run(train_shop *s, const blip2_trainer_options *o, const char *dir)
{
    course c;
    blip2_trainer *t = shop_trainer(s, o);
    for (int i = 0; i < STEPS; i++) {
        c.step[i] = shop_step(t);
        keep(t, dir);
    }
    c.hash = shop_hash(t);
    blip2_trainer_close(t);
    return c;
}

static void same_step(const blip2_step_report *a, const blip2_step_report *b)
{
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->epoch_ended, b->epoch_ended);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(a->done, b->done);
    assert_true(a->loss == b->loss && a->epoch_loss == b->epoch_loss);
    assert_true(a->lr == b->lr && a->grad_norm == b->grad_norm);
}

/* Resumes at step `from`, finishes: every report and the end are those of
 * the course. */
static void resumed_run(train_shop *s, const blip2_trainer_options *o, const char *dir, int64_t from,
                        const course *c)
{
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t at = -1;
    blip2_trainer *t = shop_trainer(s, o);
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    assert_int_equal(at, from);
    for (int64_t i = at; i < STEPS; i++) {
        const blip2_step_report r = shop_step(t);
        same_step(&r, &c->step[i]);
    }
    assert_int_equal(shop_hash(t), c->hash);
    blip2_trainer_close(t);
}

static void two_are_kept(void **state)
{
    train_shop s;
    char name[32];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "a/b/ckpt"); /* made with its parents */
    blip2_trainer *t = shop_trainer(&s, &o);
    for (int i = 0; i <= STEPS; i++) {
        keep(t, dir);
        for (int k = i < 2 ? 0 : i - 1; k <= i; k++) {
            snprintf(name, sizeof name, "step-%d", k);
            assert_true(there(unit_path(dir, name)));
        }
        assert_int_equal(entries(dir), i < 1 ? 1 : 2);
        if (i < STEPS) shop_step(t);
    }
    blip2_trainer_close(t);
    shop_close(&s);
}

/* ---- damage ---- */

typedef enum harm { FLIP, CUT, GROW, LOSE } harm;
/* at: FLIP changes the byte there (negative: from the end), CUT leaves so many. */
typedef struct damage {
    const char *file;
    harm how;
    long at;
} damage;
static const damage damages[] = {
    {"trained.safetensors", FLIP, -1}, /* numbers: nothing but a checksum can tell */
    {"adam_m.safetensors", FLIP, -4},  {"adam_v.safetensors", FLIP, -1000},
    {"trained.safetensors", FLIP, 60}, /* in the header */
    {"manifest.json", FLIP, 0},        /* 0: a digit, see flip_digit */
    {"manifest.json", FLIP, -3},       /* its own checksum */
    {"adam_m.safetensors", CUT, 100},  {"adam_v.safetensors", CUT, 0},
    {"manifest.json", CUT, 60},        {"manifest.json", CUT, 0},
    {"trained.safetensors", GROW, 0},  {"manifest.json", GROW, 0},
    {"trained.safetensors", LOSE, 0},  {"adam_m.safetensors", LOSE, 0},
    {"manifest.json", LOSE, 0},
};

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

/* Another number of epoch tokens: the manifest stays good JSON with values in range. */
static void flip_digit(const char *path)
{
    static const char key[] = "\"epoch_tokens\":";
    char *p = NULL;
    size_t n = 0;
    assert_int_equal(b2_read_file(path, 1 << 20, &p, &n, NULL), BLIP2_OK);
    const char *at = strstr(p, key);
    assert_non_null(at);
    flip_byte(path, at - p + (long)strlen(key));
    free(p);
}

static void do_damage(const char *folder, const damage *d)
{
    const char *path = unit_path(folder, d->file);
    assert_true(there(path));
    if (d->how == LOSE) {
        assert_int_equal(unlink(path), 0);
    } else if (d->how == CUT) {
        assert_int_equal(truncate(path, d->at), 0);
    } else if (d->how == GROW) {
        FILE *f = fopen(path, "ab");
        assert_non_null(f);
        assert_int_equal(fputc('\n', f), '\n');
        assert_int_equal(fclose(f), 0);
    } else if (d->at) {
        flip_byte(path, d->at);
    } else {
        flip_digit(path);
    }
}

/* One warning (level 1) says that the folder is passed over and names the file. */
static void expect_warning(const train_shop *s, const char *folder, const char *file)
{
    const char *at = strstr(s->log, folder), *end = at ? strchr(at, '\n') : NULL, *line = at;
    if (!end) fail_msg("the log does not name %s:\n%s", folder, s->log);
    while (line > s->log && line[-1] != '\n') line--;
    const char *passed = strstr(at, "passed over"), *named = passed ? strstr(passed, file) : NULL;
    if (line[0] != '1' || !named || named > end)
        fail_msg("no warning that passes over %s for %s:\n%s", folder, file, s->log);
}

static void damaged_ones_are_passed_over(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    const int open_before = entries("/proc/self/fd");
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        shop_open(&s, "old", "qa.csv", 2);
        const blip2_trainer_options o = run_options();
        const char *dir = unit_path(s.dir, "ckpt");
        const course c = whole_run(&s, &o, dir);
        do_damage(unit_path(dir, "step-6"), &damages[i]);
        assert_string_equal(s.log, "");
        resumed_run(&s, &o, dir, 5, &c);
        expect_warning(&s, "step-6", damages[i].file);
        assert_null(strstr(s.log, "step-5"));
        do_damage(unit_path(dir, "step-5"), &damages[i]);
        resumed_run(&s, &o, dir, 0, &c); /* nothing whole is left: from the start */
        expect_warning(&s, "step-5", damages[i].file);
        shop_close(&s);
    }
    assert_int_equal(entries("/proc/self/fd"), open_before);
}

/* A run that went on from the older one writes the damaged one's step anew: from then on it is a whole one
 * like any other. */
static void damaged_ones_are_written_anew(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t at;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt"), *other = unit_path(s.dir, "other");
    const course c = whole_run(&s, &o, other);
    blip2_trainer *t = shop_trainer(&s, &o);
    for (int i = 1; i <= 4; i++) {
        shop_step(t);
        keep(t, dir);
    }
    blip2_trainer_close(t);
    do_damage(unit_path(dir, "step-4"), &damages[0]);
    t = shop_trainer(&s, &o);
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    assert_int_equal(at, 3);
    for (int i = 4; i <= 5; i++) {
        shop_step(t);
        keep(t, dir);
    }
    blip2_trainer_close(t);
    assert_int_equal(entries(dir), 2);
    assert_true(there(unit_path(dir, "step-4")));
    assert_null(strstr(s.log, "removed"));
    resumed_run(&s, &o, dir, 5, &c);
    do_damage(unit_path(dir, "step-5"), &damages[0]);
    resumed_run(&s, &o, dir, 4, &c);
    shop_close(&s);
}

/* Between a damaged one and the next of the resumed run lie other steps: what is kept is the one that was
 * taken up, not the damaged one. */
static void damaged_ones_are_not_among_the_two(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t at;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt"), *other = unit_path(s.dir, "other");
    const course c = whole_run(&s, &o, other);
    blip2_trainer *t = shop_trainer(&s, &o);
    for (int i = 1; i <= 4; i++) {
        shop_step(t);
        if (i % 2 == 0) keep(t, dir);
    }
    blip2_trainer_close(t);
    do_damage(unit_path(dir, "step-4"), &damages[0]);
    t = shop_trainer(&s, &o);
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    assert_int_equal(at, 2);
    for (int i = 3; i <= 5; i++) shop_step(t);
    keep(t, dir);
    blip2_trainer_close(t);
    assert_int_equal(entries(dir), 2);
    assert_true(there(unit_path(dir, "step-5")));
    assert_true(there(unit_path(dir, "step-2")));
    assert_non_null(strstr(s.log, "step-4 is removed: it is damaged"));
    do_damage(unit_path(dir, "step-5"), &damages[0]);
    resumed_run(&s, &o, dir, 2, &c);
    shop_close(&s);
}

/* ---- another run ---- */

static void expect_refused(train_shop *s, const blip2_trainer_options *o, const char *dir, const char *key)
{
    blip2_error e = BLIP2_ERROR_INIT;
    char want[64];
    int64_t at = 7;
    blip2_trainer *t = shop_trainer(s, o);
    const uint64_t before = shop_hash(t);
    snprintf(want, sizeof want, ": %s was ", key);
    assert_int_equal(blip2_trainer_resume(t, dir, &at, &e), BLIP2_ERR_STATE);
    if (!strstr(e.text, want) || !strstr(e.text, "step-6")) fail_msg("\"%s\" does not name %s", e.text, key);
    assert_int_equal(at, 0);
    assert_int_equal(shop_hash(t), before);
    blip2_trainer_close(t);
}

static void other_options_are_refused(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options mine = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    whole_run(&s, &mine, dir);
#define REFUSED(change, key)                                                                                 \
    do {                                                                                                     \
        blip2_trainer_options o = run_options();                                                             \
        change;                                                                                              \
        expect_refused(&s, &o, dir, key);                                                                    \
    } while (0)
    REFUSED(o.trainable = BLIP2_TRAIN_QFORMER, "trainable");
    REFUSED(o.lora_rank = 4, "trained tensors");
    REFUSED(o.lora_targets = "q", "trained tensors");
    REFUSED(o.lora_alpha = 16, "trained tensors"); /* the scale */
    REFUSED(o.lora_rslora = 1, "trained tensors");
    REFUSED(o.lora_dropout = 0.1, "lora_dropout");
    REFUSED(o.batch = 2, "batch");
    REFUSED(o.accumulate = 1, "accumulate");
    REFUSED(o.lr = 1e-4, "lr");
    REFUSED(o.weight_decay = 0.02, "weight_decay");
    REFUSED(o.beta1 = 0.8, "beta1");
    REFUSED(o.beta2 = 0.99, "beta2");
    REFUSED(o.eps = 1e-6, "eps");
    REFUSED(o.clip = 2, "clip");
    REFUSED(o.schedule = BLIP2_LINEAR, "schedule");
    REFUSED(o.warmup = 1, "warmup");
    REFUSED(o.max_steps = STEPS + 1, "steps"); /* the cosine would be another */
    REFUSED(o.dropout = 0.3, "dropout");
    REFUSED(o.shuffle = 0, "shuffle");
    REFUSED(o.feature_cache = 1, "feature_cache");
    REFUSED(o.seed = 8, "seed");
    REFUSED(o.prompt_template = "Q: {}", "prompt_template");
    REFUSED(o.max_prompt_tokens = 200, "max_prompt_tokens");
    shop_close(&s);
}

/* What decides about no bit: recomputation, and with a constant rate the length. */
static void what_may_change(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t at;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    o.schedule = BLIP2_CONSTANT;
    const course c = whole_run(&s, &o, dir);
    o.recompute = 1;
    resumed_run(&s, &o, dir, 6, &c);
    do_damage(unit_path(dir, "step-6"), &damages[0]);
    resumed_run(&s, &o, dir, 5, &c);
    o.max_steps = STEPS + 2;
    blip2_trainer *t = shop_trainer(&s, &o);
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    for (int i = 5; i < STEPS + 2; i++) assert_int_equal(shop_step(t).done, i == STEPS + 1);
    blip2_trainer_close(t);
    shop_close(&s);
}

static void other_models_and_data_are_refused(void **state)
{
    static const char rows[] = "id,Question,Answer\np0,which colour?,Colour: red\n";
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset_options d = BLIP2_DATASET_OPTIONS_INIT;
    blip2_dataset *data = NULL;
    blip2_model *model = NULL;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    whole_run(&s, &o, dir);
    blip2_model *own_model = s.model;
    if (blip2_model_open(s.device, train_tree("tests/golden/new/model"), NULL, &model, &e))
        fail_msg("%s", e.text);
    s.model = model;
    expect_refused(&s, &o, dir, "model");
    blip2_model_close(model);
    s.model = own_model;
    const double mean = s.model->prep.mean[0];
    s.model->prep.mean[0] = mean + 0.25;
    expect_refused(&s, &o, dir, "preprocessing");
    s.model->prep.mean[0] = mean;
    blip2_dataset *own = s.data;
    d.csv = unit_path(s.dir, "others.csv");
    d.images = unit_path(s.dir, "images");
    unit_write(d.csv, rows, sizeof rows - 1);
    if (blip2_dataset_open(&d, &data, &e)) fail_msg("%s", e.text);
    s.data = data;
    expect_refused(&s, &o, dir, "data");
    blip2_dataset_close(data);
    s.data = own;
    shop_close(&s);
}

/* ---- places ---- */

static void places_that_cannot_be(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t from = 7;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    blip2_trainer *t = shop_trainer(&s, &o);
    assert_int_equal(blip2_trainer_resume(t, unit_path(s.dir, "nowhere"), &from, &e), BLIP2_OK);
    assert_int_equal(from, 0);
    const char *file = unit_path(s.dir, "plain");
    unit_write(file, "x", 1);
    assert_int_equal(blip2_trainer_checkpoint(t, file, &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, file));
    assert_int_equal(blip2_trainer_resume(t, file, &from, &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, file));
    assert_int_equal(blip2_trainer_checkpoint(t, "/proc/nowhere", &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "/proc/nowhere"));
    shop_step(t); /* the run goes on */
    blip2_trainer_close(t);
    shop_close(&s);
}

/* The disk is full in the middle of a file: an error, no leftovers, and the older ones are as they were. */
static void a_failed_writing_harms_nothing(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t at;
    struct rlimit before, small;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    const course c = whole_run(&s, &o, dir);
    do_damage(unit_path(dir, "step-6"), &damages[0]);
    blip2_trainer *t = shop_trainer(&s, &o);
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const blip2_status written = blip2_trainer_checkpoint(t, dir, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(written, BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "trained.safetensors"));
    assert_int_equal(entries(dir), 2);
    resumed_run(&s, &o, dir, 5, &c);
    shop_step(t);
    keep(t, dir);
    blip2_trainer_close(t);
    resumed_run(&s, &o, dir, 6, &c);
    shop_close(&s);
}

/* What a killed process left behind goes away; what is not a checkpoint stays. */
static void leftovers_are_swept(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt"), *left = unit_path(dir, ".tmp-step-3.1"),
               *old = unit_path(dir, ".tmp-old-step-2.1"), *notes = unit_path(dir, "notes");
    assert_int_equal(b2_make_dirs(left, &e), BLIP2_OK);
    assert_int_equal(b2_make_dirs(old, &e), BLIP2_OK);
    assert_int_equal(b2_make_dirs(notes, &e), BLIP2_OK);
    unit_write(unit_path(left, "trained.safetensors"), "x", 1);
    blip2_trainer *t = shop_trainer(&s, &o);
    shop_step(t);
    keep(t, dir);
    assert_false(there(left));
    assert_false(there(old));
    assert_true(there(notes));
    blip2_trainer_close(t);
    shop_close(&s);
}

/* A run begun anew in the folder of one that went further: what is ahead of it goes, with a warning. */
static void what_is_ahead_goes(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    const course c = whole_run(&s, &o, dir);
    blip2_trainer *t = shop_trainer(&s, &o);
    shop_step(t);
    keep(t, dir);
    blip2_trainer_close(t);
    assert_int_equal(entries(dir), 1);
    assert_non_null(strstr(s.log, "step-6 is removed: it is ahead of this run"));
    assert_non_null(strstr(s.log, "step-5 is removed: it is ahead of this run"));
    resumed_run(&s, &o, dir, 1, &c);
    shop_close(&s);
}

static void only_a_fresh_trainer_resumes(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_step_report r = {.size = sizeof r};
    int64_t at = 0;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options o = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    const course c = whole_run(&s, &o, dir);
    blip2_trainer *t = shop_trainer(&s, &o);
    shop_step(t);
    const uint64_t one_step = shop_hash(t);
    assert_int_equal(blip2_trainer_resume(t, dir, &at, &e), BLIP2_ERR_STATE);
    assert_non_null(strstr(e.text, "already made 1 steps"));
    assert_int_equal(shop_hash(t), one_step);
    blip2_trainer_close(t);
    t = shop_trainer(&s, &o); /* a finished run has nothing left to do, and says so */
    if (blip2_trainer_resume(t, dir, &at, &e)) fail_msg("%s", e.text);
    assert_int_equal(at, STEPS);
    assert_int_equal(blip2_trainer_step(t, &r, &e), BLIP2_ERR_STATE);
    assert_true(r.done && r.step == STEPS);
    assert_int_equal(shop_hash(t), c.hash);
    blip2_trainer_close(t);
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_are_kept),
        cmocka_unit_test(damaged_ones_are_passed_over),
        cmocka_unit_test(damaged_ones_are_written_anew),
        cmocka_unit_test(damaged_ones_are_not_among_the_two),
        cmocka_unit_test(other_options_are_refused),
        cmocka_unit_test(what_may_change),
        cmocka_unit_test(other_models_and_data_are_refused),
        cmocka_unit_test(places_that_cannot_be),
        cmocka_unit_test(a_failed_writing_harms_nothing),
        cmocka_unit_test(leftovers_are_swept),
        cmocka_unit_test(what_is_ahead_goes),
        cmocka_unit_test(only_a_fresh_trainer_resumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
