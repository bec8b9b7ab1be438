/* blip2/data.h through the front door alone: CSV, JSON, IDX, JPEG, hash. */
#include <stdlib.h>
#include <string.h>
#include "blip2.h"
#include "unit/unit.h"

static char *folder;

static const char *path_of(const char *name) { return unit_path(folder, name); }

static void csv_is_read_as_written(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"id", "Question", "Answer"}, {"1", "a, b?", "say \"x\""}, {"2", "", "two\nlines"}};
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_csv_writer *w = NULL;
    blip2_csv *c = NULL;
    blip2_csv_info info = {.size = sizeof info};
    assert_int_equal(blip2_csv_create(path_of("t.csv"), &w, &err), BLIP2_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(blip2_csv_write(w, rows[i], 3, &err), BLIP2_OK);
    assert_int_equal(blip2_csv_load(path_of("t.csv"), BLIP2_CSV_STRICT, &c, &err),
                     BLIP2_ERR_IO); /* not there before commit */
    assert_int_equal(blip2_csv_commit(w, &err), BLIP2_OK);
    assert_int_equal(blip2_csv_load(path_of("t.csv"), BLIP2_CSV_STRICT, &c, &err), BLIP2_OK);
    blip2_csv_get_info(c, &info);
    assert_int_equal(info.rows, 2);
    assert_int_equal(info.columns, 3);
    assert_int_equal(blip2_csv_column(c, "Answer"), 2);
    assert_int_equal(blip2_csv_column(c, "nothing"), -1);
    for (int r = 0; r < 2; r++)
        for (int k = 0; k < 3; k++) assert_string_equal(blip2_csv_at(c, (size_t)r, k), rows[r + 1][k]);
    assert_string_equal(blip2_csv_at(c, 9, 0), "");
    assert_string_equal(blip2_csv_at(c, 0, 3), "");
    assert_int_equal(blip2_csv_line(c, 1), 3);
    blip2_csv_close(c);
}

static void csv_repair_rules(void **state)
{
    (void)state;
    static const char text[] = "a,b\n1,2,3\n4,5\n6\n";
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_csv *c = NULL;
    blip2_csv_info info = {.size = sizeof info};
    unit_write(path_of("r.csv"), text, sizeof text - 1);
    assert_int_equal(blip2_csv_load(path_of("r.csv"), BLIP2_CSV_STRICT, &c, &err), BLIP2_ERR_FORMAT);
    assert_null(c);
    assert_int_equal(blip2_csv_load(path_of("r.csv"), BLIP2_CSV_JOIN_LAST, &c, &err), BLIP2_OK);
    assert_string_equal(blip2_csv_at(c, 0, 1), "2,3");
    blip2_csv_get_info(c, &info);
    assert_int_equal(info.repaired, 1);
    assert_int_equal(info.short_rows, 1);
    blip2_csv_close(c);
    assert_int_equal(blip2_csv_load(path_of("r.csv"), BLIP2_CSV_SKIP, &c, &err), BLIP2_OK);
    blip2_csv_get_info(c, &info);
    assert_int_equal(info.rows, 2);
    assert_int_equal(info.skipped, 1);
    blip2_csv_close(c);
}

static void csv_abort_leaves_nothing(void **state)
{
    (void)state;
    blip2_csv_writer *w = NULL;
    blip2_csv *c = NULL;
    assert_int_equal(blip2_csv_create(path_of("gone.csv"), &w, NULL), BLIP2_OK);
    blip2_csv_abort(w);
    blip2_csv_abort(NULL);
    assert_int_equal(blip2_csv_load(path_of("gone.csv"), BLIP2_CSV_STRICT, &c, NULL), BLIP2_ERR_IO);
}

static void json_values(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1.5, \"x\", true, null], \"b\": {\"c\": \"d\"}}";
    blip2_json *d = NULL;
    assert_int_equal(blip2_json_parse(text, sizeof text - 1, NULL, &d, NULL), BLIP2_OK);
    assert_int_equal(blip2_json_kind(d), BLIP2_JSON_OBJECT);
    const blip2_json *v = blip2_json_first(blip2_json_get(d, "a"));
    static const blip2_json_type kind[] = {BLIP2_JSON_NUMBER, BLIP2_JSON_STRING, BLIP2_JSON_BOOL,
                                           BLIP2_JSON_NULL};
    assert_true(blip2_json_number(v, 0) == 1.5);
    for (int i = 0; i < 4; i++, v = blip2_json_next(v)) assert_int_equal(blip2_json_kind(v), kind[i]);
    assert_null(v);
    assert_string_equal(blip2_json_string(blip2_json_get(blip2_json_get(d, "b"), "c")), "d");
    assert_string_equal(blip2_json_key(blip2_json_next(blip2_json_first(d))), "b");
    assert_null(blip2_json_get(d, "z"));
    assert_null(blip2_json_get(NULL, "z"));
    assert_null(blip2_json_string(d));
    assert_int_equal(blip2_json_kind(NULL), BLIP2_JSON_NULL);
    assert_true(blip2_json_number(NULL, 7) == 7);
    blip2_json_close(d);
    blip2_json_close(NULL);
}

