/* bf16 against f32, stage by stage: what the device under test makes of a picture and a question in bf16
 * may be as far from f32 as the CPU's bf16 is, with room for another order of the same sums; and what a
 * session and a trainer take of a GPU is what their plans said. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "device/device.h"
#include "io/safetensors.h"
#include "tests/unit/train_common.h"

/* Rounding errors of two orders of summation are as large as those of one against f32, and independent: their
 * distances to f32 differ by chance, not by a factor. */
#define MORE  2.0
#define SLACK ((size_t)16 << 20) /* what CUDA takes for itself beside a plan, and rounds blocks up to */

static const char *const stages[] = {"vit", "qformer", "projection", "encoder", "logits"};

static b2_st_set *trace(const char *dir, const char *device, blip2_dtype dtype, const char *name)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_session_options so = BLIP2_SESSION_OPTIONS_INIT;
    blip2_request r = BLIP2_REQUEST_INIT;
    blip2_device *dev = NULL;
    blip2_model *m = NULL;
    blip2_session *s = NULL;
    blip2_image image = {0};
    blip2_answer a;
    b2_st_set *set = NULL;
    const char *path = unit_path(dir, name);
    const int32_t ids[] = {7, 11, 4, 9, 1};
    o.dtype = dtype;
    so.max_new_tokens = 4;
    r.prompt_ids = ids;
    r.prompt_count = 5;
    r.min_new_tokens = 4;
    if (blip2_device_open(device, NULL, &dev, &e) ||
        blip2_model_open(dev, train_tree("tests/golden/old/model"), &o, &m, &e) ||
        blip2_session_open(m, &so, &s, &e) ||
        blip2_image_load(&image, train_tree("tests/golden/images/a.png"), &e) ||
        blip2_session_trace(s, &image, &r, path, &a, &e) || b2_st_open_file(&set, path, &e))
        fail_msg("%s", e.text);
    blip2_image_free(&image);
    blip2_session_close(s);
    blip2_model_close(m);
    blip2_device_close(dev);
    return set;
}

/* Root mean square of the difference, relative to that of b. Of logits the first row: later ones depend on
 * what was chosen. */
static double distance(const b2_st_set *a, const b2_st_set *b, const char *stage)
{
    const b2_st_tensor *x = b2_st_find(a, stage), *y = b2_st_find(b, stage);
    const int64_t n = strcmp(stage, "logits") ? (int64_t)(y->bytes / sizeof(float)) : y->shape[1];
    double diff = 0, size = 0;
    assert_int_equal(x->bytes, y->bytes);
    for (int64_t i = 0; i < n; i++) {
        float u, v;
        memcpy(&u, x->data + i * 4, 4);
        memcpy(&v, y->data + i * 4, 4);
        diff += ((double)u - v) * ((double)u - v);
        size += (double)v * v;
    }
    return sqrt(diff / size);
}

static void test_bf16_by_stage(void **state)
{
    char *dir = unit_folder();
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    b2_st_set *wide = trace(dir, "cpu", BLIP2_DTYPE_F32, "wide"),
              *cpu = trace(dir, "cpu", BLIP2_DTYPE_BF16, "cpu"),
              *here = trace(dir, unit_device(), BLIP2_DTYPE_BF16, "here");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        const double by_cpu = distance(cpu, wide, stages[i]), by_this = distance(here, wide, stages[i]);
        printf("%-10s from f32: CPU in bf16 %.5f, %s in bf16 %.5f\n", stages[i], by_cpu, unit_device(),
               by_this);
        assert_true(by_cpu > 1e-4 && by_cpu < 0.05);
        assert_true(by_this <= MORE * by_cpu);
    }
    b2_st_close(wide);
    b2_st_close(cpu);
    b2_st_close(here);
    unit_remove(dir);
}

/* ---- plans --------------------------------------------------------------------------------------------- */

static size_t available(blip2_device *d)
{
    size_t n = 0, total = 0;
    if (d->cuda->memory(d->gpu, &n, &total)) fail_msg("the GPU does not tell its memory");
    return n;
}

/* What is gone from the GPU is what the plan said, but for the slack. */
static void expect_planned(size_t before, size_t after, size_t planned)
{
    const size_t taken = before > after ? before - after : 0;
    printf("planned %.1f MiB, taken %.1f MiB\n", (double)planned / 0x1p20, (double)taken / 0x1p20);
    assert_true(taken <= planned + SLACK);
    assert_true(taken + SLACK >= planned);
}

static void test_session_plan(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    blip2_plan p = {.size = sizeof p};
    blip2_session *session;
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    if (!strcmp(unit_device(), "cpu")) skip();
    shop_open(&s, "old", "qa.csv", 1);
    o.max_batch = 96;
    o.max_prompt_tokens = 2000;
    o.max_new_tokens = 256;
    if (blip2_session_plan(s.model, &o, &p, &e)) fail_msg("%s", e.text);
    const size_t before = available(s.device);
    if (blip2_session_open(s.model, &o, &session, &e)) fail_msg("%s", e.text);
    assert_true(p.total - p.weights > 2 * SLACK);
    expect_planned(before, available(s.device), p.total - p.weights);
    blip2_session_close(session);
    expect_planned(before, available(s.device), 0);
    shop_close(&s);
}

static void test_trainer_plan(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_plan p = {.size = sizeof p};
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    if (!strcmp(unit_device(), "cpu")) skip();
    shop_open(&s, "old", "qa.csv", 1);
    blip2_model *own = s.model; /* the shipped one is larger */
    if (blip2_model_open(s.device, train_tree("examples/fashion-tiny"), NULL, &s.model, &e))
        fail_msg("%s", e.text);
    blip2_trainer_options o = shop_options();
    o.trainable = BLIP2_TRAIN_ALL;
    o.feature_cache = 0;
    o.batch = 22;
    if (blip2_trainer_plan(s.model, s.data, &o, &p, &e)) fail_msg("%s", e.text);
    const size_t before = available(s.device);
    assert_true(p.total - p.weights > SLACK);
    blip2_trainer *t = shop_trainer(&s, &o);
    expect_planned(before, available(s.device), p.total - p.weights);
    blip2_trainer_close(t);
    expect_planned(before, available(s.device), 0);
    blip2_model_close(s.model);
    s.model = own;
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16_by_stage),
                                       cmocka_unit_test(test_session_plan),
                                       cmocka_unit_test(test_trainer_plan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
