/* JSON: what is taken, what is refused, what is found. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/str.h"
#include "unit/unit.h"

static b2_json *parse(const char *text)
{
    b2_json *v = NULL;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_json_parse(&v, text, strlen(text), 100000, "t.json", &e) != BLIP2_OK)
        fail_msg("%.60s: %s", text, e.text);
    return v;
}

static void expect_bad(const char *text, size_t n, blip2_status code, const char *word)
{
    b2_json *v = NULL;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = b2_json_parse(&v, text, n, 100000, "t.json", &e);
    b2_json_free(v);
    if (s != code || !strstr(e.text, "t.json") || !strstr(e.text, word))
        fail_msg("%.60s: status %d, \"%s\" (wanted %d, \"%s\")", text, s, e.text, code, word);
    assert_null(v);
}

static void values_are_found(void **state)
{
    (void)state;
    b2_json *v = parse(" {\"a\":1,\"A\":2,\"t\":true,\"f\":false,\"n\":null,\"s\":\"x\\u00e9\\ud83d\\ude42\\/"
                       "\",\"l\":[1,2,[]],"
                       "\"o\":{\"k\":-0.5e1},\"\":\"empty\"}\r\n\t ");
    assert_true(b2_json_is_object(v));
    assert_int_equal(b2_json_size(v), 9);
    assert_true(b2_json_number(b2_json_get(v, "a"), 0) == 1);
    assert_true(b2_json_number(b2_json_get(v, "A"), 0) == 2); /* the case matters */
    assert_null(b2_json_get(v, "T"));
    assert_true(b2_json_bool(b2_json_get(v, "t"), false));
    assert_false(b2_json_bool(b2_json_get(v, "f"), true));
    assert_true(b2_json_bool(b2_json_get(v, "a"), true)); /* no bool: the fallback */
    assert_true(b2_json_is_null(b2_json_get(v, "n")));
    assert_true(b2_json_is_null(b2_json_get(v, "absent")));
    assert_false(b2_json_is_null(b2_json_get(v, "a")));
    assert_string_equal(b2_json_string(b2_json_get(v, "s")), "x\xC3\xA9\xF0\x9F\x99\x82/");
    assert_null(b2_json_string(b2_json_get(v, "a")));
    assert_string_equal(b2_json_string(b2_json_get(v, "")), "empty");
    const b2_json *list = b2_json_get(v, "l"), *first = b2_json_first(list);
    assert_true(b2_json_is_array(list) && !b2_json_is_object(list));
    assert_int_equal(b2_json_size(list), 3);
    assert_null(b2_json_key(first));
    assert_true(b2_json_is_array(b2_json_next(b2_json_next(first))));
    assert_null(b2_json_next(b2_json_next(b2_json_next(first))));
    assert_null(b2_json_get(list, "a"));
    assert_true(b2_json_number(b2_json_get(b2_json_get(v, "o"), "k"), 0) == -5);
    assert_string_equal(b2_json_key(b2_json_first(v)), "a");
    b2_json_free(v);
    b2_json_free(NULL);
    assert_null(b2_json_get(NULL, "a"));
    assert_null(b2_json_first(NULL));
    assert_int_equal(b2_json_size(NULL), 0);
}

static void big_objects_are_searched(void **state)
{
    (void)state;
    enum { N = 3000 };
    b2_str s = {0};
    for (int i = 0; i < N; i++) b2_str_addf(&s, "%s\"key%d\":%d", i ? "," : "{", i * 7919 % N, i * 7919 % N);
    b2_str_add(&s, "}");
    b2_json *v = parse(s.p);
    char key[32];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_true(b2_json_number(b2_json_get(v, key), -1) == i);
    }
    assert_null(b2_json_get(v, "key"));
    assert_null(b2_json_get(v, "key3000"));
    assert_int_equal(b2_json_size(v), N);
    assert_string_equal(b2_json_key(b2_json_next(b2_json_first(v))), "key1919"); /* order of the text */
    b2_json_free(v);
    b2_str_free(&s);
}

static void integers_are_exact_or_refused(void **state)
{
    (void)state;
    b2_json *v = parse("[0,-0,7,1e3,9007199254740992,9007199254740993,1.5,1e300,-3,\"7\"]");
    static const int64_t want[] = {0, 0, 7, 1000, 9007199254740992, 9007199254740992};
    const b2_json *c = b2_json_first(v);
    int64_t i = 99;
    for (int k = 0; k < 6; k++, c = b2_json_next(c)) {
        assert_true(b2_json_int(c, 0, INT64_MAX, &i));
        assert_int_equal(i, want[k]);
    }
    for (; c; c = b2_json_next(c)) assert_false(b2_json_int(c, 0, INT64_MAX, &i));
    assert_false(b2_json_int(NULL, 0, 1, &i));
    assert_false(b2_json_int(b2_json_first(v), 1, 2, &i));
    assert_int_equal(i, 9007199254740992);
    b2_json_free(v);
}

