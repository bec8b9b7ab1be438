/* What bf16 mode makes of a training step: its gradient against f32's, as a whole, and the losses of a few
 * steps. golden_train.c holds f32 to transformers, and each kernel rounds what it may (tests/check); here it is seen
 * that the whole does not stray. The gradients of these random models are ill-conditioned: transformers itself, in
 * bf16, is 0.05 to 0.14 from f32 (all parameters, no dropout). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/train_common.h"
#include "tests/unit/unit.h"

enum { STEPS = 5 };
#define LOSSES 0.03 /* measured: 0.0004 to 0.021, after steps of AdamW */

typedef struct kind {
    const char *name;
    blip2_trainable what;
    const char *targets; /* of a new adapter; NULL: the golden one, on q and v */
    int recompute;
    double limit[3]; /* of the gradient: old, new, relu; a half more than was measured, or twice */
} kind;
static const char *const models[] = {"old", "new", "relu"};
static const kind kinds[] = {
    {"lora", BLIP2_TRAIN_LORA, NULL, 0, {0.25, 0.27, 0.11}},
    {"lora everywhere", BLIP2_TRAIN_LORA, "q,k,v,o,wi,wi_0,wi_1,wo", 0, {0.12, 0.16, 0.07}},
    {"lora everywhere, recomputed", BLIP2_TRAIN_LORA, "q,k,v,o,wi,wi_0,wi_1,wo", 1, {0.12, 0.16, 0.07}},
    {"qformer", BLIP2_TRAIN_QFORMER, NULL, 0, {0.16, 0.17, 0.17}},
    {"all", BLIP2_TRAIN_ALL, NULL, 0, {0.12, 0.27, 0.08}},
};
#define KINDS (int)(sizeof kinds / sizeof kinds[0])

typedef struct course { /* what a few steps came to */
    float *g;           /* of the first step */
    int64_t n;
    double loss[STEPS];
} course;

static course take(const char *model, const char *device, blip2_dtype dtype, const kind *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_device *dev = NULL;
    blip2_model *m = NULL;
    blip2_dataset *data = NULL;
    blip2_trainer *t = NULL;
    blip2_model_options mo = BLIP2_MODEL_OPTIONS_INIT;
    blip2_dataset_options d = BLIP2_DATASET_OPTIONS_INIT;
    blip2_trainer_options o;
    const float *host;
    char path[64], adapter[512];
    course c = {0};
    snprintf(path, sizeof path, "tests/golden/%s/adapter", model);
    snprintf(adapter, sizeof adapter, "%s", train_tree(path));
    snprintf(path, sizeof path, "tests/golden/%s/model", model);
    mo.dtype = dtype;
    d.csv = train_tree("tests/golden/rows.csv");
    d.images = train_tree("tests/golden/images");
    blip2_trainer_options_init(&o);
    o.trainable = k->what;
    o.recompute = k->recompute;
    o.batch = 3;
    o.max_steps = STEPS;
    o.lr = 1e-3;
    o.schedule = BLIP2_CONSTANT;
    o.warmup = 0;
    o.shuffle = 0;
    if (k->targets)
        o.lora_targets = k->targets;
    else if (k->what == BLIP2_TRAIN_LORA)
        o.init_adapter = adapter;
    if (blip2_device_open(device, NULL, &dev, &e) || blip2_model_open(dev, train_tree(path), &mo, &m, &e) ||
        blip2_dataset_open(&d, &data, &e) || blip2_trainer_open(m, data, &o, &t, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < STEPS; i++) {
        c.loss[i] = shop_step(t).loss;
        if (i) continue;
        if (b2_trainer_pull(t, t->flat.g, &host, &e)) fail_msg("%s", e.text);
        c.n = t->flat.total;
        c.g = malloc((size_t)c.n * sizeof *c.g);
        assert_non_null(c.g);
        memcpy(c.g, host, (size_t)c.n * sizeof *c.g);
    }
    blip2_trainer_close(t);
    blip2_dataset_close(data);
    blip2_model_close(m);
    blip2_device_close(dev);
    return c;
}

/* Root mean square of the difference, relative to that of b. */
static double distance(const course *a, const course *b)
{
    double diff = 0, size = 0;
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < b->n; i++) {
        const double d = (double)a->g[i] - (double)b->g[i];
        diff += d * d;
        size += (double)b->g[i] * (double)b->g[i];
    }
    return sqrt(diff / size);
}

/* Dropout is on, and drops the same. */
static void train(const kind *k, int model)
{
    const char *name = models[model];
    course wide = take(name, "cpu", BLIP2_DTYPE_F32, k),
           narrow = take(name, unit_device(), BLIP2_DTYPE_BF16, k);
    const double d = distance(&narrow, &wide);
    double worst = 0;
    for (int i = 0; i < STEPS; i++) worst = fmax(worst, fabs(narrow.loss[i] / wide.loss[i] - 1));
    printf("%s, %s on %s: gradient in bf16 %.4f from f32's, losses %.4f\n", k->name, name, unit_device(), d,
           worst);
    if (!(d <= k->limit[model]))
        fail_msg("%s, %s: a gradient %.4f from f32's, limit %.4f", k->name, name, d, k->limit[model]);
    if (!(worst <= LOSSES))
        fail_msg("%s, %s: losses %.4f from f32's, limit %.4f", k->name, name, worst, LOSSES);
    free(wide.g);
    free(narrow.g);
}

static void of_model(const char *name)
{
    TRAIN_SKIP_UNLESS_WHOLE();
    const char *only = getenv("BLIP2_TEST_KIND");
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < KINDS && !strcmp(name, models[m]); i++)
            if (!only || !strcmp(only, kinds[i].name)) train(&kinds[i], m);
}

static void gradients(void **state) { of_model(*state); }

#define OF(model)                                                                                            \
    {                                                                                                        \
        "gradients " model, gradients, NULL, NULL, (void *)(uintptr_t)model                                  \
    }
int main(void)
{
    const struct CMUnitTest tests[] = {OF("old"), OF("new"), OF("relu")};
    cmocka_set_test_filter(getenv("BLIP2_TEST_ONLY")); /* a pattern; NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
