/* Finite differences of every layer of nn/ by itself: loss = sum r*y with random r, gradients of inputs
 * and weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/nn.h"
#include "tests/grad/grad_common.h"

enum { MAX_VARS = 16, ITEMS = 3 };

/* A variable of the function: a tensor, its gradient by hand. */
typedef struct var {
    const char *name;
    float *w, *g;
    int64_t n;
} var;

typedef struct rig {
    blip2_device *dev;
    b2_queue q;
    b2_step step;
    b2_arena scratch, save;
    b2_pass pass;
    b2_rng r;
    uint64_t sample[ITEMS];
    var v[MAX_VARS];
    int vars;
    float *weight_of_y; /* r */
    b2_tensor y;
    void (*forward)(struct rig *);
    void (*backward)(struct rig *, b2_tensor *dy);
    /* the layers under test */
    b2_linear linear;
    b2_lora_slot slot[3];
    b2_norm norm;
    b2_mha mha;
    b2_mlp mlp;
    b2_mha_io io;
    int32_t klen[ITEMS];
    b2_tensor x, enc, dx, denc;
    b2_linear_saved linear_saved;
    b2_norm_saved norm_saved;
    b2_mha_saved mha_saved;
    b2_mlp_saved mlp_saved;
} rig;

static float *variable(rig *k, const char *name, int64_t n, double scale, float **grad)
{
    assert_true(k->vars < MAX_VARS);
    var *v = &k->v[k->vars++];
    *v = (var){name, grad_random(&k->r, n, scale), calloc((size_t)n, sizeof(float)), n};
    *grad = v->g;
    return v->w;
}

static b2_param parameter(rig *k, const char *name, int rows, int cols, double scale)
{
    b2_param p = {NULL, B2_F32, rows, cols, NULL, NULL};
    p.p = variable(k, name, (int64_t)rows * cols, scale, &p.g);
    return p;
}

static b2_tensor input(rig *k, const char *name, int rows, int cols, b2_tensor *grad)
{
    float *g, *w = variable(k, name, (int64_t)rows * cols, 1.0, &g);
    *grad = b2_view_f32(g, rows, cols);
    return b2_view_f32(w, rows, cols);
}

static void rig_open(rig *k, uint64_t salt)
{
    blip2_error e = BLIP2_ERROR_INIT;
    memset(k, 0, sizeof *k);
    k->r.key = grad_seed() + salt;
    assert_int_equal(blip2_device_open("cpu", NULL, &k->dev, &e), BLIP2_OK);
    for (int i = 0; i < ITEMS; i++) k->sample[i] = 40 + (uint64_t)i;
    k->step = (b2_step){.seed = 5, .step = 2, .sample = k->sample};
    b2_queue_init(&k->q, k->dev, &k->scratch, &k->step);
    assert_int_equal(b2_arena_init(&k->scratch, 4 << 20, NULL, &e), BLIP2_OK);
    assert_int_equal(b2_arena_init(&k->save, 4 << 20, NULL, &e), BLIP2_OK);
    k->pass = (b2_pass){.q = &k->q, .act = B2_F32, .save = &k->save};
}

static double loss_of(void *ctx)
{
    rig *k = ctx;
    blip2_error e = BLIP2_ERROR_INIT;
    double loss = 0;
    const size_t mark = b2_arena_mark(&k->save);
    k->forward(k);
    if (b2_queue_finish(&k->q, &e) != BLIP2_OK) fail_msg("%s", e.text);
    const float *y = k->y.p;
    for (int64_t i = 0; i < (int64_t)k->y.rows * k->y.cols; i++) loss += (double)k->weight_of_y[i] * y[i];
    b2_arena_release(&k->save, mark);
    return loss;
}

static void check(rig *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    int bad = 0;
    const int64_t n = (int64_t)k->y.rows * k->y.cols;
    float *y = calloc((size_t)n, sizeof *y);
    k->y.p = y;
    k->weight_of_y = grad_random(&k->r, n, 1.0);
    k->forward(k);
    float *dy = malloc((size_t)n * sizeof *dy);
    memcpy(dy, k->weight_of_y, (size_t)n * sizeof *dy);
    b2_tensor d = b2_view_f32(dy, k->y.rows, k->y.cols);
    k->backward(k, &d);
    if (b2_queue_finish(&k->q, &e) != BLIP2_OK) fail_msg("%s", e.text);
    for (int i = 0; i < k->vars; i++) {
        const double err = grad_check(loss_of, k, k->v[i].w, k->v[i].g, k->v[i].n, 2, &k->r);
        if (err > 1e-2) printf("  %s: relative error %.3g\n", k->v[i].name, err);
        bad += err > 1e-2;
    }
    for (int i = 0; i < k->vars; i++) {
        free(k->v[i].w);
        free(k->v[i].g);
    }
    free(y);
    free(dy);
    free(k->weight_of_y);
    b2_arena_free(&k->scratch);
    b2_arena_free(&k->save);
    blip2_device_close(k->dev);
    if (bad) fail_msg("%d gradients disagree with finite differences", bad);
}

