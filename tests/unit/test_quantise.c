/* int8 and int4 weights: the numbers, the files, asking and training on them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "model/quantise.h"
#include "tests/unit/small_model_common.h"
#include "tests/unit/train_common.h"

enum { ROWS = 7, COLS = 192 };

typedef struct matrix {
    float wide[ROWS * COLS];
    _Alignas(8) char q[ROWS * COLS];
    _Alignas(8) char scale[ROWS * 8];
    b2_param from, to;
    b2_change change;
} matrix;

/* Random rows of very different sizes, one of them zero, one with a single large number. */
static void matrix_make(matrix *m, b2_dtype type)
{
    b2_rng r = {11, 0};
    blip2_error e = BLIP2_ERROR_INIT;
    memset(m, 0, sizeof *m);
    for (int i = 0; i < ROWS * COLS; i++)
        m->wide[i] = (float)((b2_rng_uniform(&r) - 0.5) * ldexp(1, i / COLS * 3 - 9));
    memset(m->wide + 2 * COLS, 0, COLS * sizeof(float));
    m->wide[3 * COLS + 70] = 40;
    m->from = (b2_param){m->wide, B2_F32, ROWS, COLS, NULL, NULL};
    m->to = (b2_param){m->q, type, ROWS, COLS, NULL, m->scale};
    if (b2_quantise(NULL, "m", &m->from, &m->to, &m->change, &e)) fail_msg("%s", e.text);
}

static void test_int8_rows(void **state)
{
    matrix *m = malloc(sizeof *m);
    float back[COLS];
    (void)state;
    matrix_make(m, B2_I8);
    for (int o = 0; o < ROWS; o++) {
        float top = 0, scale;
        const float *row = m->wide + o * COLS;
        for (int c = 0; c < COLS; c++) top = fabsf(row[c]) > top ? fabsf(row[c]) : top;
        memcpy(&scale, m->scale + o * 4, 4);
        assert_float_equal(scale, top / 127, 0);
        b2_param_row(&m->to, o, back);
        for (int c = 0; c < COLS; c++) assert_true(fabsf(back[c] - row[c]) <= scale * 0.50001f);
    }
    assert_true(m->change.error > 0 && m->change.error < 1e-4 * m->change.size);
    free(m);
}

/* Each group errs by half a step at most, its steps being an eighth of the largest or a little more; and
 * every product is a bf16 number, so that no kernel rounds it. */
static void test_int4_groups(void **state)
{
    matrix *m = malloc(sizeof *m);
    float back[COLS];
    (void)state;
    matrix_make(m, B2_I4);
    for (int o = 0; o < ROWS; o++) {
        b2_param_row(&m->to, o, back);
        for (int g = 0; g < COLS; g += B2_I4_GROUP) {
            const float *row = m->wide + o * COLS + g;
            float top = 0;
            for (int c = 0; c < B2_I4_GROUP; c++) top = fabsf(row[c]) > top ? fabsf(row[c]) : top;
            for (int c = 0; c < B2_I4_GROUP; c++) {
                assert_true(fabsf(back[g + c] - row[c]) <= top * 0.25f);
                assert_float_equal(b2_bf16_to_f32(b2_f32_to_bf16(back[g + c])), back[g + c], 0);
            }
        }
    }
    assert_true(m->change.error < 0.012 * m->change.size);
    free(m);
}

/* The words of a group, as docs/formats.md lays them out. */
static void test_int4_layout(void **state)
{
    float wide[B2_I4_GROUP];
    uint8_t q[32], scale[2];
    blip2_error e = BLIP2_ERROR_INIT;
    const b2_param from = {wide, B2_F32, 1, B2_I4_GROUP, NULL, NULL},
                   to = {q, B2_I4, 1, B2_I4_GROUP, NULL, scale};
    (void)state;
    for (int c = 0; c < B2_I4_GROUP; c++) wide[c] = (float)((c * 5 % 16) - 8);
    assert_int_equal(b2_quantise(NULL, "m", &from, &to, NULL, &e), BLIP2_OK);
    assert_int_equal(scale[0] | scale[1] << 8, 0x3F80); /* 1 */
    for (int l = 0; l < 16; l++) {
        const unsigned word = q[2 * l] | (unsigned)q[2 * l + 1] << 8;
        for (int k = 0; k < 4; k++) {
            const int n = (int)(word >> 4 * k & 15);
            assert_int_equal(n < 8 ? n : n - 16, (int)wide[16 * k + l]);
        }
    }
}