static void json_refusals(void **state)
{
    (void)state;
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_json *d = NULL;
    assert_int_not_equal(blip2_json_parse("{\"a\": ", 6, "mine", &d, &err), BLIP2_OK);
    assert_null(d);
    assert_non_null(strstr(err.text, "mine"));
    assert_int_equal(blip2_json_load(path_of("nowhere.json"), &d, &err), BLIP2_ERR_IO);
    assert_non_null(strstr(err.text, "nowhere.json"));
}

static void json_quote_asks_and_writes(void **state)
{
    (void)state;
    char out[32];
    size_t n = 0;
    static const char want[] = "\"a\\\"b\\\\\\n\"";
    assert_int_equal(blip2_json_quote("a\"b\\\n", NULL, 0, &n, NULL), BLIP2_OK);
    assert_int_equal(n, strlen(want));
    assert_int_equal(blip2_json_quote("a\"b\\\n", out, n, &n, NULL), BLIP2_ERR_LIMIT);
    assert_int_equal(blip2_json_quote("a\"b\\\n", out, n + 1, &n, NULL), BLIP2_OK);
    assert_string_equal(out, want);
}

static void idx(void **state)
{
    (void)state;
    static const char good[] = "\0\0\x08\x02\0\0\0\x02\0\0\0\x03"
                               "abcdef";
    blip2_idx x;
    unit_write(path_of("x.idx"), good, 18);
    assert_int_equal(blip2_idx_load(path_of("x.idx"), 1000, &x, NULL), BLIP2_OK);
    assert_int_equal(x.dims, 2);
    assert_int_equal(x.shape[0], 2);
    assert_int_equal(x.shape[1], 3);
    assert_memory_equal(x.data, "abcdef", 6);
    blip2_idx_free(&x);
    assert_null(x.data);
    blip2_idx_free(NULL);
    unit_write(path_of("cut.idx"), good, 15);
    assert_int_not_equal(blip2_idx_load(path_of("cut.idx"), 1000, &x, NULL), BLIP2_OK);
    assert_null(x.data);
}

static void jpeg_there_and_back(void **state)
{
    (void)state;
    uint8_t pixels[16 * 16 * 3];
    blip2_image image = {16, 16, 16 * 3, pixels}, back = {0};
    unsigned char *jpeg = NULL;
    size_t n = 0;
    blip2_error err = BLIP2_ERROR_INIT;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(40 + i / 48 * 10);
    blip2_status s = blip2_image_encode_jpeg(&image, 95, &jpeg, &n, &err);
    if (s == BLIP2_ERR_UNSUPPORTED) skip(); /* WITH_IMAGE=0 */
    assert_int_equal(s, BLIP2_OK);
    assert_int_equal(blip2_image_decode(&back, jpeg, n, &err), BLIP2_OK);
    assert_int_equal(back.width, 16);
    assert_int_equal(back.height, 16);
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 48; x++)
            assert_true(abs(back.pixels[y * back.stride + x] - pixels[y * 48 + x]) <= 6);
    blip2_image_free(&back);
    free(jpeg);
    jpeg = NULL;
    assert_int_equal(blip2_image_encode_jpeg(&image, 101, &jpeg, &n, &err), BLIP2_ERR_ARGUMENT);
    assert_null(jpeg);
}

static void hash_tells_contents_apart(void **state)
{
    (void)state;
    assert_true(blip2_hash("abc", 3) == blip2_hash("abc", 3));
    assert_true(blip2_hash("abc", 3) != blip2_hash("abd", 3));
    assert_true(blip2_hash("abc", 3) != blip2_hash("abc", 4));
}

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unit_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_is_read_as_written),
        cmocka_unit_test(csv_repair_rules),
        cmocka_unit_test(csv_abort_leaves_nothing),
        cmocka_unit_test(json_values),
        cmocka_unit_test(json_refusals),
        cmocka_unit_test(json_quote_asks_and_writes),
        cmocka_unit_test(idx),
        cmocka_unit_test(jpeg_there_and_back),
        cmocka_unit_test(hash_tells_contents_apart),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