/* ---- linear, one to three blocks, biases, LoRA ---- */
static void linear_forward(rig *k)
{
    b2_linear_fwd(&k->pass, &k->linear, &k->linear_saved, &k->y, &k->x, ITEMS, 0.7f, 0.0f);
}
static void linear_backward(rig *k, b2_tensor *dy)
{
    b2_linear_bwd(&k->pass, &k->linear, &k->linear_saved, &k->dx, dy, 0.7f, 0.0f);
}

static void lora_on(rig *k, b2_linear *l, int block, float drop)
{
    static const char *const names[3][2] = {{"A0", "B0"}, {"A1", "B1"}, {"A2", "B2"}};
    b2_lora_slot *s = &k->slot[block];
    float *ga, *gb;
    const float *a = variable(k, names[block][0], 2 * l->w[block].cols, 0.3, &ga),
                *b = variable(k, names[block][1], 2 * l->w[block].rows, 0.5, &gb);
    *s = (b2_lora_slot){
        .ab = {{a, b, 2, 1.3f}}, .n = 1, .ga = ga, .gb = gb, .drop = drop, .site = 9u + (uint32_t)block};
    l->lora[block] = s;
}

static void linear_case(int blocks, bool bias, float drop)
{
    rig k;
    static const char *const names[3][2] = {{"w0", "b0"}, {"w1", "b1"}, {"w2", "b2"}};
    rig_open(&k, (uint64_t)blocks);
    k.linear.n = blocks;
    for (int i = 0; i < blocks; i++) {
        k.linear.w[i] = parameter(&k, names[i][0], 5 + 2 * i, 11, 0.3);
        if (bias) k.linear.b[i] = parameter(&k, names[i][1], 1, 5 + 2 * i, 1.0);
        if (i != 1) lora_on(&k, &k.linear, i, drop);
    }
    k.x = input(&k, "x", ITEMS * 4, 11, &k.dx);
    k.y = b2_view_f32(NULL, ITEMS * 4, b2_linear_out(&k.linear));
    k.forward = linear_forward;
    k.backward = linear_backward;
    check(&k);
}
static void test_linear(void **state)
{
    (void)state;
    linear_case(1, true, 0.0f);
}
static void test_linear_three(void **state)
{
    (void)state;
    linear_case(3, false, 0.4f);
}

/* ---- norms ---- */
static void norm_forward(rig *k) { b2_norm_fwd(&k->pass, &k->norm, &k->norm_saved, &k->y, NULL, &k->x); }
static void norm_backward(rig *k, b2_tensor *dy)
{
    b2_norm_bwd(&k->pass, &k->norm, &k->norm_saved, &k->dx, dy, 0.0f);
}

static void norm_case(bool rms)
{
    rig k;
    rig_open(&k, rms);
    k.norm.eps = 1e-6f;
    k.norm.w = parameter(&k, "w", 1, 33, 1.0);
    if (!rms) k.norm.b = parameter(&k, "b", 1, 33, 1.0);
    k.x = input(&k, "x", 7, 33, &k.dx);
    k.y = b2_view_f32(NULL, 7, 33);
    k.forward = norm_forward;
    k.backward = norm_backward;
    check(&k);
}
static void test_rmsnorm(void **state)
{
    (void)state;
    norm_case(true);
}
static void test_layernorm(void **state)
{
    (void)state;
    norm_case(false);
}

/* ---- attention ---- */
static void mha_forward(rig *k)
{
    b2_mha_fwd(&k->pass, &k->mha, &k->mha_saved, &k->io, &k->y, &k->x, k->enc.p ? &k->enc : NULL, 0.0f);
}
static void mha_backward(rig *k, b2_tensor *dy)
{
    b2_mha_bwd(&k->pass, &k->mha, &k->mha_saved, &k->io, &k->dx, 0.0f, k->enc.p ? &k->denc : NULL, 0.0f, dy);
}