/* What is not a number is no number afterwards either: it is refused. */
static void test_not_finite(void **state)
{
    const b2_dtype types[] = {B2_I8, B2_I4};
    blip2_error e = BLIP2_ERROR_INIT;
    (void)state;
    for (int i = 0; i < 4; i++) {
        matrix *m = malloc(sizeof *m);
        matrix_make(m, types[i % 2]);
        m->wide[4 * COLS + 9] = i < 2 ? NAN : INFINITY;
        assert_int_equal(b2_quantise(NULL, "here", &m->from, &m->to, NULL, &e), BLIP2_ERR_NONFINITE);
        assert_non_null(strstr(e.text, "here"));
        free(m);
    }
}

static void test_names(void **state)
{
    const char *wo = "language_model.encoder.block.0.layer.1.DenseReluDense.wo.weight";
    char name[128];
    (void)state;
    assert_true(b2_name_listed(wo, "lm_head,wo"));
    assert_true(b2_name_listed(wo, "encoder"));
    assert_false(b2_name_listed(wo, "w,o,lm_head,DenseRelu"));
    assert_false(b2_name_listed(wo, ""));
    assert_false(b2_name_listed(wo, NULL));
    b2_scale_name(wo, B2_I8, name, sizeof name);
    assert_string_equal(name, "language_model.encoder.block.0.layer.1.DenseReluDense.wo.SCB");
    b2_scale_name(wo, B2_I4, name, sizeof name);
    assert_string_equal(name, "language_model.encoder.block.0.layer.1.DenseReluDense.wo.weight_scale");
}

/* ---- models -------------------------------------------------------------------------------------------- */

static blip2_model *open_as(blip2_device *d, const char *dir, blip2_dtype dtype, const char *keep)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_model *m = NULL;
    o.dtype = dtype;
    o.keep = keep;
    if (blip2_model_open(d, dir, &o, &m, &e)) fail_msg("%s", e.text);
    return m;
}

static void expect_same_weights(const blip2_model *a, const blip2_model *b)
{
    for (int i = 0; i < a->net->refs; i++) {
        const b2_param *x = a->net->ref[i].param, *y = b->net->ref[i].param;
        assert_int_equal(x->type, y->type);
        assert_memory_equal(x->p, y->p, (size_t)x->rows * b2_row_bytes(x->type, x->cols));
        if (x->scale)
            assert_memory_equal(x->scale, y->scale, (size_t)x->rows * b2_scale_bytes(x->type, x->cols));
    }
}

/* Quantised while loading, written, and loaded again: the same bits; converted: the wide values of those. */
static void test_folder(void **state)
{
    const blip2_dtype types[] = {BLIP2_DTYPE_INT8, BLIP2_DTYPE_INT4};
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_init_options o = BLIP2_INIT_OPTIONS_INIT;
    small_model s;
    char plain[600];
    (void)state;
    small_model_open(&s, 2, BLIP2_DTYPE_FILE);
    snprintf(plain, sizeof plain, "%s/plain", s.dir);
    o.preset = "fashion-tiny"; /* its rows have whole groups */
    if (blip2_model_init(plain, &o, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < 2; i++) {
        char dir[600], wide[600];
        blip2_model_info info = {.size = sizeof info};
        snprintf(dir, sizeof dir, "%s/q%d", s.dir, i);
        snprintf(wide, sizeof wide, "%s/w%d", s.dir, i);
        blip2_model *m = open_as(s.device, plain, types[i], NULL);
        blip2_model_get_info(m, &info);
        assert_true((i ? info.int4_tensors : info.int8_tensors) > 0);
        assert_int_equal(i ? info.int8_tensors : info.int4_tensors, 0);
        assert_int_equal(blip2_model_export(s.model, NULL, types[i], dir, &e), BLIP2_ERR_STATE);
        if (blip2_model_export(m, NULL, types[i], dir, &e)) fail_msg("%s", e.text);
        blip2_model *again = open_as(s.device, dir, BLIP2_DTYPE_FILE, NULL);
        expect_same_weights(m, again);
        if (blip2_model_export(again, NULL, BLIP2_DTYPE_F32, wide, &e)) fail_msg("%s", e.text);
        blip2_model *w = open_as(s.device, wide, BLIP2_DTYPE_F32, NULL);
        float a[8192], b[8192];
        for (int k = 0; k < w->net->refs; k++) {
            const b2_param *x = again->net->ref[k].param, *y = w->net->ref[k].param;
            assert_true(x->cols <= 8192);
            b2_param_row(x, x->rows / 2, a);
            b2_param_row(y, y->rows / 2, b);
            assert_memory_equal(a, b, (size_t)x->cols * sizeof(float));
        }
        blip2_model_close(w);
        blip2_model_close(again);
        blip2_model_close(m);
    }
    small_model_close(&s);
}

static void test_keep(void **state)
{
    small_model s;
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_FILE);
    blip2_model *m = open_as(s.device, s.model_dir, BLIP2_DTYPE_INT8, "qkv,qformer,lm_head");
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        const bool wide = !r->linear || r->linear == &m->net->vit.patch || strstr(r->name, "qkv") ||
                          strncmp(r->name, "qformer.", 8) == 0 || strstr(r->name, "lm_head");
        assert_int_equal(r->param->type == B2_I8, !wide);
    }
    blip2_model_close(m);
    small_model_close(&s);
}

