/* Learning rates against their formulas, and those that a trainer takes. */
#include <math.h>
#include "tests/unit/train_common.h"
#include "train/schedule.h"

static void expect(const b2_schedule *s, int64_t step, double want)
{
    const double got = b2_schedule_lr(s, step);
    if (!(fabs(got - want) <= 1e-12 * fabs(s->lr)))
        fail_msg("step %d: %.15g, expected %.15g", (int)step, got, want);
}

static void warm_up(void **state)
{
    (void)state;
    for (int kind = BLIP2_CONSTANT; kind <= BLIP2_COSINE; kind++) {
        const b2_schedule s = {(blip2_schedule)kind, 0.3, 4, 10};
        for (int i = 0; i < 4; i++) expect(&s, i, 0.3 * (i + 1) / 4);
        expect(&s, 4, 0.3); /* the highest rate is reached, and not passed */
    }
}

static void falling(void **state)
{
    (void)state;
    const b2_schedule line = {BLIP2_LINEAR, 2.0, 5, 25}, cosine = {BLIP2_COSINE, 2.0, 5, 25},
                      flat = {BLIP2_CONSTANT, 2.0, 5, 25};
    for (int i = 5; i <= 25; i++) {
        expect(&line, i, 2.0 * (25 - i) / 20.0);
        expect(&cosine, i, 1.0 + cos(acos(-1.0) * (i - 5) / 20.0));
        expect(&flat, i, 2.0);
    }
    expect(&cosine, 15, 1.0);
}

static void ends(void **state)
{
    (void)state;
    for (int kind = BLIP2_CONSTANT; kind <= BLIP2_COSINE; kind++) {
        const b2_schedule one = {(blip2_schedule)kind, 1.0, 0, 1}, warm = {(blip2_schedule)kind, 1.0, 1, 1},
                          longer = {(blip2_schedule)kind, 1.0, 8, 4};
        expect(&one, 0, 1.0);  /* one step, no warm-up: the whole rate */
        expect(&warm, 0, 1.0); /* its only step ends the warm-up */
        for (int i = 0; i < 4; i++) expect(&longer, i, (i + 1) / 8.0); /* ends before the warm-up does */
    }
    const b2_schedule line = {BLIP2_LINEAR, 1.0, 0, 3}, cosine = {BLIP2_COSINE, 1.0, 2, 5};
    expect(&line, 3, 0.0);
    expect(&line, 30, 0.0); /* never below 0, and not up again */
    expect(&cosine, 5, 0.0);
    expect(&cosine, 50, 0.0);
}

/* Step i of a run takes rate i; reports are float's. */
static void trainer_follows(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "relu", "qa.csv", 1);
    for (int kind = BLIP2_CONSTANT; kind <= BLIP2_COSINE; kind++) {
        blip2_trainer_options o = shop_options();
        o.schedule = (blip2_schedule)kind;
        o.lr = 2e-3;
        o.warmup = 3;
        o.max_steps = 9;
        blip2_trainer *t = shop_trainer(&s, &o);
        for (int i = 0; i < 9; i++) {
            const double done = (i - 3) / 6.0,
                         fall = kind == BLIP2_LINEAR   ? 1 - done
                                : kind == BLIP2_COSINE ? (1 + cos(acos(-1.0) * done)) / 2
                                                       : 1,
                         want = 2e-3 * (i < 3 ? (i + 1) / 3.0 : fall), got = shop_step(t).lr;
            if (!(fabs(got - want) <= 1e-7 * 2e-3))
                fail_msg("schedule %d, step %d: %.9g, expected %.9g", kind, i, got, want);
        }
        blip2_trainer_close(t);
    }
    shop_close(&s);
}

/* warmup -1: a tenth of the run, 100 steps at most. The first rate tells how long it is. */
static void warm_up_of_itself(void **state)
{
    static const int64_t steps[] = {1, 9, 10, 19, 500, 999, 5000}, warmup[] = {0, 0, 1, 1, 50, 99, 100};
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "relu", "qa.csv", 1);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        blip2_trainer_options o;
        blip2_trainer_options_init(&o);
        o.max_steps = steps[i];
        o.lr = 1e-3;
        blip2_trainer *t = shop_trainer(&s, &o);
        const double got = shop_step(t).lr, want = 1e-3 / (double)(warmup[i] ? warmup[i] : 1);
        if (!(fabs(got - want) <= 1e-6 * want))
            fail_msg("%d steps: the first rate is %g, expected %g", (int)steps[i], got, want);
        blip2_trainer_close(t);
    }
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warm_up), cmocka_unit_test(falling),
                                       cmocka_unit_test(ends), cmocka_unit_test(trainer_follows),
                                       cmocka_unit_test(warm_up_of_itself)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