static void mha_case(bool cross, bool causal, bool bias, float drop)
{
    enum { HEADS = 2, DIM = 6, TQ = 5, TK = 7, IN = 9 };
    rig k;
    const int inner = HEADS * DIM, tk = cross ? TK : TQ;
    rig_open(&k, (uint64_t)(cross * 4 + causal * 2 + bias));
    k.mha = (b2_mha){.heads = HEADS, .dim = DIM, .scale = 0.4f, .drop = drop, .site = 3};
    b2_linear *kv = cross ? &k.mha.kv : &k.mha.qkv;
    static const char *const names[3] = {"wq", "wk", "wv"};
    for (int i = 0; i < 3; i++) {
        b2_linear *l = i ? kv : &k.mha.qkv;
        l->w[l->n++] = parameter(&k, names[i], inner, IN, 0.4);
    }
    k.mha.o.w[k.mha.o.n++] = parameter(&k, "wo", IN, inner, 0.4);
    k.x = input(&k, "x", ITEMS * TQ, IN, &k.dx);
    if (cross) k.enc = input(&k, "enc", ITEMS * TK, IN, &k.denc);
    for (int i = 0; i < ITEMS; i++) k.klen[i] = i == 1 ? tk : 2 + i;
    k.io = (b2_mha_io){.batch = ITEMS, .tq = TQ, .tk = tk, .klen = k.klen, .causal = causal};
    if (bias) {
        float *g;
        k.io.ldbias = TQ + tk - 1;
        k.io.bias0 = TQ - 1;
        k.io.bias = variable(&k, "bias", (int64_t)HEADS * k.io.ldbias, 1.0, &g);
        k.io.dbias = g;
    }
    k.y = b2_view_f32(NULL, ITEMS * TQ, IN);
    k.forward = mha_forward;
    k.backward = mha_backward;
    check(&k);
}
static void test_self(void **state)
{
    (void)state;
    mha_case(false, false, true, 0.0f);
}
static void test_causal(void **state)
{
    (void)state;
    mha_case(false, true, true, 0.3f);
}
static void test_cross(void **state)
{
    (void)state;
    mha_case(true, false, false, 0.3f);
}

/* ---- feed forward ---- */
static void mlp_forward(rig *k) { b2_mlp_fwd(&k->pass, &k->mlp, &k->mlp_saved, &k->y, &k->x, ITEMS, 0.0f); }
static void mlp_backward(rig *k, b2_tensor *dy)
{
    b2_mlp_bwd(&k->pass, &k->mlp, &k->mlp_saved, &k->dx, 0.0f, dy, ITEMS);
}

static void mlp_case(bool gated, b2_act_fn fn, float drop)
{
    rig k;
    rig_open(&k, (uint64_t)fn + 10 * gated);
    k.mlp = (b2_mlp){.fn = fn, .gated = gated, .drop = drop, .site = 4};
    k.mlp.up.n = gated ? 2 : 1;
    k.mlp.up.w[0] = parameter(&k, "wi_0", 17, 9, 0.4);
    if (gated)
        k.mlp.up.w[1] = parameter(&k, "wi_1", 17, 9, 0.4);
    else
        k.mlp.up.b[0] = parameter(&k, "b", 1, 17, 0.4);
    k.mlp.down.n = 1;
    k.mlp.down.w[0] = parameter(&k, "wo", 9, 17, 0.4);
    k.x = input(&k, "x", ITEMS * 5, 9, &k.dx);
    k.y = b2_view_f32(NULL, ITEMS * 5, 9);
    k.forward = mlp_forward;
    k.backward = mlp_backward;
    check(&k);
}
static void test_gated_gelu(void **state)
{
    (void)state;
    mlp_case(true, B2_GELU, 0.3f);
}
static void test_gated_tanh(void **state)
{
    (void)state;
    mlp_case(true, B2_GELU_NEW, 0.0f);
}
static void test_gelu(void **state)
{
    (void)state;
    mlp_case(false, B2_GELU, 0.0f);
}
static void test_silu(void **state)
{
    (void)state;
    mlp_case(false, B2_SILU, 0.3f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear),     cmocka_unit_test(test_linear_three),
                                       cmocka_unit_test(test_rmsnorm),    cmocka_unit_test(test_layernorm),
                                       cmocka_unit_test(test_self),       cmocka_unit_test(test_causal),
                                       cmocka_unit_test(test_cross),      cmocka_unit_test(test_gated_gelu),
                                       cmocka_unit_test(test_gated_tanh), cmocka_unit_test(test_gelu),
                                       cmocka_unit_test(test_silu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
