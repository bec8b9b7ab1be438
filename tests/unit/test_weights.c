/* Weight files that name tensors another way, and new ones with random weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/half.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "model/quantise.h"
#include "tests/unit/small_model_common.h"
#include "tests/unit/unit.h"

#define FUSED "qkv.bias"

static bool is_fused(const b2_st_tensor *t)
{
    const size_t n = strlen(t->name), leaf = strlen(FUSED);
    return n > leaf && strcmp(t->name + n - leaf, FUSED) == 0;
}

/* Which part of t a declared tensor is: 'w' the whole, 'q' or 'v' a third. */
typedef struct piece {
    const b2_st_tensor *t;
    char part;
} piece;

static void declare(b2_st_writer *w, const piece *x)
{
    blip2_error e = BLIP2_ERROR_INIT;
    char name[160];
    int64_t shape[8];
    memcpy(shape, x->t->shape, sizeof shape);
    snprintf(name, sizeof name, "%s", x->t->name);
    if (x->part != 'w') {
        snprintf(name + strlen(name) - strlen(FUSED), 16, "%c_bias", x->part);
        shape[0] /= 3;
    }
    if (b2_st_writer_declare(w, name, x->t->dtype, x->t->rank, shape, &e)) fail_msg("%s", e.text);
}

/* The bytes of a piece. Fused biases get values that matter, and zeros for the key: what two biases mean. */
static void write_piece(b2_st_writer *w, const piece *x, float amplitude)
{
    blip2_error e = BLIP2_ERROR_INIT;
    const size_t third = x->t->bytes / 3;
    float *bias = calloc(1, x->t->bytes + 1);
    const int64_t n = is_fused(x->t) ? x->t->shape[0] / 3 : 0;
    for (int64_t i = 0; i < n; i++) {
        bias[i] = amplitude * sinf((float)i);
        bias[2 * n + i] = amplitude * cosf((float)i);
    }
    const uint8_t *from = n ? (const uint8_t *)bias : x->t->data;
    const size_t first = x->part == 'v' ? 2 * third : 0;
    if (b2_st_writer_data(w, from + first, x->part == 'w' ? x->t->bytes : third, &e)) fail_msg("%s", e.text);
    free(bias);
}

/* The model's folder again as DIR/name: fused biases with values up to amplitude, as one tensor or split. */
static void rewrite(const small_model *s, const char *name, bool split, float amplitude, char *dir,
                    size_t size)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_set *from;
    b2_st_writer *w;
    char path[700], command[1200];
    int n = 0;
    snprintf(dir, size, "%s/%s", s->dir, name);
    snprintf(command, sizeof command, "cp -r '%s' '%s'", s->model_dir, dir);
    if (system(command)) fail_msg("cannot copy %s", s->model_dir);
    if (b2_st_open_model(&from, s->model_dir, &e)) fail_msg("%s", e.text);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (b2_st_writer_open(&w, path, &e)) fail_msg("%s", e.text);
    piece *list = malloc(2 * b2_st_count(from) * sizeof *list);
    for (size_t i = 0; i < b2_st_count(from); i++) {
        const b2_st_tensor *t = b2_st_at(from, i);
        const bool two = split && is_fused(t);
        list[n++] = (piece){t, two ? 'q' : 'w'};
        if (two) list[n++] = (piece){t, 'v'};
    }
    for (int i = 0; i < n; i++) declare(w, &list[i]);
    if (b2_st_writer_begin(w, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) write_piece(w, &list[b2_st_writer_order(w, (size_t)i)], amplitude);
    if (b2_st_writer_commit(w, &e)) fail_msg("%s", e.text);
    free(list);
    b2_st_close(from);
}

/* Image tokens that the model of a folder makes of the same picture. */
static float *tokens_of(small_model *s, const char *dir, int *n)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model *own = s->model, *m;
    blip2_session *session;
    int tokens, hidden;
    if (blip2_model_open(s->device, dir, NULL, &m, &e)) fail_msg("%s", e.text);
    s->model = m;
    if (blip2_session_open(m, NULL, &session, &e)) fail_msg("%s", e.text);
    blip2_features *f = small_features(session, s, 3, -1);
    const float *data = blip2_features_data(f, &tokens, &hidden);
    *n = tokens * hidden;
    float *copy = malloc((size_t)*n * sizeof *copy);
    memcpy(copy, data, (size_t)*n * sizeof *copy);
    blip2_features_close(f);
    blip2_session_close(session);
    blip2_model_close(m);
    s->model = own;
    return copy;
}