/* Texts from RFC 8259's grammar that lenient parsers take. */
static const char *const malformed[] = {
    "",
    " ",
    "{",
    "}",
    "[",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{\"a\":1 \"b\":2}",
    "{1:2}",
    "[1] x",
    "1 2",
    "{}{}",
    "tru",
    "truex",
    "nul",
    "True",
    "NaN",
    "Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1.e3",
    "--1",
    "\"",
    "\"a",
    "'a'",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12G4\"",
    "\"\\",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800\\u0041\"",
    "\"\\ud800x\"",
    "\"a\nb\"",
    "\"\t\"",
    "\"\x01\"",
    "/**/1",
    "[1]//",
    "\xEF\xBB\xBF{}",
    "[\"a\",\n3,,]",
    "[}",
    "{]",
    "[1}",
    "{\"a\":1]",
};

static void malformed_texts_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        expect_bad(malformed[i], strlen(malformed[i]), BLIP2_ERR_FORMAT, "not valid JSON");
    expect_bad("[\"\xFF\"]", 5, BLIP2_ERR_FORMAT, "UTF-8");
    expect_bad("[\"\xC0\x80\"]", 6, BLIP2_ERR_FORMAT, "UTF-8");
    expect_bad("[1]\0", 4, BLIP2_ERR_FORMAT, "after the end");
    expect_bad("[\"a\0b\"]", 7, BLIP2_ERR_FORMAT, "control character");
    expect_bad("\"\\u0000\"", 8, BLIP2_ERR_FORMAT, "\\u0000");
    expect_bad("1e999", 5, BLIP2_ERR_FORMAT, "too large");
    expect_bad("[3,{\"a\":-1e999}]", 16, BLIP2_ERR_FORMAT, "too large");
    expect_bad("[1,\n2,\n x]", 10, BLIP2_ERR_FORMAT, "line 3");
}

static void the_end_is_the_given_end(void **state)
{
    (void)state;
    b2_json *v;
    assert_int_equal(b2_json_parse(&v, "[1]garbage", 3, 10, "t", NULL), BLIP2_OK); /* n counts, not the NUL */
    b2_json_free(v);
    char *exact = malloc(4); /* no NUL behind it: a read past the end shows under AddressSanitizer */
    memcpy(exact, "1234", 4);
    assert_int_equal(b2_json_parse(&v, exact, 4, 10, "t", NULL), BLIP2_OK);
    assert_true(b2_json_number(v, 0) == 1234);
    b2_json_free(v);
    free(exact);
}

static void doubled_keys_are_refused(void **state)
{
    (void)state;
    expect_bad("{\"a\":1,\"a\":2}", 13, BLIP2_ERR_FORMAT, "\"a\"");
    expect_bad("[{\"x\":{\"k\":1,\"j\":2,\"\\u006b\":3}}]", 32, BLIP2_ERR_FORMAT,
               "\"k\""); /* an escape, same key */
    b2_str s = {0};
    b2_str_add(&s, "{\"z\":0");
    for (int i = 0; i < 100; i++) b2_str_addf(&s, ",\"k%d\":{\"z\":1}", i);
    b2_str_add(&s, ",\"k50\":1}");
    expect_bad(s.p, s.n, BLIP2_ERR_FORMAT, "\"k50\"");
    b2_str_free(&s);
    b2_json_free(parse("{\"a\":{\"a\":[{\"a\":1},{\"a\":1}]}}"));
}

static void bombs_are_refused(void **state)
{
    (void)state;
    b2_str s = {0};
    for (int i = 0; i < 64; i++) b2_str_add(&s, "[");
    for (int i = 0; i < 64; i++) b2_str_add(&s, "]");
    b2_json_free(parse(s.p)); /* the deepest that is taken */
    b2_str_clear(&s);
    for (int i = 0; i < 100000; i++) b2_str_add(&s, "[");
    expect_bad(s.p, s.n, BLIP2_ERR_FORMAT, "64 brackets");
    b2_str_clear(&s);
    for (int i = 0; i < 65; i++) b2_str_add(&s, "{\"a\":");
    expect_bad(s.p, s.n, BLIP2_ERR_FORMAT, "64 brackets");
    b2_str_clear(&s);
    b2_str_add(&s, "[1");
    for (int i = 0; i < 100000; i++) b2_str_add(&s, ",1");
    b2_str_add(&s, "]");
    expect_bad(s.p, s.n, BLIP2_ERR_LIMIT, "100000");
    b2_str_clear(&s);
    for (int i = 0; i < 60; i++) b2_str_add(&s, "9");
    b2_json_free(parse(s.p));
    b2_str_add(&s, "9"); /* cJSON would stop in the middle of a long number */
    expect_bad(s.p, s.n, BLIP2_ERR_FORMAT, "60 characters");
    b2_str_free(&s);
}

static void files_are_loaded(void **state)
{
    const char *path = unit_path(*state, "x.json");
    b2_json *v;
    blip2_error e = BLIP2_ERROR_INIT;
    unit_write(path, "{\"a\":[]}", 8);
    assert_int_equal(b2_json_load(&v, path, 8, 10, &e), BLIP2_OK);
    assert_true(b2_json_is_array(b2_json_get(v, "a")));
    b2_json_free(v);
    assert_int_equal(b2_json_load(&v, path, 7, 10, &e), BLIP2_ERR_LIMIT);
    assert_null(v);
    assert_int_equal(b2_json_load(&v, path, 8, 1, &e), BLIP2_ERR_LIMIT);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(b2_json_load(&v, unit_path(*state, "none.json"), 8, 10, &e), BLIP2_ERR_IO);
    unit_write(path, "{", 1);
    assert_int_equal(b2_json_load(&v, path, 8, 10, &e), BLIP2_ERR_FORMAT);
    assert_non_null(strstr(e.text, path));
}

/* What add_json writes is read back as it was. */
static void written_strings_come_back(void **state)
{
    (void)state;
    char text[1024];
    size_t n = 0;
    for (int c = 1; c < 128; c++) text[n++] = (char)c;
    strcpy(text + n, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82");
    b2_str s = {0};
    b2_str_add_json(&s, text);
    b2_json *v = parse(s.p);
    assert_string_equal(b2_json_string(v), text);
    b2_json_free(v);
    b2_str_free(&s);
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
        cmocka_unit_test(values_are_found),
        cmocka_unit_test(big_objects_are_searched),
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(the_end_is_the_given_end),
        cmocka_unit_test(doubled_keys_are_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(written_strings_come_back),
        cmocka_unit_test(files_are_loaded),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
