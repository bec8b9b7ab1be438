/* Training: what must not depend on threads, cache, recompute or the split into batches, and what must
 * fail well. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/file.h"
#include "tests/unit/train_common.h"

static void all_options(blip2_trainer_options *o)
{
    o->trainable = BLIP2_TRAIN_ALL;
    o->augment = BLIP2_AUGMENT_FLIP | BLIP2_AUGMENT_SHIFT;
    o->lr = 1e-3;
}

/* In a shop of its own: a device remembers the highest peak of all that ran on it. */
static void expect_plan_is_use(blip2_trainer_options o, bool cache_file)
{
    blip2_error e = BLIP2_ERROR_INIT;
    train_shop shop, *s = &shop;
    shop_open(s, "old", "qa.csv", 2);
    if (cache_file) o.cache_path = unit_path(s->dir, "tokens.cache");
    blip2_plan plan = {.size = sizeof plan};
    size_t peak;
    if (blip2_trainer_plan(s->model, s->data, &o, &plan, &e) != BLIP2_OK) fail_msg("%s", e.text);
    assert_int_equal(plan.total, plan.weights + plan.state + plan.saved + plan.scratch);
    assert_int_equal(blip2_device_memory(s->device, &peak), plan.weights);
    blip2_trainer *t = shop_trainer(s, &o);
    assert_int_equal(blip2_device_memory(s->device, &peak), plan.total);
    for (blip2_step_report r = {0}; !r.done;) r = shop_step(t);
    assert_int_equal(blip2_device_memory(s->device, &peak), plan.total);
    assert_int_equal(peak, plan.total);
    blip2_trainer_close(t);
    shop_close(s);
}

static void plan_is_use(void **state)
{
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    blip2_trainer_options o = shop_options();
    expect_plan_is_use(o, false);
    o.recompute = 1;
    expect_plan_is_use(o, false);
    o.feature_cache = 1;
    expect_plan_is_use(o, false);
    expect_plan_is_use(o, true);
    o = shop_options();
    all_options(&o);
    expect_plan_is_use(o, false);
    o.recompute = 1;
    o.batch = 9;
    expect_plan_is_use(o, false);
}

/* Losses of n steps and the hash at the end. */
static uint64_t run(const char *model, const char *csv, const blip2_trainer_options *o, int threads,
                    double *loss, int n)
{
    train_shop s;
    shop_open(&s, model, csv, threads);
    blip2_trainer *t = shop_trainer(&s, o);
    for (int i = 0; i < n; i++) loss[i] = shop_step(t).loss;
    const uint64_t h = shop_hash(t);
    blip2_trainer_close(t);
    shop_close(&s);
    return h;
}

static void threads_change_no_bit(void **state)
{
    double a[5], b[5];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    for (int all = 0; all < 2; all++) {
        blip2_trainer_options o = shop_options();
        if (all) all_options(&o);
        const char *csv = all ? "captions.csv" : "qa.csv";
        const uint64_t one = run("new", csv, &o, 1, a, 5);
        for (int threads = 2; threads <= 3; threads++) {
            assert_int_equal(run("new", csv, &o, threads, b, 5), one);
            assert_memory_equal(a, b, sizeof a);
        }
        assert_true(a[4] < a[0]);
    }
}

static void recompute_changes_no_bit(void **state)
{
    double a[4], b[4];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    for (int all = 0; all < 2; all++) {
        blip2_trainer_options o = shop_options();
        if (all) all_options(&o);
        const uint64_t kept = run("old", "qa.csv", &o, 2, a, 4);
        o.recompute = 1;
        assert_int_equal(run("old", "qa.csv", &o, 2, b, 4), kept);
        assert_memory_equal(a, b, sizeof a);
    }
}

static void split_changes_nothing(void **state)
{
    double a[5], b[5];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    for (int all = 0; all < 2; all++) {
        blip2_trainer_options o = shop_options();
        if (all) all_options(&o);
        o.batch = 8;
        run("old", all ? "captions.csv" : "qa.csv", &o, 2, a, all ? 4 : 5);
        o.batch = 4;
        o.accumulate = 2;
        run("old", all ? "captions.csv" : "qa.csv", &o, 2, b, all ? 4 : 5);
        for (int i = 0; i < (all ? 4 : 5); i++) assert_true(fabs(a[i] - b[i]) <= 1e-5 * fabs(a[i]));
    }
}

