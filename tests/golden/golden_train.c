/* Training through the public trainer against transformers + PEFT (README.md here): losses and gradient norms
 * of ten LoRA steps and the adapter at their end; five steps of the Q-Former with the projection; five of
 * everything. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/safetensors.h"
#include "tests/unit/train_common.h"
#include "tests/unit/unit.h"

#define LIMIT       1e-4 /* losses and gradient norms, relative */
#define FINAL_LIMIT 1e-3 /* the adapter, which has gone through ten divisions by sqrt(v) */
#define WRITTEN     "adapter_model.safetensors"

typedef struct rig {
    const char *name;
    blip2_device *device;
    blip2_model *model;
    blip2_dataset *data;
    b2_st_set *golden;
} rig;

static const char *file_of(const rig *k, const char *leaf)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s/%s", k->name, leaf);
    return train_tree(path);
}

static void rig_open(rig *k, const char *name)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    *k = (rig){.name = name};
    o.csv = train_tree("tests/golden/rows.csv");
    o.images = train_tree("tests/golden/images");
    if (blip2_device_open(unit_device(), NULL, &k->device, &e) ||
        blip2_model_open(k->device, file_of(k, "model"), NULL, &k->model, &e) ||
        blip2_dataset_open(&o, &k->data, &e) ||
        b2_st_open_file(&k->golden, file_of(k, "golden.safetensors"), &e))
        fail_msg("%s", e.text);
}

static void rig_close(rig *k)
{
    b2_st_close(k->golden);
    blip2_dataset_close(k->data);
    blip2_model_close(k->model);
    blip2_device_close(k->device);
}

static const float *floats(const b2_st_set *set, const char *name, size_t n)
{
    const b2_st_tensor *t = b2_st_find(set, name);
    if (!t) fail_msg("tensor %s is missing", name);
    assert_int_equal(t->bytes, n * sizeof(float));
    assert_int_equal((uintptr_t)t->data % sizeof(float), 0);
    return (const float *)(const void *)t->data;
}

/* The script's AdamW: no schedule, no dropout, one batch of all rows. */
static blip2_trainer_options recipe(blip2_trainable what, double lr, int steps)
{
    blip2_trainer_options o;
    blip2_trainer_options_init(&o);
    o.trainable = what;
    o.batch = 3;
    o.max_steps = steps;
    o.lr = lr;
    o.schedule = BLIP2_CONSTANT;
    o.warmup = 0;
    o.beta1 = 0.9;
    o.beta2 = 0.999;
    o.eps = 1e-8;
    o.weight_decay = 0.01;
    o.clip = 1.0;
    o.dropout = 0;
    o.lora_dropout = 0;
    o.shuffle = 0;
    return o;
}

/* Runs that the last bit of the weights moves further than LIMIT, in transformers too (README.md). */
static double norm_limit(const char *name, const char *prefix, size_t step)
{
    static const char *const moved[][2] = {{"new", "lora"}, {"new", "all"}, {"relu", "qformer"}};
    for (size_t i = 0; step > 0 && i < sizeof moved / sizeof moved[0]; i++) {
        if (strcmp(name, moved[i][0]) == 0 && strcmp(prefix, moved[i][1]) == 0) return 1e-3;
    }
    return LIMIT;
}

static blip2_trainer *run(const rig *k, const blip2_trainer_options *o, const char *prefix)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t;
    char name[64];
    const size_t steps = (size_t)o->max_steps;
    snprintf(name, sizeof name, "%s.losses", prefix);
    const float *losses = floats(k->golden, name, steps);
    snprintf(name, sizeof name, "%s.grad_norms", prefix);
    const float *norms = floats(k->golden, name, steps);
    if (blip2_trainer_open(k->model, k->data, o, &t, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < steps; i++) {
        const blip2_step_report r = shop_step(t);
        assert_int_equal(r.samples, 3);
        if (!(fabs(r.loss - losses[i]) <= LIMIT * fabs(losses[i])))
            fail_msg("%s %s step %zu: loss %.7f, transformers %.7f", k->name, prefix, i, r.loss, losses[i]);
        if (!(fabs(r.grad_norm - norms[i]) <= norm_limit(k->name, prefix, i) * fabs(norms[i])))
            fail_msg("%s %s step %zu: gradient norm %.7f, transformers %.7f", k->name, prefix, i, r.grad_norm,
                     norms[i]);
    }
    return t;
}

