/* Checkpoints: two are kept, damaged ones are passed over, those of another run are refused, and a run that
 * goes on from any of them ends in the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "tests/unit/train_common.h"

enum { STEPS = 6 };

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

/* A run with a checkpoint after every step; the hash at its end. */
static uint64_t whole_run(train_shop *s, const blip2_trainer_options *o, const char *dir)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t = shop_trainer(s, o);
    for (int i = 0; i < STEPS; i++) {
        shop_step(t);
        if (blip2_trainer_checkpoint(t, dir, &e)) fail_msg("%s", e.text);
    }
    const uint64_t hash = shop_hash(t);
    blip2_trainer_close(t);
    return hash;
}

/* Resumes, finishes, hashes; *from: the step it went on from. */
static uint64_t resumed_run(train_shop *s, const blip2_trainer_options *o, const char *dir, int64_t *from)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t = shop_trainer(s, o);
    if (blip2_trainer_resume(t, dir, from, &e)) fail_msg("%s", e.text);
    for (int64_t i = *from; i < STEPS; i++) shop_step(t);
    const uint64_t hash = shop_hash(t);
    blip2_trainer_close(t);
    return hash;
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 0x40, f), c ^ 0x40);
    assert_int_equal(fclose(f), 0);
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
    whole_run(&s, &o, dir);
    for (int i = 0; i <= STEPS; i++) {
        snprintf(name, sizeof name, "step-%d", i);
        assert_int_equal(there(unit_path(dir, name)), i > STEPS - 2);
    }
    shop_close(&s);
}

/* What may happen to each of a checkpoint's files: a byte changes, the end is lost, the file is gone. */
static void damage(const char *folder, int how)
{
    static const char *const file[] = {"trained.safetensors", "adam_v.safetensors", "manifest.json"};
    const char *path = unit_path(folder, file[how % 3]);
    assert_true(there(path));
    if (how < 3)
        flip_byte(path, how == 2 ? 60 : 400);
    else if (how < 6)
        assert_int_equal(truncate(path, 100), 0);
    else
        assert_int_equal(unlink(path), 0);
}

static void damaged_ones_are_passed_over(void **state)
{
    train_shop s;
    int64_t from;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    for (int how = 0; how < 9; how++) {
        shop_open(&s, "old", "qa.csv", 2);
        const blip2_trainer_options o = run_options();
        const char *dir = unit_path(s.dir, "ckpt");
        const uint64_t hash = whole_run(&s, &o, dir);
        damage(unit_path(dir, "step-6"), how);
        assert_int_equal(resumed_run(&s, &o, dir, &from), hash);
        assert_int_equal(from, 5);
        assert_non_null(strstr(s.log, "step-6"));
        assert_non_null(strstr(s.log, "passed over"));
        damage(unit_path(dir, "step-5"), how);
        assert_int_equal(resumed_run(&s, &o, dir, &from), hash); /* nothing whole is left: from the start */
        assert_int_equal(from, 0);
        shop_close(&s);
    }
}

static void another_run_is_refused(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    int64_t from;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    const blip2_trainer_options mine = run_options();
    const char *dir = unit_path(s.dir, "ckpt");
    whole_run(&s, &mine, dir);
#define REFUSED(change, word)                                                                                \
    do {                                                                                                     \
        blip2_trainer_options o = run_options();                                                             \
        change;                                                                                              \
        blip2_trainer *t = shop_trainer(&s, &o);                                                             \
        const uint64_t before = shop_hash(t);                                                                \
        assert_int_equal(blip2_trainer_resume(t, dir, &from, &e), BLIP2_ERR_STATE);                          \
        if (!strstr(e.text, word) || !strstr(e.text, "step-6"))                                              \
            fail_msg("\"%s\" does not name %s", e.text, word);                                               \
        assert_int_equal(shop_hash(t), before);                                                              \
        blip2_trainer_close(t);                                                                              \
    } while (0)
    REFUSED(o.lr = 1e-4, "lr");
    REFUSED(o.seed = 8, "seed");
    REFUSED(o.batch = 2, "batch");
    REFUSED(o.lora_rank = 4, "trained tensors");
    REFUSED(o.max_steps = STEPS + 1, "steps"); /* the cosine would be another */
    REFUSED(o.prompt_template = "Q: {}", "prompt_template");
    REFUSED(o.trainable = BLIP2_TRAIN_QFORMER, "trainable");
    shop_close(&s);
}

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
    unit_write(unit_path(s.dir, "file"), "x", 1);
    assert_int_equal(blip2_trainer_checkpoint(t, unit_path(s.dir, "file"), &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "file"));
    assert_int_equal(blip2_trainer_checkpoint(t, "/proc/nowhere", &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "/proc/nowhere"));
    shop_step(t); /* the run goes on */
    blip2_trainer_close(t);
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
               *notes = unit_path(dir, "notes");
    assert_int_equal(b2_make_dirs(left, &e), BLIP2_OK);
    assert_int_equal(b2_make_dirs(notes, &e), BLIP2_OK);
    unit_write(unit_path(left, "trained.safetensors"), "x", 1);
    blip2_trainer *t = shop_trainer(&s, &o);
    shop_step(t);
    if (blip2_trainer_checkpoint(t, dir, &e)) fail_msg("%s", e.text);
    assert_false(there(left));
    assert_true(there(notes));
    blip2_trainer_close(t);
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_are_kept), cmocka_unit_test(damaged_ones_are_passed_over),
        cmocka_unit_test(another_run_is_refused), cmocka_unit_test(places_that_cannot_be),
        cmocka_unit_test(leftovers_are_swept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