static void cache_changes_no_loss(void **state)
{
    train_shop s;
    double plain[6], cached[6];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    blip2_trainer_options o = shop_options();
    run("old", "qa.csv", &o, 2, plain, 6);
    o.feature_cache = 1;
    run("old", "qa.csv", &o, 2, cached, 6);
    for (int i = 0; i < 6; i++) assert_true(fabs(plain[i] - cached[i]) <= 1e-6);
    shop_open(&s, "old", "qa.csv", 2);
    o.cache_path = unit_path(s.dir, "tokens.cache");
    struct stat first = {0}, now = {0};
    for (int round = 0; round < 3; round++) { /* written, read, damaged and written anew */
        blip2_trainer *t = shop_trainer(&s, &o);
        for (int i = 0; i < 6; i++) assert_true(fabs(plain[i] - shop_step(t).loss) <= 1e-6);
        blip2_trainer_close(t);
        assert_int_equal(stat(o.cache_path, &now), 0);
        if (round == 0) first = now;
        if (round == 1) {
            assert_int_equal(now.st_ino, first.st_ino);
            FILE *f = fopen(o.cache_path, "r+b");
            assert_non_null(f);
            assert_int_equal(fseek(f, 700, SEEK_SET), 0);
            assert_int_equal(fputc(0x5A, f), 0x5A);
            assert_int_equal(fclose(f), 0);
        }
    }
    assert_non_null(strstr(s.log, "checksum"));
    shop_close(&s);
}

/* Another photo under the same name: its tokens are made anew, the others are taken from the file. */
static void cache_sees_new_photos(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    blip2_trainer_options o = shop_options();
    o.feature_cache = 1;
    o.cache_path = unit_path(s.dir, "tokens.cache");
    blip2_trainer_close(shop_trainer(&s, &o));
    assert_int_equal(rename(unit_path(s.dir, "images/p3.jpg"), unit_path(s.dir, "images/p0.jpg")), 0);
    assert_int_equal(b2_copy_file(unit_path(s.dir, "images/p4.jpg"), unit_path(s.dir, "images/p3.jpg"), NULL),
                     BLIP2_OK);
    blip2_trainer *file = shop_trainer(&s, &o);
    o.cache_path = NULL;
    blip2_trainer *memory = shop_trainer(&s, &o);
    const int64_t n = s.data->images * s.model->config.qf.queries * s.model->config.t5.d;
    for (int64_t i = 0; i < n; i++) assert_true(fabsf(file->file.tokens[i] - memory->features[i]) <= 1e-5f);
    blip2_trainer_close(file);
    blip2_trainer_close(memory);
    shop_close(&s);
}

static void nonfinite_is_named(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_step_report r = {.size = sizeof r};
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "captions.csv", 2);
    blip2_trainer_options o = shop_options();
    o.trainable = BLIP2_TRAIN_ALL;
    o.batch = 3;
    o.accumulate = 4;
    blip2_trainer *t = shop_trainer(&s, &o);
    shop_step(t);
    /* A token that the caption of photo 10 alone has ("very new"): as an input it is read when the label
     * before it was. */
    const int vocab = s.model->config.t5.vocab, d = s.model->config.t5.d;
    int *seen = calloc((size_t)vocab, sizeof *seen), token = -1;
    for (int64_t i = 0; i < 11; i++) {
        const b2_span x = t->texts.out[i];
        for (int k = 0; k + 2 < x.n; k++) seen[t->texts.ids[x.at + (size_t)k]] |= i == 10 ? 1 : 2;
    }
    for (int i = 0; i < vocab; i++) {
        if (seen[i] == 1) token = i;
    }
    free(seen);
    if (token < 0) fail_msg("no token is the last caption's alone");
    float *w = (float *)(uintptr_t)t->net->shared.p + (size_t)token * (size_t)d, kept = w[1];
    w[1] = INFINITY;
    const uint64_t before = shop_hash(t);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(blip2_trainer_step(t, &r, &e), BLIP2_ERR_NONFINITE);
        assert_non_null(strstr(e.text, "step 2"));
        assert_non_null(strstr(e.text, "\"p10\""));
        assert_non_null(strstr(e.text, "line 12"));
        assert_non_null(strstr(e.text, "embed"));
        assert_int_equal(shop_hash(t), before);
    }
    w[1] = kept;
    assert_true(isfinite(shop_step(t).loss));
    blip2_trainer_close(t);
    shop_close(&s);
}

