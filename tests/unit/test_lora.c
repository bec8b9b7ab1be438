/* The LoRA ops: shapes that do not fit are refused, and what is not finite is named. */
#include <math.h>
#include <string.h>
#include "op/op.h"
#include "unit/unit.h"

enum { ITEMS = 2, PER_ITEM = 3, M = ITEMS * PER_ITEM, K = 5, N = 4, LD = 2 * N, R = 2 };

/* Two adapted blocks beside each other. */
typedef struct rig {
    blip2_device *dev;
    b2_queue q;
    b2_step step;
    uint64_t sample[ITEMS];
    b2_arena scratch;
    float x[M * K], y[M * LD], dx[M * K], a[R * K], b[N * R], u[M * R], ga[R * K], gb[N * R];
    b2_tensor tx, ty, tdx;
    b2_lora l;
} rig;

static void rig_open(rig *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    memset(k, 0, sizeof *k);
    assert_int_equal(blip2_device_open("cpu", NULL, &k->dev, &e), BLIP2_OK);
    assert_int_equal(b2_arena_init(&k->scratch, 1 << 20, NULL, &e), BLIP2_OK);
    k->step.sample = k->sample;
    b2_queue_init(&k->q, k->dev, &k->scratch, &k->step);
    for (int i = 0; i < M * K; i++) k->x[i] = 1;
    for (int i = 0; i < M * LD; i++) k->y[i] = 1;
    for (int i = 0; i < R * K; i++) k->a[i] = 1;
    for (int i = 0; i < N * R; i++) k->b[i] = 1;
    k->tx = b2_view_f32(k->x, M, K);
    k->ty = b2_view_f32(k->y, M, LD);
    k->tdx = b2_view_f32(k->dx, M, K);
    k->l = (b2_lora){.blocks = 2, .items = ITEMS, .per_item = PER_ITEM, .k = K};
    for (int i = 0; i < 2; i++)
        k->l.block[i] = (b2_lora_block){
            .ab = {{k->a, k->b, R, 1}}, .c0 = i * N, .n = N, .u = k->u, .ga = k->ga, .gb = k->gb};
}

static void rig_close(rig *k)
{
    b2_queue_close(&k->q);
    b2_arena_free(&k->scratch);
    blip2_device_close(k->dev);
}

/* Runs one of the ops; wanted: the status, and words of the message. */
static void expect(rig *k, bool forward, blip2_status wanted, const char *words)
{
    blip2_error e = BLIP2_ERROR_INIT;
    if (forward)
        b2_lora_fwd(&k->q, &k->ty, &k->ty, &k->tx, &k->l);
    else
        b2_lora_bwd(&k->q, &k->tdx, &k->ty, &k->tx, &k->l);
    assert_int_equal(b2_queue_finish(&k->q, &e), wanted);
    if (words && !strstr(e.text, words)) fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

/* Both ops refuse the rig after `change`. */
#define REFUSED(change, words)                                                                               \
    do {                                                                                                     \
        for (int f = 0; f < 2; f++) {                                                                        \
            rig k;                                                                                           \
            rig_open(&k);                                                                                    \
            change;                                                                                          \
            expect(&k, f, BLIP2_ERR_SHAPE, words);                                                           \
            rig_close(&k);                                                                                   \
        }                                                                                                    \
    } while (0)

static void test_misfits(void **state)
{
    (void)state;
    const int32_t which[ITEMS] = {0, 0};
    REFUSED(k.l.blocks = 0, "0 blocks");
    REFUSED(k.l.blocks = 4, "4 blocks");
    REFUSED(k.l.per_item = 4, "2 items of 4 rows of 5");
    REFUSED(k.l.items = 0, "0 items");
    REFUSED(k.l.k = 6, "x 6x5");
    REFUSED(k.tx.ld = K + 1, "x 6x5");
    REFUSED(k.ty.rows = M - 1, "y 5x8");
    REFUSED(k.ty.type = B2_BF16, "y 6x8");
    REFUSED(k.l.block[1].c0 = N + 1, "2 blocks");
    REFUSED(k.l.block[0].c0 = -1, "2 blocks");
    REFUSED(k.l.block[1].drop = 1, "2 blocks");
    REFUSED(k.l.which = which, "2 blocks"); /* u is kept of one adapter */
}

static void test_backward_misfits(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        rig k;
        rig_open(&k);
        if (i == 0) k.tdx.cols = K - 1;
        if (i == 1) k.tdx.type = B2_BF16;
        if (i == 2) k.l.block[1].u = NULL; /* gb needs it */
        expect(&k, false, BLIP2_ERR_SHAPE, "lora_bwd: shapes or types do not fit");
        rig_close(&k);
    }
}

/* Each output is looked at, with words that name it by its shape. */
static void test_not_finite(void **state)
{
    (void)state;
    static const char *const shapes[] = {"6 x 8", "6 x 5", "2 x 5", "4 x 2"};
    for (int i = 0; i < 4; i++) {
        rig k;
        rig_open(&k);
        k.q.check_finite = 1;
        expect(&k, true, BLIP2_OK, NULL);
        expect(&k, false, BLIP2_OK, NULL);
        float *const out[] = {k.y, k.dx, k.ga, k.gb};
        out[i][1] = INFINITY;
        expect(&k, i == 0, BLIP2_ERR_NONFINITE, shapes[i]);
        rig_close(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_misfits),
                                       cmocka_unit_test(test_backward_misfits),
                                       cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
