/* Finite differences through the whole model: every tensor of small random models, LoRA on every linear,
 * with dropout, recomputation and ragged lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/grad/grad_common.h"
#include "model/forward.h"
#include "model/lora.h"

enum { BATCH = 2, TENC = 9, TDEC = 5, LIMIT = 1 };

typedef struct rig {
    blip2_device *dev;
    b2_net *net;
    b2_config c;
    b2_queue q;
    b2_step step;
    b2_arena scratch, save;
    b2_pass pass;
    b2_batch batch;
    float **w, **g; /* by ref */
    float *pixels, *la[128], *lb[128], *ga[128], *gb[128];
    int slots;
    int32_t enc_ids[BATCH * TENC], enc_len[BATCH], dec_ids[BATCH * TDEC], labels[BATCH * TDEC];
    uint64_t sample[BATCH];
} rig;

static double loss_of(void *ctx)
{
    rig *k = ctx;
    double loss = 0;
    blip2_error e = BLIP2_ERROR_INIT;
    b2_train_pass(&k->pass, k->net, &k->batch, &loss, true);
    if (b2_queue_finish(&k->q, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return loss;
}

static b2_config small_config(int variant)
{
    b2_config c = {.vit = {.hidden = 24,
                           .inter = 20,
                           .layers = 2,
                           .heads = 3,
                           .image = 9,
                           .patch = 4,
                           .eps = 1e-6f,
                           .act = B2_GELU,
                           .qkv_bias = true},
                   .qf = {.hidden = 16,
                          .inter = 20,
                          .layers = 3,
                          .heads = 2,
                          .cross_every = 2,
                          .queries = 3,
                          .eps = 1e-12f,
                          .act = B2_GELU},
                   .t5 = {.d = 20,
                          .dkv = 8,
                          .heads = 3,
                          .ff = 28,
                          .enc_layers = 2,
                          .dec_layers = 3,
                          .vocab = 31,
                          .buckets = 8,
                          .max_distance = 16,
                          .eps = 1e-6f,
                          .gated = true,
                          .act = B2_GELU,
                          .eos = 1,
                          .bos = 1},
                   .image_token = -1};
    if (variant == 1) {
        c.t5.act = B2_GELU_NEW;
        c.t5.scale_out = true;
        c.vit.act = B2_GELU_NEW;
        c.qf.cross_every = 1;
    } else if (variant == 2) {
        c.t5.gated = false;
        c.t5.act = B2_SILU;
        c.t5.enc_layers = 3;
        c.t5.dec_layers = 1;
    }
    return c;
}

static void random_weights(rig *k, b2_rng *r)
{
    k->w = calloc((size_t)k->net->refs, sizeof *k->w);
    k->g = calloc((size_t)k->net->refs, sizeof *k->g);
    for (int i = 0; i < k->net->refs; i++) {
        b2_param *p = k->net->ref[i].param;
        const int64_t n = (int64_t)p->rows * p->cols;
        const double soft = strstr(k->net->ref[i].name, "Attention.q.") ? 1.0 / sqrt((double)k->c.t5.dkv)
                                                                        : 1.0; /* T5 does not scale scores */
        k->w[i] = grad_random(r, n, k->net->ref[i].matrix ? soft / sqrt((double)p->cols) : 0.3);
        if (strstr(k->net->ref[i].name, "norm") || strstr(k->net->ref[i].name, "LayerNorm")) {
            for (int64_t j = 0; j < n && strstr(k->net->ref[i].name, ".weight"); j++) k->w[i][j] += 1.0f;
        }
        k->g[i] = calloc((size_t)n, sizeof(float));
        p->p = k->w[i];
    }
}

static void random_batch(rig *k, b2_rng *r)
{
    const int side = k->c.vit.image;
    k->pixels = grad_random(r, (int64_t)BATCH * 3 * side * side, 1.0);
    k->batch = (b2_batch){.batch = BATCH,
                          .tenc = TENC,
                          .tdec = TDEC,
                          .pixels = k->pixels,
                          .enc_ids = k->enc_ids,
                          .enc_len = k->enc_len,
                          .dec_ids = k->dec_ids,
                          .labels = k->labels};
    for (int b = 0; b < BATCH; b++) {
        int32_t text[TENC];
        const int words = b ? TENC - k->c.qf.queries : 3;
        for (int i = 0; i < words; i++) text[i] = (int32_t)b2_rng_below(r, (uint64_t)k->c.t5.vocab);
        k->enc_len[b] = b2_encoder_ids(&k->c, text, words, b * k->c.qf.queries, k->enc_ids + b * TENC);
        for (int i = k->enc_len[b]; i < TENC; i++) k->enc_ids[b * TENC + i] = 0;
        for (int i = 0; i < TDEC; i++) {
            k->labels[b * TDEC + i] = b && i > 2 ? -1 : (int32_t)b2_rng_below(r, (uint64_t)k->c.t5.vocab);
            k->dec_ids[b * TDEC + i] =
                i ? (k->labels[b * TDEC + i - 1] < 0 ? 0 : k->labels[b * TDEC + i - 1]) : 0;
        }
        k->sample[b] = 100 + (uint64_t)b;
    }
}

static void plan(rig *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    double loss = 0;
    b2_arena_dry(&k->scratch);
    b2_arena_dry(&k->save);
    k->q.dry = true;
    b2_train_pass(&k->pass, k->net, &k->batch, &loss, false);
    k->q.dry = false;
    assert_int_equal(b2_queue_finish(&k->q, &e), BLIP2_OK);
    assert_int_equal(b2_arena_init(&k->scratch, k->scratch.peak, NULL, &e), BLIP2_OK);
    assert_int_equal(b2_arena_init(&k->save, k->save.peak, NULL, &e), BLIP2_OK);
}

static void rig_open(rig *k, int variant, bool recompute, float drop, b2_rng *r)
{
    blip2_error e = BLIP2_ERROR_INIT;
    memset(k, 0, sizeof *k);
    assert_int_equal(blip2_device_open("cpu", NULL, &k->dev, &e), BLIP2_OK);
    k->c = small_config(variant);
    assert_int_equal(b2_net_new(&k->net, &k->c, &e), BLIP2_OK);
    random_weights(k, r);
    random_batch(k, r);
    b2_net_set_dropout(k->net, drop, drop, drop);
    k->step = (b2_step){.seed = 7, .step = 3, .sample = k->sample};
    b2_queue_init(&k->q, k->dev, &k->scratch, &k->step);
    k->pass = (b2_pass){.q = &k->q, .act = B2_F32, .save = &k->save, .recompute = recompute};
}

static void rig_close(rig *k)
{
    for (int i = 0; i < k->net->refs; i++) {
        free(k->w[i]);
        free(k->g[i]);
    }
    for (int i = 0; i < k->slots; i++) {
        free(k->la[i]);
        free(k->lb[i]);
        free(k->ga[i]);
        free(k->gb[i]);
    }
    free(k->w);
    free(k->g);
    free(k->pixels);
    b2_arena_free(&k->scratch);
    b2_arena_free(&k->save);
    b2_net_free(k->net);
    blip2_device_close(k->dev);
}

static void backward(rig *k)
{
    double loss = 0;
    blip2_error e = BLIP2_ERROR_INIT;
    plan(k);
    b2_train_pass(&k->pass, k->net, &k->batch, &loss, false);
    if (b2_queue_finish(&k->q, &e) != BLIP2_OK) fail_msg("%s", e.text);
    const double again = loss_of(k);
    assert_true(fabs(again - loss) <= 1e-6 * fabs(loss));
}

/* Every tensor of the checkpoint. */
static void check_all(int variant, bool recompute, float drop)
{
    b2_rng r = {grad_seed() + (uint64_t)variant, 0};
    rig k;
    int bad = 0;
    rig_open(&k, variant, recompute, drop, &r);
    for (int i = 0; i < k.net->refs; i++) k.net->ref[i].param->g = k.g[i];
    backward(&k);
    for (int i = 0; i < k.net->refs; i++) {
        const b2_param *p = k.net->ref[i].param;
        const double err = grad_check(loss_of, &k, k.w[i], k.g[i], (int64_t)p->rows * p->cols, LIMIT, &r);
        if (err > 2e-2) {
            printf("%-90s relative error %.3g\n", k.net->ref[i].name, err);
            bad++;
        }
    }
    if (bad) fail_msg("%d of %d tensors disagree with finite differences", bad, k.net->refs);
    rig_close(&k);
}

static void test_all(void **state)
{
    (void)state;
    check_all(0, false, 0.0f);
}
static void test_tanh_tied_scale(void **state)
{
    (void)state;
    check_all(1, false, 0.0f);
}
static void test_silu_ungated(void **state)
{
    (void)state;
    check_all(2, false, 0.0f);
}
static void test_dropout(void **state)
{
    (void)state;
    check_all(0, false, 0.2f);
}
static void test_recompute(void **state)
{
    (void)state;
    check_all(0, true, 0.2f);
}

/* LoRA on every linear of the model, nothing else; with dropout on its input. */
static void check_lora(const char *targets, float drop, bool recompute)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_rng r = {grad_seed(), 0};
    rig k;
    int *refs = NULL, n = 0, bad = 0;
    rig_open(&k, 0, recompute, 0.0f, &r);
    assert_int_equal(b2_lora_select(k.net, targets, &refs, &n, &e), BLIP2_OK);
    assert_true(n <= 128);
    assert_int_equal(b2_lora_slots(k.net, refs, n, &e), BLIP2_OK);
    k.slots = n;
    for (int i = 0; i < n; i++) {
        const b2_param *p = k.net->ref[refs[i]].param;
        b2_lora_slot *s = &k.net->slots[i];
        k.la[i] = grad_random(&r, 2 * p->cols, 1.0 / sqrt((double)p->cols));
        k.lb[i] = grad_random(&r, 2 * p->rows, 0.15);
        s->ga = k.ga[i] = calloc((size_t)(2 * p->cols), sizeof(float));
        s->gb = k.gb[i] = calloc((size_t)(2 * p->rows), sizeof(float));
        s->ab[0] = (b2_lora_ab){k.la[i], k.lb[i], 2, 1.5f};
        s->n = 1;
        s->drop = drop;
    }
    backward(&k);
    for (int i = 0; i < n; i++) {
        const b2_param *p = k.net->ref[refs[i]].param;
        const double ea = grad_check(loss_of, &k, k.la[i], k.ga[i], 2 * p->cols, LIMIT, &r);
        const double eb = grad_check(loss_of, &k, k.lb[i], k.gb[i], 2 * p->rows, LIMIT, &r);
        if (ea > 2e-2 || eb > 2e-2) {
            printf("%-90s A %.3g, B %.3g\n", k.net->ref[refs[i]].name, ea, eb);
            bad++;
        }
    }
    free(refs);
    rig_close(&k);
    if (bad) fail_msg("%d of %d LoRA modules disagree with finite differences", bad, n);
}

static void test_lora_qv(void **state)
{
    (void)state;
    check_lora("q,v", 0.0f, false);
}
static void test_lora_everywhere(void **state)
{
    (void)state;
    check_lora("q,k,v,o,wi_0,wi_1,wo,lm_head,qkv,projection,fc1,fc2,query,key,value", 0.3f, false);
}
static void test_lora_recompute(void **state)
{
    (void)state;
    check_lora("q,v,qkv,query", 0.3f, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all),
                                       cmocka_unit_test(test_tanh_tied_scale),
                                       cmocka_unit_test(test_silu_ungated),
                                       cmocka_unit_test(test_dropout),
                                       cmocka_unit_test(test_recompute),
                                       cmocka_unit_test(test_lora_qv),
                                       cmocka_unit_test(test_lora_everywhere),
                                       cmocka_unit_test(test_lora_recompute)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