static void cancelled_step_is_made_again(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_step_report r = {.size = sizeof r};
    double want[4];
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    blip2_trainer_options o = shop_options();
    const uint64_t hash = run("old", "qa.csv", &o, 2, want, 4);
    shop_open(&s, "old", "qa.csv", 2);
    blip2_trainer *t = shop_trainer(&s, &o);
    for (int i = 0; i < 4; i++) {
        blip2_trainer_cancel(t);
        assert_int_equal(blip2_trainer_step(t, &r, &e), BLIP2_ERR_CANCELLED);
        assert_true(shop_step(t).loss == want[i]);
    }
    assert_int_equal(shop_hash(t), hash);
    blip2_trainer_close(t);
    shop_close(&s);
}

/* A session on the trainer, the saved adapter on the model, and a run that starts from it: one and the
 * same. */
static void adapter_goes_round(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_session_options so = BLIP2_SESSION_OPTIONS_INIT;
    blip2_evaluate_options eo = BLIP2_EVALUATE_OPTIONS_INIT;
    blip2_session *session = NULL;
    blip2_evaluation *mine = NULL, *saved = NULL;
    blip2_adapter *adapter = NULL;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 2);
    blip2_trainer_options o = shop_options();
    o.epochs = 150;
    o.lr = 1e-2;
    o.dropout = 0;
    o.lora_dropout = 0;
    o.feature_cache = 1;
    blip2_trainer *t = shop_trainer(&s, &o);
    double first = 0, last = 0;
    for (blip2_step_report r = {0}; !r.done;) {
        r = shop_step(t);
        if (r.step == 1) first = r.loss;
        if (r.done) last = r.epoch_loss;
    }
    assert_true(last < first / 2);
    assert_int_equal(blip2_trainer_session(t, &so, &session, &e), BLIP2_OK);
    assert_int_equal(blip2_evaluate(session, s.data, &eo, &mine, &e), BLIP2_OK);
    blip2_session_close(session);
    if (blip2_trainer_save(t, unit_path(s.dir, "adapter"), &e) != BLIP2_OK) fail_msg("%s", e.text);
    if (blip2_adapter_open(s.model, unit_path(s.dir, "adapter"), &adapter, &e) != BLIP2_OK)
        fail_msg("%s", e.text);
    so.adapters = &adapter;
    so.n_adapters = 1;
    eo.adapter = 0;
    assert_int_equal(blip2_session_open(s.model, &so, &session, &e), BLIP2_OK);
    assert_int_equal(blip2_evaluate(session, s.data, &eo, &saved, &e), BLIP2_OK);
    blip2_session_close(session);
    int64_t n = 0;
    assert_true(blip2_evaluation_accuracy(mine, NULL, &n) >= 0.3); /* the untrained model: 0 */
    assert_int_equal(n, 22);
    assert_true(blip2_evaluation_accuracy(mine, NULL, NULL) == blip2_evaluation_accuracy(saved, NULL, NULL));
    assert_true(blip2_evaluation_accuracy(mine, "Colour", &n) > 0);
    assert_int_equal(n, 11);
    assert_true(blip2_evaluation_accuracy(mine, "Fabric", &n) < 0);
    blip2_evaluation_close(mine);
    blip2_evaluation_close(saved);
    blip2_adapter_close(adapter);
    o.init_adapter = unit_path(s.dir, "adapter");
    o.lora_rank = 3; /* the adapter's own rank counts */
    blip2_trainer *next = shop_trainer(&s, &o);
    assert_int_equal(next->tensors, t->tensors);
    for (int i = 0; i < t->tensors; i++)
        assert_memory_equal(next->flat.w + next->tensor[i].at, t->flat.w + t->tensor[i].at,
                            (size_t)t->tensor[i].n * sizeof(float));
    blip2_trainer_close(next);
    blip2_trainer_close(t);
    shop_close(&s);
}

