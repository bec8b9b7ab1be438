/* Weight files that name tensors another way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "io/safetensors.h"
#include "tests/unit/small_model_common.h"

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
static void write_piece(b2_st_writer *w, const piece *x)
{
    blip2_error e = BLIP2_ERROR_INIT;
    const size_t third = x->t->bytes / 3;
    float *bias = calloc(1, x->t->bytes + 1);
    const int64_t n = is_fused(x->t) ? x->t->shape[0] / 3 : 0;
    for (int64_t i = 0; i < n; i++) {
        bias[i] = 0.5f * sinf((float)i);
        bias[2 * n + i] = 0.5f * cosf((float)i);
    }
    const uint8_t *from = n ? (const uint8_t *)bias : x->t->data;
    const size_t first = x->part == 'v' ? 2 * third : 0;
    if (b2_st_writer_data(w, from + first, x->part == 'w' ? x->t->bytes : third, &e)) fail_msg("%s", e.text);
    free(bias);
}

/* The model's folder again as DIR/name: fused biases with values, as one tensor or split. */
static void rewrite(const small_model *s, const char *name, bool split, char *dir, size_t size)
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
    for (int i = 0; i < n; i++) write_piece(w, &list[b2_st_writer_order(w, (size_t)i)]);
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
    rewrite(&s, "fused", false, fused, sizeof fused);
    rewrite(&s, "split", true, split, sizeof split);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_biases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
