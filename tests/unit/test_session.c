/* Sessions: batched = single, any thread count, plan = use, callbacks, cancelling, adapters by row,
 * merging, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"
#include "tests/unit/small_model_common.h"

enum { ROWS = 5, NEW = 7 };
static const int32_t words[48] = {5,  9,  33, 12, 60, 2,  17, 41, 8,  8,  51, 6,  14, 22, 30, 19,
                                  27, 35, 43, 3,  4,  10, 11, 13, 15, 16, 18, 20, 21, 23, 24, 25,
                                  26, 28, 29, 31, 32, 34, 36, 37, 38, 39, 40, 42, 44, 45, 46, 1};
static const int lengths[ROWS] = {1, 48, 5, 17, 2};

static blip2_session *session_new(const small_model *m, int batch, int images)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    blip2_session *s = NULL;
    o.max_batch = batch;
    o.max_prompt_tokens = 50;
    o.max_new_tokens = NEW;
    o.max_images = images;
    if (blip2_session_open(m->model, &o, &s, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return s;
}

static blip2_request request(const blip2_features *f, int row)
{
    blip2_request r = BLIP2_REQUEST_INIT;
    r.features = f;
    r.prompt_ids = words + 48 - lengths[row];
    r.prompt_count = lengths[row];
    r.min_new_tokens = 3;
    return r;
}

static void ask(blip2_session *s, const blip2_request *r, int n, blip2_answer *a)
{
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_session_generate(s, r, n, a, &e) != BLIP2_OK) fail_msg("%s", e.text);
}

/* Tokens and log-probabilities of the five rows, asked `batch` at a time, on `threads`. */
typedef struct outcome {
    int32_t tokens[ROWS][NEW];
    int count[ROWS];
    float logprob[ROWS], logits[ROWS][67]; /* logits of the first step, by a one-token run */
} outcome;

/* Logits of row k of the last step, wherever they are. */
static const float *logits_of(blip2_session *s, int k)
{
    static float host[8][67];
    static int turn;
    blip2_error e = BLIP2_ERROR_INIT;
    float *to = host[turn++ % 8];
    b2_download(&s->q, to, (const float *)s->logits.p + 67 * k, sizeof host[0]);
    if (b2_queue_finish(&s->q, &e)) fail_msg("%s", e.text);
    return to;
}

static outcome run(int threads, int batch, blip2_dtype dtype)
{
    small_model m;
    outcome out;
    blip2_request r[ROWS];
    blip2_answer a[ROWS];
    blip2_features *f[ROWS];
    memset(&out, 0, sizeof out);
    small_model_open(&m, threads, dtype);
    blip2_session *s = session_new(&m, batch, 2);
    for (int i = 0; i < ROWS; i++) {
        f[i] = small_features(s, &m, 100 + (uint64_t)(i % 2), -1);
        r[i] = request(f[i], i);
    }
    for (int i = 0; i < ROWS; i += batch) {
        const int n = ROWS - i < batch ? ROWS - i : batch;
        ask(s, r + i, n, a);
        for (int k = 0; k < n; k++) {
            out.count[i + k] = a[k].count;
            out.logprob[i + k] = a[k].logprob;
            memcpy(out.tokens[i + k], a[k].tokens, (size_t)a[k].count * sizeof(int32_t));
        }
        for (int k = 0; k < n; k++) r[i + k].max_new_tokens = 1;
        ask(s, r + i, n, a);
        for (int k = 0; k < n; k++) memcpy(out.logits[i + k], logits_of(s, k), sizeof out.logits[0]);
    }
    for (int i = 0; i < ROWS; i++) blip2_features_close(f[i]);
    blip2_session_close(s);
    small_model_close(&m);
    return out;
}