static void qformer_run_leaves_the_rest(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model *m = NULL;
    int changed = 0;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "captions.csv", 2);
    blip2_trainer_options o = shop_options();
    o.trainable = BLIP2_TRAIN_QFORMER;
    blip2_trainer *t = shop_trainer(&s, &o);
    for (int i = 0; i < 3; i++) shop_step(t);
    if (blip2_trainer_save(t, unit_path(s.dir, "out"), &e) != BLIP2_OK) fail_msg("%s", e.text);
    if (blip2_model_open(s.device, unit_path(s.dir, "out"), NULL, &m, &e) != BLIP2_OK) fail_msg("%s", e.text);
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *now = &m->net->ref[i], *old = &s.model->net->ref[i];
        const size_t n = (size_t)now->param->rows * (size_t)now->param->cols * sizeof(float);
        const bool same = memcmp(now->param->p, old->param->p, n) == 0;
        if (now->part == B2_PART_VIT || now->part == B2_PART_T5)
            assert_true(same);
        else
            changed += !same;
    }
    assert_true(changed > 10);
    blip2_model_close(m);
    blip2_trainer_close(t);
    shop_close(&s);
}

static void bad_options(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t = NULL;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
#define REFUSED(change, status, word)                                                                        \
    do {                                                                                                     \
        blip2_trainer_options o = shop_options();                                                            \
        change;                                                                                              \
        assert_int_equal(blip2_trainer_open(s.model, s.data, &o, &t, &e), status);                           \
        assert_null(t);                                                                                      \
        if (!strstr(e.text, word)) fail_msg("\"%s\" does not name %s", e.text, word);                        \
    } while (0)
    REFUSED(o.batch = 0, BLIP2_ERR_ARGUMENT, "batch");
    REFUSED(o.lr = NAN, BLIP2_ERR_ARGUMENT, "lr");
    REFUSED(o.beta2 = 1.0, BLIP2_ERR_ARGUMENT, "beta2");
    REFUSED(o.augment = BLIP2_AUGMENT_FLIP, BLIP2_ERR_ARGUMENT, "augment");
    REFUSED(o.trainable = BLIP2_TRAIN_ALL; o.feature_cache = 1, BLIP2_ERR_ARGUMENT, "feature_cache");
    REFUSED(o.lora_targets = "nothing", BLIP2_ERR_CONFIG, "nothing");
    REFUSED(o.lora_rank = 0, BLIP2_ERR_ARGUMENT, "lora_rank");
    REFUSED(o.prompt_template = "no place", BLIP2_ERR_ARGUMENT, "no place");
    REFUSED(o.max_answer_tokens = 3, BLIP2_ERR_DATA, "line 2");
    REFUSED(o.max_prompt_tokens = 5, BLIP2_ERR_DATA, "prompt");
    REFUSED(o.init_adapter = "/nonexistent", BLIP2_ERR_IO, "/nonexistent");
    REFUSED(o.feature_cache = 1; o.cache_path = "/nonexistent/cache", BLIP2_ERR_IO, "/nonexistent/cache");
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_is_use),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(recompute_changes_no_bit),
        cmocka_unit_test(split_changes_nothing),
        cmocka_unit_test(cache_changes_no_loss),
        cmocka_unit_test(cache_sees_new_photos),
        cmocka_unit_test(nonfinite_is_named),
        cmocka_unit_test(cancelled_step_is_made_again),
        cmocka_unit_test(adapter_goes_round),
        cmocka_unit_test(qformer_run_leaves_the_rest),
        cmocka_unit_test(bad_options),
    };
    cmocka_set_test_filter(getenv("BLIP2_TEST_ONLY")); /* a pattern; NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