/* A linear's blocks have one format: keeping one keeps them all, and nothing is rounded on the way. */
static void test_whole_linears(void **state)
{
    small_model s;
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_BF16);
    blip2_model *m = open_as(s.device, s.model_dir, BLIP2_DTYPE_INT8, "q,wi_1");
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i], *was = &s.model->net->ref[i];
        if (strstr(r->name, "SelfAttention.k.") || strstr(r->name, ".wi_0.")) {
            assert_int_equal(r->param->type, B2_BF16);
            assert_memory_equal(r->param->p, was->param->p,
                                (size_t)r->param->rows * (size_t)r->param->cols * 2);
        }
        if (strstr(r->name, "EncDecAttention.k.")) assert_int_equal(r->param->type, B2_I8);
    }
    blip2_model_close(m);
    small_model_close(&s);
}

/* Answers on int8 weights stray little from the wide ones', and not at all from themselves. */
static void test_drift(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    small_model s;
    unsigned char pixels[3 * 64 * 64];
    const int32_t ids[] = {5, 9, 1};
    blip2_request r = BLIP2_REQUEST_INIT;
    blip2_drift same = BLIP2_DRIFT_INIT, other = BLIP2_DRIFT_INIT;
    blip2_session *one = NULL, *two = NULL, *narrow = NULL;
    (void)state;
    small_model_open(&s, 2, BLIP2_DTYPE_BF16);
    blip2_model *m = open_as(s.device, s.model_dir, BLIP2_DTYPE_INT8, "none");
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (unsigned char)(i * 7 % 251);
    const blip2_image image = {.width = 64, .height = 64, .stride = 192, .pixels = pixels};
    r.prompt_ids = ids;
    r.prompt_count = 3;
    r.max_new_tokens = 6;
    if (blip2_session_open(s.model, NULL, &one, &e) || blip2_session_open(s.model, NULL, &two, &e) ||
        blip2_session_open(m, NULL, &narrow, &e))
        fail_msg("%s", e.text);
    if (blip2_session_drift(one, two, &image, &r, &same, &e)) fail_msg("%s", e.text);
    if (blip2_session_drift(one, narrow, &image, &r, &other, &e)) fail_msg("%s", e.text);
    assert_true(same.tokens > 0 && same.same == same.tokens);
    assert_true(same.kl == 0 && same.squares == 0 && same.largest == 0);
    assert_int_equal(other.tokens, same.tokens);
    assert_true(other.squares > 0 && other.squares < 0.05 * (double)other.tokens);
    assert_int_equal(blip2_session_drift(one, one, &image, &r, &same, &e), BLIP2_ERR_ARGUMENT);
    blip2_session_close(one);
    blip2_session_close(two);
    blip2_session_close(narrow);
    blip2_model_close(m);
    small_model_close(&s);
}

static void test_kinds(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    small_model s;
    blip2_matrix_kind k[64];
    int n = 0, seen = 0;
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_FILE);
    if (blip2_model_kinds(s.model, BLIP2_DTYPE_INT8, "", k, 64, &n, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) {
        seen += !strcmp(k[i].name, "qformer") || !strcmp(k[i].name, "wo") || !strcmp(k[i].name, "qkv");
        assert_true(k[i].tensors > 0 && k[i].parameters > 0 && k[i].error > 1e-4 && k[i].error < 0.03);
    }
    assert_int_equal(seen, 3);
    assert_int_equal(blip2_model_kinds(s.model, BLIP2_DTYPE_F32, "", k, 64, &n, &e), BLIP2_ERR_ARGUMENT);
    small_model_close(&s);
}