static void test_ragged_equals_single(void **state)
{
    (void)state;
    const outcome one = run(1, 1, BLIP2_DTYPE_F32), all = run(1, ROWS, BLIP2_DTYPE_F32);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(one.count[i], all.count[i]);
        assert_memory_equal(one.tokens[i], all.tokens[i], sizeof one.tokens[i]);
        for (int v = 0; v < 67; v++) {
            if (fabsf(one.logits[i][v] - all.logits[i][v]) > 1e-5f * fmaxf(1.0f, fabsf(one.logits[i][v])))
                fail_msg("row %d, id %d: alone %.8g, in a batch %.8g", i, v, (double)one.logits[i][v],
                         (double)all.logits[i][v]);
        }
    }
    assert_memory_not_equal(all.logits[0], all.logits[2], sizeof all.logits[0]);
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    for (int dtype = BLIP2_DTYPE_F32; dtype <= BLIP2_DTYPE_BF16; dtype++) {
        const outcome one = run(1, ROWS, (blip2_dtype)dtype);
        for (int t = 2; t <= 3; t++) {
            const outcome many = run(t, ROWS, (blip2_dtype)dtype);
            assert_memory_equal(&one, &many, sizeof one);
        }
    }
}

static void test_plan_is_use(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_plan plan = {.size = sizeof plan};
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    blip2_session *s = NULL;
    small_model_open(&m, 2, BLIP2_DTYPE_F32);
    const size_t before = blip2_device_memory(m.device, NULL);
    assert_int_equal(blip2_session_plan(m.model, &o, &plan, &e), BLIP2_OK);
    assert_int_equal(blip2_device_memory(m.device, NULL), before);
    assert_int_equal(plan.weights, before);
    assert_int_equal(blip2_session_open(m.model, &o, &s, &e), BLIP2_OK);
    assert_int_equal(blip2_device_memory(m.device, NULL), plan.total);
    blip2_session_close(s);
    assert_int_equal(blip2_device_memory(m.device, NULL), before);
    small_model_close(&m);
}

static void test_limits(void **state)
{
    (void)state;
    small_model m;
    blip2_answer a;
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    blip2_session *s = session_new(&m, 2, 1);
    blip2_features *f = small_features(s, &m, 1, -1);
    for (int max = 1; max <= NEW; max++) {
        blip2_request r = request(f, 2);
        r.max_new_tokens = max;
        r.min_new_tokens = max;
        ask(s, &r, 1, &a);
        assert_int_equal(a.count, max);
        assert_true(isfinite(a.logprob) && a.logprob < 0);
        for (int i = 0; i < a.count; i++) assert_int_not_equal(a.tokens[i], 1);
    }
    ask(s, NULL, 0, NULL);
    blip2_features_close(f);
    blip2_session_close(s);
    small_model_close(&m);
}

static void test_wrong_requests(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_answer a;
    const int32_t outside[2] = {5, 67};
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    blip2_session *s = session_new(&m, 1, 1);
    blip2_features *f = small_features(s, &m, 1, -1);
    blip2_request r = request(f, 0);
    r.prompt_ids = outside;
    r.prompt_count = 2;
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_ARGUMENT);
    assert_non_null(strstr(e.text, "67"));
    r = request(f, 0);
    r.prompt_count = 5000;
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_LIMIT);
    r = request(f, 0);
    r.max_new_tokens = NEW + 1;
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_ARGUMENT);
    r = request(NULL, 0);
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_ARGUMENT);
    r = request(f, 0);
    r.prompt_ids = NULL;
    r.prompt = "needs a tokenizer";
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_STATE);
    r = request(f, 0);
    r.adapter = 0;
    assert_int_equal(blip2_session_generate(s, &r, 1, &a, &e), BLIP2_ERR_ARGUMENT);
    r = request(f, 0);
    ask(s, &r, 1, &a);
    blip2_features_close(f);
    blip2_session_close(s);
    small_model_close(&m);
}

