/* Learning rates against their formulas. */
#include <math.h>
#include "tests/unit/unit.h"
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
    const b2_schedule none = {BLIP2_COSINE, 1.0, 0, 1}, longer = {BLIP2_LINEAR, 1.0, 8, 4},
                      past = {BLIP2_LINEAR, 1.0, 0, 3};
    expect(&none, 0, 1.0);       /* one step, no warm-up: the whole rate */
    expect(&longer, 3, 4.0 / 8); /* the run ends before the warm-up does */
    expect(&past, 3, 0.0);
    expect(&past, 30, 0.0); /* never below 0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warm_up), cmocka_unit_test(falling),
                                       cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