static void test_two_biases(void **state)
{
    small_model s;
    char fused[600], split[600];
    int n, n2, n3;
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_F32);
    rewrite(&s, "fused", false, 0.5f, fused, sizeof fused);
    rewrite(&s, "split", true, 0.5f, split, sizeof split);
    float *a = tokens_of(&s, fused, &n), *b = tokens_of(&s, split, &n2), *c = tokens_of(&s, s.model_dir, &n3);
    assert_int_equal(n, n2);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    assert_memory_not_equal(a, c,
                            (size_t)n * sizeof *a); /* the key's bias was not zero, or this shows nothing */
    free(a);
    free(b);
    free(c);
    small_model_close(&s);
}

static uint64_t hash_of(const small_model *s, const char *dir)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model *m;
    if (blip2_model_open(s->device, dir, NULL, &m, &e)) fail_msg("%s", e.text);
    const uint64_t h = b2_model_hash(m);
    blip2_model_close(m);
    return h;
}

/* Cached features belong to one model's weights: another value of a bias is another model, however it is
 * stored. */
static void test_hash_sees_biases(void **state)
{
    small_model s;
    char dir[4][600];
    uint64_t h[4];
    (void)state;
    small_model_open(&s, 1, BLIP2_DTYPE_F32);
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        rewrite(&s, name, i & 1, i & 2 ? 0.25f : 0.5f, dir[i], sizeof dir[i]);
        h[i] = hash_of(&s, dir[i]);
        assert_int_equal(h[i], hash_of(&s, dir[i]));
    }
    assert_int_not_equal(h[0], h[2]);
    assert_int_not_equal(h[1], h[3]);
    small_model_close(&s);
}

/* The first four moments of a normal distribution, within five standard errors of a sample of n. */
static void expect_normal(const b2_st_tensor *t, double std)
{
    const size_t n = t->bytes / sizeof(float);
    const float *x = (const float *)(const void *)t->data;
    double m[5] = {0};
    for (size_t i = 0; i < n; i++) {
        for (int k = 1; k <= 4; k++) m[k] += pow(x[i] / std, k) / (double)n;
    }
    const double unit = 5 / sqrt((double)n);
    assert_true(fabs(m[1]) <= unit);
    assert_true(fabs(m[2] - 1) <= unit * sqrt(2));
    assert_true(fabs(m[3]) <= unit * sqrt(15));
    assert_true(fabs(m[4] - 3) <= unit * sqrt(96));
}