static blip2_adapter *adapter(const small_model *m, const char *name)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_adapter *a = NULL;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/%s", m->dir, name);
    if (blip2_adapter_open(m->model, dir, &a, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return a;
}

static blip2_session *session_with(const small_model *m, blip2_adapter **a, int n)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    blip2_session *s = NULL;
    o.max_batch = 4;
    o.max_new_tokens = NEW;
    o.adapters = a;
    o.n_adapters = n;
    if (blip2_session_open(m->model, &o, &s, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return s;
}

/* Rows with adapter 1, none, adapter 0, adapter 1 in one batch = each alone in a session of its own. */
static void test_adapters_by_row(void **state)
{
    (void)state;
    static const int which[4] = {1, -1, 0, 1};
    small_model m;
    float logits[4][67];
    blip2_answer a[4];
    small_model_open(&m, 2, BLIP2_DTYPE_F32);
    small_adapter_write(&m, "one", "q,v", 2, 1);
    small_adapter_write(&m, "two", "q,wo,lm_head", 3, 2);
    blip2_adapter *ad[2] = {adapter(&m, "one"), adapter(&m, "two")};
    blip2_session *s = session_with(&m, ad, 2);
    blip2_features *f = small_features(s, &m, 3, -1);
    blip2_request r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = request(f, i);
        r[i].adapter = which[i];
        r[i].max_new_tokens = 1;
    }
    ask(s, r, 4, a);
    for (int i = 0; i < 4; i++) memcpy(logits[i], logits_of(s, i), sizeof logits[i]);
    for (int i = 0; i < 4; i++) {
        blip2_session *alone = which[i] < 0 ? session_with(&m, NULL, 0) : session_with(&m, &ad[which[i]], 1);
        r[i].adapter = which[i] < 0 ? -1 : 0;
        ask(alone, &r[i], 1, a);
        const float *got = logits_of(alone, 0);
        for (int v = 0; v < 67; v++)
            assert_true(fabsf(logits[i][v] - got[v]) <= 2e-5f * fmaxf(1, fabsf(logits[i][v])));
        blip2_session_close(alone);
    }
    blip2_features_close(f);
    blip2_adapter_close(ad[0]); /* the session holds its own references */
    blip2_adapter_close(ad[1]);
    r[0].adapter = 1;
    blip2_features *g = small_features(s, &m, 3, 0);
    r[0].features = g;
    ask(s, r, 1, a);
    blip2_features_close(g);
    blip2_session_close(s);
    small_model_close(&m);
}

/* Adapters on every part, merged into a plain folder: the same logits; and the base differs. */
static void test_merge(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_answer a;
    char dir[300];
    small_model_open(&m, 1, BLIP2_DTYPE_FILE);
    small_adapter_write(&m, "all", "q,v,qkv,query,fc1,language_projection", 2, 5);
    blip2_adapter *ad = adapter(&m, "all");
    blip2_adapter_info info = {.size = sizeof info};
    blip2_adapter_get_info(ad, &info);
    assert_int_equal(info.modules, info.modules_matched);
    assert_true(info.touches_image);
    assert_string_equal(info.prompt_template, "Q: {} A: ");
    snprintf(dir, sizeof dir, "%s/merged", m.dir);
    if (blip2_model_export(m.model, ad, BLIP2_DTYPE_FILE, dir, &e) != BLIP2_OK) fail_msg("%s", e.text);
    small_model merged = m;
    assert_int_equal(blip2_model_open(m.device, dir, NULL, &merged.model, &e), BLIP2_OK);
    blip2_session *with = session_with(&m, &ad, 1), *plain = session_with(&merged, NULL, 0),
                  *base = session_with(&m, NULL, 0);
    blip2_features *f = small_features(with, &m, 9, 0), *g = small_features(plain, &merged, 9, -1),
                   *h = small_features(base, &m, 9, -1);
    blip2_request r = request(f, 3), p = request(g, 3), b = request(h, 3);
    r.max_new_tokens = p.max_new_tokens = b.max_new_tokens = 1;
    r.adapter = 0;
    ask(with, &r, 1, &a);
    ask(plain, &p, 1, &a);
    ask(base, &b, 1, &a);
    float far = 0, near = 0;
    const float *x = logits_of(with, 0), *same = logits_of(plain, 0), *other = logits_of(base, 0);
    for (int v = 0; v < 67; v++) {
        near = fmaxf(near, fabsf(x[v] - same[v]));
        far = fmaxf(far, fabsf(x[v] - other[v]));
    }
    assert_true(near < 1e-4f);
    assert_true(far > 0.05f);
    blip2_features_close(f);
    blip2_features_close(g);
    blip2_features_close(h);
    blip2_model_close(merged.model);
    blip2_session_close(with);
    blip2_session_close(plain);
    blip2_session_close(base);
    blip2_adapter_close(ad);
    small_model_close(&m);
}

static void test_wrong_adapters(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_adapter *a = NULL;
    char line[700], dir[300];
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    small_adapter_write(&m, "ok", "q,v", 2, 1);
    snprintf(dir, sizeof dir, "%s/ok", m.dir);
    snprintf(line, sizeof line, "sed -i 's/\"r\": 2/\"r\": 3/' '%s/adapter_config.json'", dir);
    assert_int_equal(system(line), 0);
    assert_int_equal(blip2_adapter_open(m.model, dir, &a, &e), BLIP2_ERR_CONFIG);
    assert_non_null(strstr(e.text, "rank 2"));
    snprintf(
        line, sizeof line,
        "sed -i 's/\"r\": 3/\"r\": 2/; s/\"use_dora\": false/\"use_dora\": true/' '%s/adapter_config.json'",
        dir);
    assert_int_equal(system(line), 0);
    assert_int_equal(blip2_adapter_open(m.model, dir, &a, &e), BLIP2_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "use_dora"));
    snprintf(dir, sizeof dir, "%s/none", m.dir);
    assert_int_equal(blip2_adapter_open(m.model, dir, &a, &e), BLIP2_ERR_IO);
    assert_null(a);
    small_model_close(&m);
}

