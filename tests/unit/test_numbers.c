/* Random streams and 16-bit floats. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/half.h"
#include "base/rng.h"
#include "unit/unit.h"

/* ---- random numbers ---- */
static void streams_repeat_and_differ(void **state)
{
    (void)state;
    b2_rng a = {.key = 1}, b = {.key = 1}, c = {.key = 2};
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = b2_rng_next(&a);
        assert_true(x == b2_rng_next(&b));
        same += x == b2_rng_next(&c);
    }
    assert_int_equal(same, 0);
    assert_int_equal(a.counter, 1000);
    b2_rng jump = {.key = 1, .counter = 999}; /* the state is the counter alone */
    b.counter = 999;
    assert_true(b2_rng_next(&jump) == b2_rng_next(&b));
}

static void numbers_below_n_are_even(void **state)
{
    (void)state;
    b2_rng r = {.key = 9};
    int count[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint64_t v = b2_rng_below(&r, 6);
        assert_true(v < 6);
        count[v]++;
    }
    for (int i = 0; i < 6; i++) assert_in_range(count[i], 9600, 10400); /* 4.4 standard deviations */
    assert_int_equal(b2_rng_below(&r, 1), 0);
    int high = 0; /* modulo would give the lower third twice as often */
    const uint64_t n = (uint64_t)3 << 62;
    for (int i = 0; i < 3000; i++) high += b2_rng_below(&r, n) >= n / 2;
    assert_in_range(high, 1380, 1620);
}

static void uniforms_and_normals_have_their_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    b2_rng r = {.key = 4};
    double su = 0, s = 0, s2 = 0, s4 = 0;
    for (int i = 0; i < N; i++) {
        double u = b2_rng_uniform(&r);
        assert_true(u >= 0 && u < 1);
        su += u;
        double x = b2_rng_normal(&r);
        s += x, s2 += x * x, s4 += x * x * x * x;
    }
    assert_true(fabs(su / N - 0.5) < 0.005);
    assert_true(fabs(s / N) < 0.015);
    assert_true(fabs(s2 / N - 1) < 0.02);
    assert_true(fabs(s4 / N - 3) < 0.15);
}

static void dropout_keeps_its_share(void **state)
{
    (void)state;
    uint32_t limit = b2_drop_limit(0.1f);
    int kept = 0, both = 0;
    uint64_t k1 = b2_drop_key(1, 2, 3, 4), k2 = b2_drop_key(1, 2, 3, 5);
    for (uint32_t i = 0; i < 100000; i++) {
        int a = b2_drop_keep(k1, i, limit), b = b2_drop_keep(k2, i, limit);
        kept += a;
        both += a && b;
    }
    assert_in_range(kept, 89500, 90500);
    assert_in_range(both, 80400, 81600); /* independent sites */
    assert_int_equal(b2_drop_keep(k1, 5, b2_drop_limit(0.0f)), 1);
}

/* ---- halves ---- */
static void f16_round_trips(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = b2_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7C00) == 0x7C00 && (h & 0x3FF);
        assert_int_equal(isnan(f) != 0, nan);
        if (nan)
            assert_true(isnan(b2_f16_to_f32(b2_f32_to_f16(f))));
        else
            assert_int_equal(b2_f32_to_f16(f), h);
    }
    assert_true(b2_f16_to_f32(0x3C00) == 1.0f);
    assert_true(b2_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(b2_f16_to_f32(0x7BFF) == 65504.0f);
}

/* Between two neighbours: below the middle down, above it up, on it to the even one. */
static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7BFF; h++) {
        float lo = b2_f16_to_f32((uint16_t)h), hi = b2_f16_to_f32((uint16_t)(h + 1)), mid = (lo + hi) / 2;
        assert_int_equal(b2_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(b2_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(b2_f32_to_f16(-nextafterf(mid, 70000)), (h + 1) | 0x8000);
    }
    assert_int_equal(b2_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(b2_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(b2_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(b2_f32_to_f16(FLT_TRUE_MIN), 0);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7F80; h += 7) {
        uint32_t mid = h << 16 | 0x8000, below = mid - 1, above = mid + 1;
        float f[3];
        memcpy(&f[0], &below, 4), memcpy(&f[1], &mid, 4), memcpy(&f[2], &above, 4);
        assert_int_equal(b2_f32_to_bf16(f[0]), h);
        assert_int_equal(b2_f32_to_bf16(f[1]), h & 1 ? h + 1 : h);
        assert_int_equal(b2_f32_to_bf16(f[2]), h + 1);
    }
    uint32_t narrow = 0x7F800001; /* a NaN whose upper half alone is infinity */
    float f;
    memcpy(&f, &narrow, 4);
    assert_true(isnan(b2_bf16_to_f32(b2_f32_to_bf16(f))));
    assert_true(isinf(b2_bf16_to_f32(b2_f32_to_bf16(INFINITY))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_repeat_and_differ),
        cmocka_unit_test(numbers_below_n_are_even),
        cmocka_unit_test(uniforms_and_normals_have_their_moments),
        cmocka_unit_test(dropout_keeps_its_share),
        cmocka_unit_test(f16_round_trips),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