static void test_random_weights(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_set *set[3];
    char *dir = unit_folder();
    (void)state;
    for (int i = 0; i < 3; i++) {
        blip2_init_options o = BLIP2_INIT_OPTIONS_INIT;
        char name[8];
        o.preset = "fashion-tiny";
        o.dtype = BLIP2_DTYPE_F32;
        o.threads = 1 + 2 * (i == 1);
        o.seed = 4 + (i == 2);
        snprintf(name, sizeof name, "m%d", i);
        if (blip2_model_init(unit_path(dir, name), &o, &e) ||
            b2_st_open_model(&set[i], unit_path(dir, name), &e))
            fail_msg("%s", e.text);
    }
    for (size_t i = 0; i < b2_st_count(set[0]); i++) {
        const b2_st_tensor *a = b2_st_at(set[0], i), *b = b2_st_at(set[1], i);
        assert_string_equal(a->name, b->name);
        assert_memory_equal(a->data, b->data, a->bytes); /* any number of threads */
    }
    const b2_st_tensor *x = b2_st_find(set[0],
                                       "language_model.encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
                       *other = b2_st_find(set[2], x->name);
    assert_memory_not_equal(x->data, other->data, x->bytes); /* another seed */
    expect_normal(x, 1 / sqrt((double)x->shape[1]));
    expect_normal(b2_st_find(set[0], "query_tokens"), 0.5);
    for (int i = 0; i < 3; i++) b2_st_close(set[i]);
    unit_remove(dir);
}

#define BLOCK "language_model.encoder.block.0.layer.0.SelfAttention."

/* Writes the narrow folder's file anew with BLOCK's k as the wide folder has it. */
static void widen_k(const char *narrow, const char *wide)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_set *from[2];
    b2_st_writer *w;
    char path[700];
    int n = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", narrow);
    if (b2_st_open_model(&from[0], narrow, &e) || b2_st_open_model(&from[1], wide, &e) ||
        b2_st_writer_open(&w, path, &e))
        fail_msg("%s", e.text);
    const b2_st_tensor **list = malloc(b2_st_count(from[0]) * sizeof *list);
    for (size_t i = 0; i < b2_st_count(from[0]); i++) {
        const b2_st_tensor *t = b2_st_at(from[0], i);
        if (strcmp(t->name, BLOCK "k.SCB") == 0 || strcmp(t->name, BLOCK "k.weight_scale") == 0) continue;
        if (strcmp(t->name, BLOCK "k.weight") == 0) t = b2_st_find(from[1], t->name);
        if (b2_st_writer_declare(w, t->name, t->dtype, t->rank, t->shape, &e)) fail_msg("%s", e.text);
        list[n++] = t;
    }
    if (b2_st_writer_begin(w, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) {
        const b2_st_tensor *t = list[b2_st_writer_order(w, (size_t)i)];
        if (b2_st_writer_data(w, t->data, t->bytes, &e)) fail_msg("%s", e.text);
    }
    if (b2_st_writer_commit(w, &e)) fail_msg("%s", e.text);
    free(list);
    b2_st_close(from[0]);
    b2_st_close(from[1]);
}

static blip2_model *open_as(blip2_device *d, const char *dir, blip2_dtype dtype)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model_options o = BLIP2_MODEL_OPTIONS_INIT;
    blip2_model *m = NULL;
    o.dtype = dtype;
    if (blip2_model_open(d, dir, &o, &m, &e)) fail_msg("%s", e.text);
    return m;
}

static void expect_widened(const b2_param *p, const b2_param *narrow, b2_dtype type)
{
    float a[512], b[512];
    assert_int_equal(p->type, type);
    assert_true(narrow->type >= B2_I8 && p->cols <= 512);
    for (int o = 0; o < p->rows; o++) {
        b2_param_row(p, o, a);
        b2_param_row(narrow, o, b);
        for (int c = 0; c < p->cols && type == B2_BF16; c++) b[c] = b2_bf16_to_f32(b2_f32_to_bf16(b[c]));
        assert_memory_equal(a, b, (size_t)p->cols * sizeof *a);
    }
}

/* One of a linear's blocks is wide in the file: the others become so, with the values they had. */
static void test_mixed_blocks(void **state)
{
    const blip2_dtype narrow[] = {BLIP2_DTYPE_INT8, BLIP2_DTYPE_INT4},
                      wide[] = {BLIP2_DTYPE_F32, BLIP2_DTYPE_BF16};
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_init_options o = BLIP2_INIT_OPTIONS_INIT;
    small_model s;
    char plain[600], dir[600];
    (void)state;
    small_model_open(&s, 2, BLIP2_DTYPE_FILE);
    snprintf(plain, sizeof plain, "%s/plain", s.dir);
    o.preset = "fashion-tiny";
    if (blip2_model_init(plain, &o, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < 2; i++) {
        snprintf(dir, sizeof dir, "%s/q%d", s.dir, i);
        blip2_model *was = open_as(s.device, plain, narrow[i]);
        if (blip2_model_export(was, NULL, narrow[i], dir, &e)) fail_msg("%s", e.text);
        widen_k(dir, plain);
        for (int k = 0; k < 2; k++) {
            blip2_model *m = open_as(s.device, dir, wide[k]);
            const int q = b2_net_find(m->net, BLOCK "q.weight"), v = b2_net_find(m->net, BLOCK "v.weight");
            expect_widened(m->net->ref[q].param, was->net->ref[q].param, k ? B2_BF16 : B2_F32);
            expect_widened(m->net->ref[v].param, was->net->ref[v].param, k ? B2_BF16 : B2_F32);
            blip2_model_close(m);
        }
        blip2_model_close(was);
    }
    small_model_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_biases), cmocka_unit_test(test_hash_sees_biases),
        cmocka_unit_test(test_random_weights), cmocka_unit_test(test_mixed_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
