/* lib/base without files, numbers, pool and json: errors, log, arenas, strings. */
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "unit/unit.h"

/* ---- errors and log ---- */
static void strerror_knows_every_code(void **state)
{
    (void)state;
#define X(name, value, text)                                                                                 \
    assert_int_equal(BLIP2_##name, value);                                                                   \
    assert_string_equal(blip2_strerror(BLIP2_##name), text);
    BLIP2_STATUS_LIST(X)
#undef X
    assert_string_equal(blip2_strerror((blip2_status)-999), "unknown status");
}

static void fail_stores_code_and_text(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_fail(&e, BLIP2_ERR_DATA, "row %d of %s", 7, "x.csv"), BLIP2_ERR_DATA);
    assert_int_equal(e.code, BLIP2_ERR_DATA);
    assert_string_equal(e.text, "row 7 of x.csv");
    assert_int_equal(b2_fail(NULL, BLIP2_ERR_DATA, "unseen"), BLIP2_ERR_DATA);
    b2_fail(&e, BLIP2_ERR_IO, "again: %s", e.text); /* its own text as an argument */
    assert_string_equal(e.text, "again: row 7 of x.csv");
}

static void fail_errno_appends_the_reason(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    errno = ENOENT;
    b2_fail_errno(&e, BLIP2_ERR_IO, "%s: cannot be opened", "a/b");
    assert_string_equal(e.text, "a/b: cannot be opened: No such file or directory");
    char longname[3000];
    memset(longname, 'n', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    errno = ENOENT;
    b2_fail_errno(&e, BLIP2_ERR_IO, "%s", longname);
    assert_true(b2_str_ends(e.text, ": No such file or directory")); /* the reason survives a long name */
}

static void fail_context_prefixes(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    b2_fail(&e, BLIP2_ERR_FORMAT, "bad byte");
    assert_int_equal(b2_fail_context(&e, BLIP2_ERR_FORMAT, "reading %s", "f"), BLIP2_ERR_FORMAT);
    assert_string_equal(e.text, "reading f: bad byte");
    assert_int_equal(b2_fail_context(NULL, BLIP2_ERR_FORMAT, "x"), BLIP2_ERR_FORMAT);
}

static void long_messages_end_between_characters(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    for (int lead = 0; lead < 3; lead++) {
        b2_str s = {0};
        b2_str_addn(&s, "xxx", (size_t)lead);
        for (int i = 0; i < 1000; i++) b2_str_add(&s, "\xE2\x82\xAC"); /* the euro sign */
        b2_fail(&e, BLIP2_ERR_IO, "%s", s.p);
        size_t n = strlen(e.text);
        assert_true(n > 1018 && n < sizeof e.text);
        assert_true(b2_utf8_valid(e.text, n));
        b2_str_free(&s);
    }
}

static void shorter_records_are_not_overrun(void **state)
{
    (void)state;
    blip2_error e = BLIP2_ERROR_INIT;
    e.size = offsetof(blip2_error, text) + 8;
    memset(e.text, '#', sizeof e.text);
    b2_fail(&e, BLIP2_ERR_IO, "0123456789");
    assert_string_equal(e.text, "0123456");
    assert_int_equal(e.text[8], '#');
}

static void keep_message(void *user, int level, const char *message)
{
    snprintf(user, 64, "%d %s", level, message);
}

static void log_respects_its_level(void **state)
{
    (void)state;
    char got[64] = "";
    b2_log log = {keep_message, got, B2_LOG_WARN};
    b2_logf(&log, B2_LOG_INFO, "quiet");
    assert_string_equal(got, "");
    b2_logf(&log, B2_LOG_WARN, "loud %d", 5);
    assert_string_equal(got, "1 loud 5");
    b2_logf(NULL, B2_LOG_ERROR, "nowhere");
    b2_logf(&(b2_log){0}, B2_LOG_ERROR, "nowhere");
}

/* ---- arenas ---- */
static size_t takes(b2_arena *a, uintptr_t *out)
{
    static const size_t sizes[] = {1, 64, 65, 0, 1000};
    for (int i = 0; i < 5; i++) out[i] = (uintptr_t)b2_arena_take(a, sizes[i]);
    size_t mark = b2_arena_mark(a);
    out[5] = (uintptr_t)b2_arena_take(a, 4096);
    b2_arena_release(a, mark);
    out[6] = (uintptr_t)b2_arena_take(a, 100);
    return mark;
}

static void a_dry_arena_tells_the_size(void **state)
{
    (void)state;
    b2_arena dry, a;
    uintptr_t d[7], r[7];
    b2_arena_dry(&dry);
    takes(&dry, d);
    b2_account acc = {0};
    assert_int_equal(b2_arena_init(&a, dry.peak, &acc, NULL), BLIP2_OK);
    takes(&a, r);
    assert_false(a.failed || dry.failed);
    assert_int_equal(a.peak, dry.peak);
    for (int i = 0; i < 7; i++) {
        assert_int_not_equal(d[i], 0);
        assert_int_equal(d[i] - d[0], r[i] - r[0]);
        assert_int_equal(r[i] % B2_ALIGN, 0);
        assert_int_equal(d[i] % B2_ALIGN, 0);
    }
    assert_int_equal(r[5], r[6]); /* released, then taken again */
    assert_int_equal(acc.bytes, dry.peak);
    b2_arena_free(&a);
    assert_int_equal(acc.bytes, 0);
    assert_int_equal(acc.peak, dry.peak);
}

static void a_full_arena_fails_and_says_so(void **state)
{
    (void)state;
    b2_arena a;
    assert_int_equal(b2_arena_init(&a, 128, NULL, NULL), BLIP2_OK);
    assert_non_null(b2_arena_take(&a, 128));
    assert_null(b2_arena_take(&a, 1));
    assert_true(a.failed);
    assert_null(b2_arena_take(&a, SIZE_MAX));
    b2_arena_free(&a);
    b2_arena dry;
    b2_arena_dry(&dry);
    assert_non_null(b2_arena_take(&dry, SIZE_MAX));
    assert_true(dry.failed);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_arena_init(&a, SIZE_MAX, NULL, &e), BLIP2_ERR_MEMORY);
    assert_non_null(strstr(e.text, "arena"));
    b2_arena_free(&a);
}

static void blocks_are_zeroed_and_counted(void **state)
{
    (void)state;
    b2_account acc = {0};
    static const size_t sizes[] = {0, 1, 100, 1 << 20, (3 << 20) + 5};
    for (int i = 0; i < 5; i++) {
        uint8_t *p = b2_account_alloc(&acc, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % B2_ALIGN, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            if (p[k]) fail_msg("byte %zu of %zu is %d", k, sizes[i], p[k]);
        memset(p, 1, sizes[i]);
        assert_int_equal(acc.bytes, sizes[i]);
        b2_account_free(&acc, p, sizes[i]);
        assert_int_equal(acc.bytes, 0);
    }
    assert_int_equal(acc.peak, sizes[4]);
    b2_account_free(&acc, NULL, 5);
    assert_int_equal(acc.bytes, 0);
}

static void *count_up_and_down(void *acc)
{
    for (int i = 0; i < 20000; i++) {
        b2_account_add(acc, 3);
        b2_account_sub(acc, 3);
    }
    b2_account_add(acc, 10);
    return NULL;
}

static void the_peak_is_right_under_threads(void **state)
{
    (void)state;
    b2_account acc = {0};
    pthread_t t[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, count_up_and_down, &acc), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_int_equal(acc.bytes, 40);
    assert_in_range(acc.peak, 40, 42 + 7);
}

/* ---- strings ---- */
static void strings_grow(void **state)
{
    (void)state;
    b2_str s = {0};
    for (int i = 0; i < 1000; i++) b2_str_addf(&s, "%d,", i % 10);
    assert_int_equal(s.n, 2000);
    assert_int_equal(strlen(s.p), 2000);
    b2_str_clear(&s);
    assert_string_equal(s.p, "");
    b2_str_addn(&s, "abc", 2);
    b2_str_add(&s, "z");
    assert_string_equal(s.p, "abz");
    b2_str_free(&s);
    assert_null(s.p);
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    b2_str s = {0};
    b2_str_add_json(&s, "a\"b\\c/\n\t\r\b\f\x01 \xC3\xA9 \xF0\x9F\x99\x82 \xFF\xC3");
    assert_string_equal(s.p,
                        "\"a\\\"b\\\\c/\\n\\t\\r\\b\\f\\u0001 \xC3\xA9 \xF0\x9F\x99\x82 \\ufffd\\ufffd\"");
    b2_str_clear(&s);
    b2_str_add_xml(&s, "a<b> & \"c\" 'd'");
    assert_string_equal(s.p, "a&lt;b&gt; &amp; &quot;c&quot; 'd'");
    b2_str_free(&s);
    b2_str_add_xml(&s, "");
    assert_string_equal(s.p, "");
    b2_str_free(&s);
}

static void integers_are_parsed_whole(void **state)
{
    (void)state;
    long long v = 5;
    assert_true(b2_parse_int("-12", -20, 20, &v));
    assert_int_equal(v, -12);
    assert_true(b2_parse_int("+7", -20, 20, &v));
    assert_true(b2_parse_int("9223372036854775807", 0, INT64_MAX, &v));
    assert_int_equal(v, INT64_MAX);
    static const char *const bad[] = {"",   " 1", "1 ", "1x", "0x10", "1.0", "-", "+", "9223372036854775808",
                                      "21", "-21"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (b2_parse_int(bad[i], -20, i == 8 ? INT64_MAX : 20, &v)) fail_msg("\"%s\" was taken", bad[i]);
    assert_false(b2_parse_int(NULL, 0, 1, &v));
    assert_int_equal(v, INT64_MAX); /* untouched by failures */
}

static void doubles_are_parsed_whole(void **state)
{
    (void)state;
    double v;
    assert_true(b2_parse_double("-1.5e3", &v));
    assert_true(v == -1500.0);
    assert_true(b2_parse_double(".5", &v));
    assert_true(v == 0.5);
    static const char *const bad[] = {"",    " 1",    "1 ", "1,5", "0x1p3", "inf",
                                      "nan", "1e999", "1e", "-",   "1.5.5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (b2_parse_double(bad[i], &v)) fail_msg("\"%s\" was taken", bad[i]);
}

/* Compiles de_DE into the test's folder; needs localedef and its sources. */
static const char *make_german(const char *folder)
{
    char command[2300];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", folder);
    if (system(command) > 256) return NULL; /* 1: made, with warnings */
    setenv("LOCPATH", folder, 1);
    return setlocale(LC_NUMERIC, "de_DE.UTF-8");
}

static void numbers_ignore_the_programs_locale(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "es_ES.UTF-8"};
    const char *found = NULL;
    for (size_t i = 0; !found && i < sizeof names / sizeof *names; i++)
        found = setlocale(LC_NUMERIC, names[i]);
    if (!found) found = make_german(*state);
    if (!found) skip(); /* no locale with a decimal comma, and no way to make one */
    char own[16];
    snprintf(own, sizeof own, "%.1f", 2.5);
    b2_str s = {0};
    b2_str_addf(&s, "%.1f", 2.5);
    double v = 0;
    bool ok = b2_parse_double("2.5", &v);
    char after[16];
    snprintf(after, sizeof after, "%.1f", 2.5);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(own, "2,5");
    assert_string_equal(s.p, "2.5");
    assert_true(ok && v == 2.5);
    assert_string_equal(after, "2,5"); /* the program's choice is back */
    b2_str_free(&s);
}

static void utf8_is_checked_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "abc",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xC2\x41",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xE2\x82",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "a\xE2\x28\xA1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!b2_utf8_valid(good[i], strlen(good[i]))) fail_msg("good %zu was refused", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (b2_utf8_valid(bad[i], strlen(bad[i]))) fail_msg("bad %zu was taken", i);
}

static void utf8_prefixes_end_between_characters(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82";
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t n = 0; n <= 10; n++) assert_int_equal(b2_utf8_complete(text, n), want[n]);
}

static void paths_are_joined(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (int i = 0; i < 4; i++) {
        char *p = b2_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
        free(p);
    }
    assert_true(b2_str_ends("x.json", ".json"));
    assert_false(b2_str_ends("json", ".json"));
}

static int make_folder(void **state)
{
    *state = unit_folder();
    return 0;
}

static int drop_folder(void **state)
{
    unit_remove(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strerror_knows_every_code),
        cmocka_unit_test(fail_stores_code_and_text),
        cmocka_unit_test(fail_errno_appends_the_reason),
        cmocka_unit_test(fail_context_prefixes),
        cmocka_unit_test(long_messages_end_between_characters),
        cmocka_unit_test(shorter_records_are_not_overrun),
        cmocka_unit_test(log_respects_its_level),
        cmocka_unit_test(a_dry_arena_tells_the_size),
        cmocka_unit_test(a_full_arena_fails_and_says_so),
        cmocka_unit_test(blocks_are_zeroed_and_counted),
        cmocka_unit_test(the_peak_is_right_under_threads),
        cmocka_unit_test(strings_grow),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(integers_are_parsed_whole),
        cmocka_unit_test(doubles_are_parsed_whole),
        cmocka_unit_test(numbers_ignore_the_programs_locale),
        cmocka_unit_test(utf8_is_checked_strictly),
        cmocka_unit_test(utf8_prefixes_end_between_characters),
        cmocka_unit_test(paths_are_joined),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