/* LoRA on an int8 base: losses near those on the wide one; what is quantised cannot train itself. */
static void test_training(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "new", "qa.csv", 2);
    blip2_trainer_options o = shop_options();
    o.dropout = o.lora_dropout = 0;
    blip2_model *wide = s.model, *narrow = open_as(s.device, wide->dir, BLIP2_DTYPE_INT8, "none");
    blip2_trainer *a = shop_trainer(&s, &o);
    s.model = narrow;
    blip2_trainer *b = shop_trainer(&s, &o), *none = NULL;
    for (int i = 0; i < 5; i++) {
        const blip2_step_report x = shop_step(a), y = shop_step(b);
        assert_true(fabs(x.loss - y.loss) <= 0.02 * x.loss);
        assert_true(x.loss != y.loss);
        assert_true(fabs(x.grad_norm - y.grad_norm) <= 0.1 * x.grad_norm);
    }
    o.trainable = BLIP2_TRAIN_ALL;
    assert_int_equal(blip2_trainer_open(narrow, s.data, &o, &none, &e), BLIP2_ERR_ARGUMENT);
    assert_non_null(strstr(e.text, "quantised"));
    blip2_trainer_close(a);
    blip2_trainer_close(b);
    blip2_model_close(narrow);
    s.model = wide;
    shop_close(&s);
}

/* ---- bad files ----------------------------------------------------------------------------------------- */

/* The folder's weights again, one tensor left out or cut short. */
static void damage(const char *dir, const char *name, bool cut)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_set *set;
    b2_st_writer *w;
    char path[700];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (b2_st_open_model(&set, dir, &e) || b2_st_writer_open(&w, path, &e)) fail_msg("%s", e.text);
    const b2_st_tensor *list[1024];
    int n = 0;
    for (size_t i = 0; i < b2_st_count(set); i++) {
        const b2_st_tensor *t = b2_st_at(set, i);
        int64_t shape[8];
        const bool hit = strcmp(t->name, name) == 0;
        if (hit && !cut) continue;
        memcpy(shape, t->shape, sizeof shape);
        shape[0] -= hit;
        if (b2_st_writer_declare(w, t->name, t->dtype, t->rank, shape, &e)) fail_msg("%s", e.text);
        list[n++] = t;
    }
    if (b2_st_writer_begin(w, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) {
        const b2_st_tensor *t = list[b2_st_writer_order(w, (size_t)i)];
        const size_t less = strcmp(t->name, name) == 0 ? t->bytes / (size_t)t->shape[0] : 0;
        if (b2_st_writer_data(w, t->data, t->bytes - less, &e)) fail_msg("%s", e.text);
    }
    if (b2_st_writer_commit(w, &e)) fail_msg("%s", e.text);
    b2_st_close(set);
}

static void test_bad_files(void **state)
{
    static const char *const bad[][2] = {
        {"vision_model.encoder.layers.0.self_attn.qkv.SCB", "are missing"},
        {"vision_model.encoder.layers.0.self_attn.qkv.SCB", "expected shape"},
        {"vision_model.encoder.layers.0.self_attn.qkv.weight", "expected shape"},
    };
    small_model s;
    blip2_error e = BLIP2_ERROR_INIT;
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_FILE);
    blip2_model *m = open_as(s.device, s.model_dir, BLIP2_DTYPE_INT8, NULL), *none = NULL;
    for (int i = 0; i < 3; i++) {
        char dir[600];
        snprintf(dir, sizeof dir, "%s/bad%d", s.dir, i);
        if (blip2_model_export(m, NULL, BLIP2_DTYPE_INT8, dir, &e)) fail_msg("%s", e.text);
        damage(dir, bad[i][0], i > 0);
        assert_int_not_equal(blip2_model_open(s.device, dir, NULL, &none, &e), BLIP2_OK);
        assert_non_null(strstr(e.text, bad[i][0]));
        assert_non_null(strstr(e.text, bad[i][1]));
    }
    blip2_model_close(m);
    small_model_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int8_rows),   cmocka_unit_test(test_int4_groups),
        cmocka_unit_test(test_int4_layout), cmocka_unit_test(test_names),
        cmocka_unit_test(test_not_finite),  cmocka_unit_test(test_whole_linears),
        cmocka_unit_test(test_folder),      cmocka_unit_test(test_keep),
        cmocka_unit_test(test_drift),       cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_training),    cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