/* The written adapter holds PEFT's tensors after its ten steps, all of them and no other. */
static void compare_adapter(const rig *k, const blip2_trainer *t)
{
    blip2_error e = BLIP2_ERROR_INIT;
    char *dir = unit_folder(), key[256];
    b2_st_set *mine;
    if (blip2_trainer_save(t, dir, &e) || b2_st_open_file(&mine, unit_path(dir, WRITTEN), &e))
        fail_msg("%s", e.text);
    size_t wanted = 0;
    for (size_t i = 0; i < b2_st_count(k->golden); i++)
        wanted += strncmp(b2_st_at(k->golden, i)->name, "lora_final.", 11) == 0;
    assert_true(wanted > 0);
    assert_int_equal(b2_st_count(mine), wanted);
    for (size_t i = 0; i < b2_st_count(mine); i++) {
        const b2_st_tensor *x = b2_st_at(mine, i);
        const size_t n = x->bytes / sizeof(float);
        snprintf(key, sizeof key, "lora_final.%s", x->name);
        const float *got = floats(mine, x->name, n), *want = floats(k->golden, key, n);
        float top = 0, worst = 0;
        for (size_t j = 0; j < n; j++) {
            top = fmaxf(top, fabsf(want[j]));
            worst = fmaxf(worst, fabsf(got[j] - want[j]));
        }
        if (!(worst <= (float)FINAL_LIMIT * top))
            fail_msg("%s %s: off by %g of %g", k->name, key, worst, top);
    }
    b2_st_close(mine);
    unit_remove(dir);
}

static void train_lora(const char *name)
{
    TRAIN_SKIP_UNLESS_WHOLE();
    rig k;
    rig_open(&k, name);
    blip2_trainer_options o = recipe(BLIP2_TRAIN_LORA, 1e-2, 10);
    o.init_adapter = file_of(&k, "adapter");
    for (int cached = 0; cached < 2; cached++) {
        o.feature_cache = cached;
        blip2_trainer *t = run(&k, &o, "lora");
        compare_adapter(&k, t);
        blip2_trainer_close(t);
    }
    rig_close(&k);
}

static void train_weights(const char *name, blip2_trainable what, double lr, const char *prefix)
{
    TRAIN_SKIP_UNLESS_WHOLE();
    rig k;
    rig_open(&k, name);
    blip2_trainer_options o = recipe(what, lr, 5);
    for (int recompute = 0; recompute < 2; recompute++) {
        o.recompute = recompute;
        blip2_trainer_close(run(&k, &o, prefix));
    }
    rig_close(&k);
}

static void lora_losses(void **state) { train_lora(*state); }
static void qformer_losses(void **state) { train_weights(*state, BLIP2_TRAIN_QFORMER, 1e-2, "qformer"); }
static void all_losses(void **state) { train_weights(*state, BLIP2_TRAIN_ALL, 3e-3, "all"); }

#define OF(model, test)                                                                                      \
    {                                                                                                        \
#test " " model, test, NULL, NULL, (void *)(uintptr_t)model                                          \
    }
int main(void)
{
    const struct CMUnitTest tests[] = {
        OF("old", lora_losses),  OF("old", qformer_losses),  OF("old", all_losses),
        OF("new", lora_losses),  OF("new", qformer_losses),  OF("new", all_losses),
        OF("relu", lora_losses), OF("relu", qformer_losses), OF("relu", all_losses)};
    cmocka_set_test_filter(getenv("BLIP2_TEST_ONLY")); /* a pattern; NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