/* adapter_config.json with one value changed; key NULL: none. */
static void write_adapter_config(const char *dir, const char *key, const char *value)
{
    static const char *const plain[][2] = {{"peft_type", "\"LORA\""}, {"r", "2"},
                                           {"lora_alpha", "4"},       {"lora_dropout", "0.1"},
                                           {"use_rslora", "false"},   {"rank_pattern", "{}"},
                                           {"alpha_pattern", "{}"},   {"target_modules", "[\"q\", \"v\"]"}};
    char path[400];
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const bool changed = key && strcmp(key, plain[i][0]) == 0;
        fprintf(f, "%s\"%s\": %s", i ? ", " : "{", plain[i][0], changed ? value : plain[i][1]);
    }
    fputs("}", f);
    assert_int_equal(fclose(f), 0);
}

/* Values that mean nothing: each is named. */
static void test_wrong_adapter_values(void **state)
{
    static const char *const wrong[][2] = {{"lora_alpha", "\"x\""},
                                           {"lora_alpha", "1e300"},
                                           {"lora_dropout", "7"},
                                           {"use_rslora", "\"yes\""},
                                           {"rank_pattern", "[1]"},
                                           {"rank_pattern", "{\"q\": \"2\"}"},
                                           {"alpha_pattern", "{\"q\": null}"},
                                           {"target_modules", "[\"zz\"]"},
                                           {"target_modules", "[]"},
                                           {"r", "0"}};
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_adapter *a = NULL;
    char dir[300];
    (void)state;
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    small_adapter_write(&m, "ok", "q,v", 2, 1);
    snprintf(dir, sizeof dir, "%s/ok", m.dir);
    write_adapter_config(dir, NULL, NULL);
    assert_int_equal(blip2_adapter_open(m.model, dir, &a, &e), BLIP2_OK);
    blip2_adapter_close(a);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_adapter_config(dir, wrong[i][0], wrong[i][1]);
        assert_int_equal(blip2_adapter_open(m.model, dir, &a, &e), BLIP2_ERR_CONFIG);
        if (!strstr(e.text, wrong[i][0]) || !strstr(e.text, "adapter_config.json"))
            fail_msg("\"%s\" does not name %s", e.text, wrong[i][0]);
    }
    small_model_close(&m);
}

