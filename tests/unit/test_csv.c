/* CSV: quoting, line ends, repair rules, limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "io/csv.h"
#include "unit/unit.h"

static b2_csv parse(const char *text, b2_csv_repair repair)
{
    b2_csv t;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_csv_parse(&t, text, strlen(text), "t.csv", repair, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return t;
}

/* The rows, fields parted by | and rows by $, then the counters. */
static void expect(const char *text, b2_csv_repair repair, const char *want)
{
    b2_csv t = parse(text, repair);
    b2_str s = {0};
    for (size_t r = 0; r < t.rows; r++)
        for (size_t c = 0; c < t.cols; c++)
            b2_str_addf(&s, "%s%s", b2_csv_at(&t, r, (int)c), c + 1 == t.cols ? "$" : "|");
    b2_str_addf(&s, " %zu %zu %zu", t.repaired, t.skipped, t.short_rows);
    if (strcmp(s.p, want) != 0) fail_msg("%s\n gave   %s\n wanted %s", text, s.p, want);
    b2_str_free(&s);
    b2_csv_free(&t);
    assert_null(t.cell);
}

static void expect_bad(const char *text, size_t n, b2_csv_repair repair, blip2_status code, const char *word)
{
    b2_csv t;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = b2_csv_parse(&t, text, n, "t.csv", repair, &e);
    if (s != code || !strstr(e.text, word) || !strstr(e.text, "t.csv"))
        fail_msg("%.40s: status %d \"%s\" (wanted %d \"%s\")", text, s, e.text, code, word);
    assert_null(t.owned);
}

static void fields_are_unquoted(void **state)
{
    (void)state;
    expect("a,b\n1,2\n3,4\n", B2_CSV_STRICT, "1|2$3|4$ 0 0 0");
    expect("a,b\r\n1,2\r\n3,4", B2_CSV_STRICT, "1|2$3|4$ 0 0 0");
    expect("a,b\r1,2\r3,4\r", B2_CSV_STRICT, "1|2$3|4$ 0 0 0");
    expect("\xEF\xBB\xBF\"a\",b\n\"x,y\",\"he said \"\"no\"\"\"\n", B2_CSV_STRICT,
           "x,y|he said \"no\"$ 0 0 0");
    expect("a,b\n\"two\nlines\r\nor three\",\"\"\n", B2_CSV_STRICT, "two\nlines\r\nor three|$ 0 0 0");
    expect("a,b\n5\" disk,x\"\"y\n", B2_CSV_STRICT,
           "5\" disk|x\"\"y$ 0 0 0");                               /* quotes in the middle are text */
    expect("a,b\n , x \n", B2_CSV_STRICT, " | x $ 0 0 0");          /* blanks are kept */
    expect("a,b\n\n \t\n1,2\n\r\n\n", B2_CSV_STRICT, "1|2$ 0 0 0"); /* empty lines are no rows */
    expect("a\n\"\"\n\nx\n", B2_CSV_STRICT, "$x$ 0 0 0");           /* a quoted nothing is one */
    expect("a,b\n1,", B2_CSV_STRICT, "1|$ 0 0 0");
    expect("a,b\n\xC3\xA9,\xF0\x9F\x99\x82\n", B2_CSV_STRICT, "\xC3\xA9|\xF0\x9F\x99\x82$ 0 0 0");
    expect("a,b\n", B2_CSV_STRICT, " 0 0 0");
    expect("a,b", B2_CSV_STRICT, " 0 0 0");
}

static void surplus_fields_follow_the_rule(void **state)
{
    (void)state;
    static const char text[] = "id,name\n1,ok\n2,Blue, large, new\n3,\"a,b\",c\n4\n5,x,\n";
    expect_bad(text, strlen(text), B2_CSV_STRICT, BLIP2_ERR_FORMAT, "line 3: 4 fields, the header has 2");
    expect(text, B2_CSV_JOIN_LAST, "1|ok$2|Blue, large, new$3|a,b,c$4|$5|x,$ 3 0 1");
    expect(text, B2_CSV_SKIP, "1|ok$4|$ 0 3 1");
}

static void lines_and_columns_are_known(void **state)
{
    (void)state;
    b2_csv t = parse("x,y,x2\n1,2,3\n\"a\nb\",,\n\n4\n", B2_CSV_STRICT);
    assert_int_equal(t.rows, 3);
    assert_int_equal(t.line[0], 2);
    assert_int_equal(t.line[1], 3);
    assert_int_equal(t.line[2], 6);
    assert_int_equal(b2_csv_column(&t, "y"), 1);
    assert_int_equal(b2_csv_column(&t, "Y"), -1);
    assert_int_equal(b2_csv_column(&t, "x2"), 2);
    assert_string_equal(b2_csv_at(&t, 2, 2), "");
    assert_string_equal(b2_csv_at(&t, 3, 0), ""); /* outside */
    assert_string_equal(b2_csv_at(&t, 0, -1), "");
    assert_string_equal(b2_csv_at(&t, 0, 3), "");
    b2_csv_free(&t);
}