static void test_numbers_that_are_none(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_features *f = NULL;
    blip2_answer a;
    (void)state;
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    blip2_session *s = session_new(&m, 2, 1);
    float *pixels = small_pixels(&m, 1);
    pixels[7] = NAN;
    assert_int_equal(blip2_session_encode_pixels(s, pixels, 1, -1, &f, &e), BLIP2_OK);
    const blip2_request bad = request(f, 3);
    assert_int_equal(blip2_session_generate(s, &bad, 1, &a, &e), BLIP2_ERR_NONFINITE);
    assert_non_null(strstr(e.text, "answer 0"));
    blip2_features_close(f);
    f = small_features(s, &m, 1, -1); /* the session is as good as before */
    const blip2_request good = request(f, 3);
    ask(s, &good, 1, &a);
    assert_true(isfinite(a.logprob));
    blip2_features_close(f);
    free(pixels);
    blip2_session_close(s);
    small_model_close(&m);
}

static void test_any_order_of_closing(void **state)
{
    (void)state;
    small_model m;
    blip2_answer a;
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    blip2_session *s = session_new(&m, 1, 1);
    blip2_features *f = small_features(s, &m, 1, -1);
    blip2_model_close(m.model);
    blip2_device_close(m.device);
    blip2_request r = request(f, 1);
    ask(s, &r, 1, &a);
    blip2_session_close(s);
    int tokens = 0;
    assert_non_null(blip2_features_data(f, &tokens, NULL));
    assert_int_equal(tokens, 3);
    blip2_features_close(f);
    m.model = NULL;
    m.device = NULL;
    small_model_close(&m);
}

static void test_cancel(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_answer a;
    small_model_open(&m, 1, BLIP2_DTYPE_F32);
    blip2_session *s = session_new(&m, 1, 1);
    blip2_features *f = small_features(s, &m, 1, -1);
    s->cancel = 1;
    b2_session_prefill(s, 1, 4);
    assert_int_equal(b2_queue_finish(&s->q, &e), BLIP2_ERR_CANCELLED);
    blip2_request r = request(f, 1);
    ask(s, &r, 1, &a);
    blip2_features_close(f);
    blip2_session_close(s);
    small_model_close(&m);
}

/* The largest difference of two pictures' tokens. */
static double apart(const blip2_features *a, const blip2_features *b)
{
    int tokens, hidden;
    const float *x = blip2_features_data(a, &tokens, &hidden), *y = blip2_features_data(b, NULL, NULL);
    double most = 0;
    for (int i = 0; i < tokens * hidden; i++) most = fmax(most, fabs((double)x[i] - y[i]));
    return most;
}

/* Five pictures through a session that holds two, and through one that holds all: the same tokens but
 * for the last bits, and each its own. */
static void test_pictures_in_turns(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    small_model m;
    blip2_features *f[2][5];
    (void)state;
    small_model_open(&m, 2, BLIP2_DTYPE_F32);
    float *one = small_pixels(&m, 1);
    const size_t each = 3 * (size_t)m.model->config.vit.image * (size_t)m.model->config.vit.image;
    float *all = malloc(5 * each * sizeof *all);
    for (uint64_t i = 0; i < 5; i++) {
        free(one);
        one = small_pixels(&m, 20 + i);
        memcpy(all + i * each, one, each * sizeof *one);
    }
    for (int k = 0; k < 2; k++) {
        blip2_session *s = session_new(&m, 1, k ? 5 : 2);
        if (blip2_session_encode_pixels(s, all, 5, -1, f[k], &e)) fail_msg("%s", e.text);
        blip2_session_close(s);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(apart(f[0][i], f[1][i]) < 1e-4);
        if (i) assert_true(apart(f[0][i], f[0][i - 1]) > 1e-2);
    }
    for (int i = 0; i < 10; i++) blip2_features_close(f[i / 5][i % 5]);
    free(one);
    free(all);
    small_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ragged_equals_single),
                                       cmocka_unit_test(test_pictures_in_turns),
                                       cmocka_unit_test(test_threads_same_bits),
                                       cmocka_unit_test(test_plan_is_use),
                                       cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_wrong_requests),
                                       cmocka_unit_test(test_adapters_by_row),
                                       cmocka_unit_test(test_merge),
                                       cmocka_unit_test(test_wrong_adapters),
                                       cmocka_unit_test(test_wrong_adapter_values),
                                       cmocka_unit_test(test_numbers_that_are_none),
                                       cmocka_unit_test(test_any_order_of_closing),
                                       cmocka_unit_test(test_cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