static void damaged_text_is_named_by_line(void **state)
{
    (void)state;
    expect_bad("", 0, B2_CSV_JOIN_LAST, BLIP2_ERR_FORMAT, "empty");
    expect_bad("\n\n", 2, B2_CSV_JOIN_LAST, BLIP2_ERR_FORMAT, "empty");
    expect_bad("a,b\n1,2\n3,\"x\n\n", 14, B2_CSV_JOIN_LAST, BLIP2_ERR_FORMAT, "line 3");
    expect_bad("a,b\n1,2\n3,\"x\"y\n", 15, B2_CSV_STRICT, BLIP2_ERR_FORMAT, "line 3");
    expect("a,b\n3,\"x\"y\"z\n", B2_CSV_SKIP, "3|xy\"z$ 0 0 0");
    expect_bad("a,b\n1,2\n\0,4\n", 12, B2_CSV_SKIP, BLIP2_ERR_FORMAT, "line 3: a NUL");
    expect_bad("a,b\n1,\xFF\n", 8, B2_CSV_SKIP, BLIP2_ERR_FORMAT, "line 2: not valid UTF-8");
    expect_bad("a,b,a\n", 6, B2_CSV_SKIP, BLIP2_ERR_FORMAT, "\"a\" stands twice");
    expect(",x,\n1,2,3\n", B2_CSV_STRICT, "1|2|3$ 0 0 0"); /* columns without a name may repeat */
}

static void tables_are_bounded(void **state)
{
    (void)state;
    b2_str s = {0};
    for (int i = 0; i < 4096; i++) b2_str_add(&s, ",");
    expect_bad(s.p, s.n, B2_CSV_SKIP, BLIP2_ERR_LIMIT, "4097 columns");
    b2_str_clear(&s);
    for (int i = 0; i < 4095; i++) b2_str_add(&s, ",");
    for (int i = 0; i < 20000; i++) b2_str_add(&s, "\n1"); /* 40 kB that would make 82 million cells */
    expect_bad(s.p, s.n, B2_CSV_SKIP, BLIP2_ERR_LIMIT, "cells");
    b2_str_clear(&s);
    b2_str_add(&s, "a\n");
    for (int i = 0; i < 1 << 20; i++) b2_str_add(&s, ",");
    expect_bad(s.p, s.n, B2_CSV_JOIN_LAST, BLIP2_ERR_LIMIT, "line 2: more than 1048576 fields");
    b2_str_free(&s);
}

static void quoting_is_minimal_and_comes_back(void **state)
{
    const char *path = unit_path(*state, "q.csv");
    static const char *const fields[] = {"plain", "",           " x ",  "a,b",      "say \"x\"",
                                         "\"",    "two\nlines", "cr\r", "\xC3\xA9", "'q'"};
    static const char *const quoted[] = {
        "plain",          "",         " x ",      "\"a,b\"", "\"say \"\"x\"\"\"", "\"\"\"\"",
        "\"two\nlines\"", "\"cr\r\"", "\xC3\xA9", "'q'"};
    b2_str s = {0}, one = {0};
    b2_str_add(&s, "k,v\r\n");
    for (int i = 0; i < 10; i++) {
        b2_str_clear(&one);
        b2_csv_quote(&one, fields[i]);
        assert_string_equal(one.p ? one.p : "", quoted[i]);
        b2_str_addf(&s, "%d,%s\r\n", i, one.p);
    }
    assert_int_equal(b2_write_file(path, s.p, s.n, NULL), BLIP2_OK);
    b2_csv t;
    assert_int_equal(b2_csv_load(&t, path, B2_CSV_STRICT, NULL), BLIP2_OK);
    assert_int_equal(t.rows, 10);
    for (int i = 0; i < 10; i++) assert_string_equal(b2_csv_at(&t, (size_t)i, 1), fields[i]);
    b2_csv_free(&t);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_csv_load(&t, unit_path(*state, "none.csv"), B2_CSV_STRICT, &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "none.csv"));
    b2_str_free(&s);
    b2_str_free(&one);
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
        cmocka_unit_test(fields_are_unquoted),         cmocka_unit_test(surplus_fields_follow_the_rule),
        cmocka_unit_test(lines_and_columns_are_known), cmocka_unit_test(damaged_text_is_named_by_line),
        cmocka_unit_test(tables_are_bounded),          cmocka_unit_test(quoting_is_minimal_and_comes_back),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
