/* safetensors: every rule of the format, shards, and the writer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "io/safetensors.h"
#include "unit/unit.h"

/* Writes a file: the header's length (or `length` when it is not 0), the header, then n bytes 0, 1, 2, ... */
static const char *make(const char *dir, const char *name, const char *header, uint64_t length, size_t n)
{
    b2_str s = {0};
    uint64_t h = length ? length : strlen(header);
    for (int i = 0; i < 8; i++) b2_str_addn(&s, (const char[]){(char)(h >> 8 * i)}, 1);
    b2_str_add(&s, header);
    for (size_t i = 0; i < n; i++) b2_str_addn(&s, (const char[]){(char)i}, 1);
    const char *path = unit_path(dir, name);
    unit_write(path, s.p, s.n);
    b2_str_free(&s);
    return path;
}

static b2_st_set *open_good(const char *path)
{
    b2_st_set *s = NULL;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_st_open_file(&s, path, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return s;
}

static void tensors_are_found(void **state)
{
    const char *path =
        make(*state, "good.safetensors",
             "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"v\"},"
             "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
             "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
             "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[8,8]},"
             "\"f8\":{\"dtype\":\"F8_E4M3FNUZ\",\"shape\":[1],\"data_offsets\":[20,21],\"extra\":1},"
             "\"f4\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[21,22]},"
             "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[22,23]}}   ",
             0, 23);
    b2_st_set *s = open_good(path);
    assert_int_equal(b2_st_count(s), 6);
    for (size_t i = 1; i < 6; i++) assert_true(strcmp(b2_st_at(s, i - 1)->name, b2_st_at(s, i)->name) < 0);
    assert_null(b2_st_at(s, 6));
    const b2_st_tensor *b = b2_st_find(s, "b");
    assert_int_equal(b->dtype, B2_ST_BF16);
    assert_string_equal(b->dtype_name, "BF16");
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(b->data[0], 8);
    assert_int_equal(b->data[11], 19);
    assert_string_equal(b->file, path);
    assert_int_equal(b2_st_find(s, "f8")->dtype, B2_ST_OTHER);
    assert_string_equal(b2_st_find(s, "f8")->dtype_name, "F8_E4M3FNUZ");
    assert_int_equal(b2_st_find(s, "f4")->bytes, 1);
    assert_int_equal(b2_st_find(s, "none")->bytes, 0);
    assert_int_equal(b2_st_find(s, "one")->rank, 0);
    assert_int_equal(b2_st_find(s, "one")->data[0], 22);
    assert_null(b2_st_find(s, "B"));
    assert_null(b2_st_find(s, "__metadata__"));
    assert_string_equal(b2_st_metadata(s, "k"), "v");
    assert_null(b2_st_metadata(s, "K"));
    assert_true(b2_st_mapped_bytes(s) > 23);
    b2_st_close(s);
    b2_st_close(NULL);
}

static void empty_files_are_legal(void **state)
{
    b2_st_set *s = open_good(make(*state, "e1", "{}", 0, 0));
    assert_int_equal(b2_st_count(s), 0);
    assert_null(b2_st_find(s, "a"));
    b2_st_close(s);
    s = open_good(make(*state, "e2", "{\"__metadata__\":{}}      ", 0, 0));
    assert_int_equal(b2_st_count(s), 0);
    b2_st_close(s);
}

#define T(name, dtype, shape, from, to)                                                                      \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"

static const struct {
    const char *header;
    uint64_t length;
    size_t data;
    const char *word; /* in the message */
} bad[] = {
    {"{}", 3, 0, "truncated"},
    {"{}", 100000001, 0, "100000000"},
    {"{}", UINT64_MAX, 0, "100000000"},
    {"{}", UINT64_MAX - 7, 0, "100000000"},
    {" {}", 0, 0, "begin with {"},
    {"[]", 0, 0, "begin with {"},
    {"{\"a\":}", 0, 0, "not valid JSON"},
    {"{\"\xFF\":1}", 0, 0, "UTF-8"},
    {"{}x", 0, 0, "not valid JSON"},
    {"{\"a\":1}", 0, 0, "object"},
    {"{\"a\":{}}", 0, 0, "dtype"},
    {"{\"a\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4, "dtype"},
    {"{" T("a", "F31", "1", "0", "4") "}", 0, 4, "F31"},
    {"{" T("a", "f32", "1", "0", "4") "}", 0, 4, "f32"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 0, 4, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 0, 4, "shape"},
    {"{" T("a", "F32", "-1", "0", "4") "}", 0, 4, "dimension"},
    {"{" T("a", "F32", "1.5", "0", "4") "}", 0, 4, "dimension"},
    {"{" T("a", "F32", "\"1\"", "0", "4") "}", 0, 4, "dimension"},
    {"{" T("a", "F32", "1e20", "0", "4") "}", 0, 4, "dimension"},
    {"{" T("a", "F32", "1,1,1,1,1,1,1,1,1", "0", "4") "}", 0, 4, "8 dimensions"},
    {"{" T("a", "F32", "4294967296,4294967296", "0", "0") "}", 0, 0, "overflow"},
    {"{" T("a", "F32", "1152921504606846976", "0", "0") "}", 0, 0, "dimension"},
    {"{" T("a", "F32", "9007199254740992,1024", "0", "0") "}", 0, 0, "overflow"},
    {"{" T("a", "F4", "3", "0", "2") "}", 0, 2, "whole bytes"},
    {"{" T("a", "F6_E2M3", "1", "0", "1") "}", 0, 1, "whole bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 0, 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 0, 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{\"x\":0,\"y\":4}}}", 0, 4, "data_offsets"},
    {"{" T("a", "F32", "1", "-4", "0") "}", 0, 4, "data_offsets"},
    {"{" T("a", "F32", "1", "0.5", "4.5") "}", 0, 8, "data_offsets"},
    {"{" T("a", "F32", "1", "4", "0") "}", 0, 4, "[4,0]"},
    {"{" T("a", "F32", "1", "0", "8") "}", 0, 8, "8 bytes"},
    {"{" T("a", "F32", "2", "0", "8") "}", 0, 7, "7 bytes of data"},
    {"{" T("a", "F32", "1", "0", "4") "}", 0, 5, "the tensors hold 4"},
    {"{}", 0, 1, "the tensors hold 0"},
    {"{" T("a", "F32", "1", "4", "8") "}", 0, 8, "gap"},
    {"{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "8", "12") "}", 0, 12, "gap"},
    {"{" T("a", "F32", "2", "0", "8") "," T("b", "F32", "1", "4", "8") "}", 0, 8, "overlap"},
    {"{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "0", "4") "}", 0, 4, "overlap"},
    {"{" T("a", "F32", "2", "0", "8") "," T("b", "F32", "0", "4", "4") "}", 0, 8, "\"b\""},
    {"{" T("a", "F32", "1", "0", "4") "," T("a", "F32", "1", "4", "8") "}", 0, 8, "twice"},
    {"{" T("a", "F32", "1", "0", "4") "," T("\\u0061", "F32", "1", "4", "8") "}", 0, 8, "twice"},
    {"{\"__metadata__\":[]}", 0, 0, "__metadata__"},
    {"{\"__metadata__\":{\"epoch\":3}}", 0, 0, "epoch"},
};

static void broken_rules_are_named(void **state)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = make(*state, "bad", bad[i].header, bad[i].length, bad[i].data);
        blip2_error e = BLIP2_ERROR_INIT;
        b2_st_set *s = (b2_st_set *)state;
        blip2_status status = b2_st_open_file(&s, path, &e);
        if (status != BLIP2_ERR_FORMAT || s || !strstr(e.text, path) || !strstr(e.text, bad[i].word))
            fail_msg("case %zu %s: status %d, \"%s\" (wanted \"%s\")", i, bad[i].header, status, e.text,
                     bad[i].word);
    }
}

static void tiny_files_are_refused(void **state)
{
    const char *path = unit_path(*state, "tiny");
    for (size_t n = 0; n < 10; n++) {
        unit_write(path, "\2\0\0\0\0\0\0\0{}", n);
        b2_st_set *s;
        assert_int_equal(b2_st_open_file(&s, path, NULL), BLIP2_ERR_FORMAT);
    }
    b2_st_set *s;
    assert_int_equal(b2_st_open_file(&s, unit_path(*state, "none"), NULL), BLIP2_ERR_IO);
}

/* ---- model folders ---- */
static const char *folder(const char *root, const char *name)
{
    const char *dir = unit_path(root, name);
    assert_int_equal(b2_make_dirs(dir, NULL), BLIP2_OK);
    return dir;
}

static void index_file(const char *dir, const char *text)
{
    unit_write(unit_path(dir, "model.safetensors.index.json"), text, strlen(text));
}

static void shards_make_one_set(void **state)
{
    const char *dir = folder(*state, "sharded");
    make(dir, "s1", "{" T("x", "F32", "1", "0", "4") "," T("spare", "F32", "1", "4", "8") "}", 0, 8);
    make(dir, "s2",
         "{\"__metadata__\":{\"k\":\"v\"}," T("y", "U8", "1", "0", "1") "," T("w", "U8", "1", "1", "2") "}",
         0, 2);
    index_file(dir,
               "{\"metadata\":{\"total_size\":6},\"weight_map\":{\"y\":\"s2\",\"x\":\"s1\",\"w\":\"s2\"}}");
    b2_st_set *s = NULL;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_st_open_model(&s, dir, &e), BLIP2_OK);
    assert_int_equal(b2_st_count(s), 3);
    assert_string_equal(b2_st_at(s, 0)->name, "w");
    assert_string_equal(b2_st_at(s, 2)->name, "y");
    assert_true(b2_str_ends(b2_st_find(s, "x")->file, "/s1"));
    assert_true(b2_str_ends(b2_st_find(s, "y")->file, "/s2"));
    assert_int_equal(b2_st_find(s, "w")->data[0], 1);
    assert_null(b2_st_find(s, "spare")); /* in a shard, not in the index */
    assert_null(b2_st_metadata(s, "k")); /* whose? */
    b2_st_close(s);
}

static void expect_index(const char *dir, const char *index, blip2_status want, const char *word,
                         const char *word2)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_set *s;
    index_file(dir, index);
    blip2_status status = b2_st_open_model(&s, dir, &e);
    if (status != want || s || !strstr(e.text, word) || !strstr(e.text, word2))
        fail_msg("%s: status %d, \"%s\" (wanted \"%s\" and \"%s\")", index, status, e.text, word, word2);
}

static void bad_indices_are_named(void **state)
{
    const char *dir = folder(*state, "badindex");
    make(dir, "s1", "{" T("x", "F32", "1", "0", "4") "}", 0, 4);
    make(dir, "broken", "{" T("x", "F32", "1", "0", "4") "}", 0, 3);
    expect_index(dir, "{\"weight_map\":{\"nope\":\"s1\"}}", BLIP2_ERR_FORMAT, "nope", "/s1");
    expect_index(dir, "{\"weight_map\":{\"x\":\"s9\"}}", BLIP2_ERR_IO, "/s9", "\"x\"");
    expect_index(dir, "{\"weight_map\":{\"x\":\"broken\"}}", BLIP2_ERR_FORMAT, "/broken", "3 bytes of data");
    expect_index(dir, "{\"weight_map\":{\"x\":\"s1\",\"x\":\"s1\"}}", BLIP2_ERR_FORMAT, "twice", "\"x\"");
    static const char *const outside[] = {"../s1", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b"};
    for (int i = 0; i < 7; i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"weight_map\":{\"x\":\"%s\"}}", outside[i]);
        expect_index(dir, text, BLIP2_ERR_FORMAT, "plain file name", "\"x\"");
    }
    expect_index(dir, "{\"weight_map\":{\"x\":5}}", BLIP2_ERR_FORMAT, "plain file name", "\"x\"");
    expect_index(dir, "{\"weight_map\":{}}", BLIP2_ERR_FORMAT, "weight_map", "index.json");
    expect_index(dir, "{\"weight_map\":[\"s1\"]}", BLIP2_ERR_FORMAT, "weight_map", "index.json");
    expect_index(dir, "[]", BLIP2_ERR_FORMAT, "weight_map", "index.json");
    expect_index(dir, "{", BLIP2_ERR_FORMAT, "JSON", "index.json");
}

static void links_are_followed(void **state)
{
    const char *blobs = folder(*state, "blobs"), *dir = folder(*state, "snapshot");
    make(blobs, "0a1b", "{" T("x", "F32", "1", "0", "4") "," T("alias", "F32", "1", "4", "8") "}", 0, 8);
    assert_int_equal(symlink("../blobs/0a1b", unit_path(dir, "model.safetensors")), 0);
    index_file(dir, "{\"weight_map\":{\"x\":\"absent\"}}"); /* the single file goes first */
    b2_st_set *s = NULL;
    assert_int_equal(b2_st_open_model(&s, dir, NULL), BLIP2_OK);
    assert_int_equal(b2_st_count(s), 2);
    b2_st_close(s);
}

static void pickles_are_refused_with_the_command(void **state)
{
    const char *dir = folder(*state, "pickle");
    b2_st_set *s;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_st_open_model(&s, dir, &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "model.safetensors.index.json"));
    unit_write(unit_path(dir, "pytorch_model-00001-of-00002.bin"), "x", 1);
    assert_int_equal(b2_st_open_model(&s, dir, &e), BLIP2_ERR_UNSUPPORTED);
    assert_null(s);
    assert_non_null(strstr(e.text, "python3 -c"));
    assert_non_null(strstr(e.text, "save_pretrained"));
    char argument[2100];
    snprintf(argument, sizeof argument, " '%s'", dir);
    assert_true(b2_str_ends(e.text, argument)); /* ready to be pasted */
    assert_int_equal(b2_st_open_model(&s, unit_path(*state, "no-folder"), &e), BLIP2_ERR_IO);
}

/* ---- the writer ---- */
static b2_st_writer *declared(const char *path)
{
    b2_st_writer *w = NULL;
    assert_int_equal(b2_st_writer_open(&w, path, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_declare(w, "half", B2_ST_BF16, 1, (int64_t[]){3}, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_declare(w, "z", B2_ST_F32, 2, (int64_t[]){1, 2}, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_declare(w, "a\"\xC3\xA9", B2_ST_F32, 0, NULL, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_declare(w, "wide", B2_ST_I64, 2, (int64_t[]){0, 7}, NULL), BLIP2_OK);
    return w;
}

static void written_files_are_read_back(void **state)
{
    const char *path = unit_path(*state, "w.safetensors");
    b2_st_writer *w = declared(path);
    assert_int_equal(b2_st_writer_metadata(w, "note", "a \"b\"\n", NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_metadata(w, "format", "pt", NULL), BLIP2_OK); /* is there already */
    assert_int_equal(b2_st_writer_begin(w, NULL), BLIP2_OK);
    static const size_t order[] = {3, 2, 1, 0}; /* I64; then F32 by name; then BF16 */
    for (size_t i = 0; i < 4; i++) assert_int_equal(b2_st_writer_order(w, i), order[i]);
    assert_int_equal(b2_st_writer_order(w, 4), SIZE_MAX);
    uint8_t data[18];
    for (int i = 0; i < 18; i++) data[i] = (uint8_t)(100 + i);
    assert_int_equal(b2_st_writer_data(w, data, 5, NULL), BLIP2_OK); /* pieces need not be tensors */
    assert_int_equal(b2_st_writer_data(w, data + 5, 13, NULL), BLIP2_OK);
    assert_false(b2_file_exists(path)); /* not before commit */
    assert_int_equal(b2_st_writer_commit(w, NULL), BLIP2_OK);
    b2_st_set *s = open_good(path);
    assert_int_equal(b2_st_count(s), 4);
    assert_string_equal(b2_st_metadata(s, "format"), "pt");
    assert_string_equal(b2_st_metadata(s, "note"), "a \"b\"\n");
    assert_int_equal(b2_st_find(s, "a\"\xC3\xA9")->data[0], 100);
    assert_int_equal(b2_st_find(s, "z")->data[0], 104);
    assert_int_equal(b2_st_find(s, "z")->shape[1], 2);
    assert_int_equal(b2_st_find(s, "half")->data[0], 112);
    assert_int_equal(b2_st_find(s, "half")->dtype, B2_ST_BF16);
    assert_int_equal(b2_st_find(s, "wide")->bytes, 0);
    assert_int_equal((uintptr_t)b2_st_find(s, "z")->data % 4, 0); /* aligned, by order and padding */
    assert_int_equal((b2_st_mapped_bytes(s) - 18) % 8, 0);
    b2_st_close(s);
}

static void incomplete_files_never_appear(void **state)
{
    const char *path = unit_path(*state, "partial");
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_writer *w = declared(path);
    assert_int_equal(b2_st_writer_data(w, "x", 1, &e), BLIP2_ERR_STATE); /* before begin */
    assert_int_equal(b2_st_writer_begin(w, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_begin(w, &e), BLIP2_ERR_STATE);
    assert_int_equal(b2_st_writer_declare(w, "late", B2_ST_F32, 0, NULL, &e), BLIP2_ERR_STATE);
    assert_int_equal(b2_st_writer_metadata(w, "late", "x", &e), BLIP2_ERR_STATE);
    assert_int_equal(b2_st_writer_data(w, "0123456789", 10, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_data(w, "0123456789", 10, &e), BLIP2_ERR_ARGUMENT); /* too much */
    assert_non_null(strstr(e.text, "18"));
    assert_int_equal(b2_st_writer_commit(w, &e), BLIP2_ERR_STATE); /* too little */
    assert_non_null(strstr(e.text, "10 of 18"));
    w = declared(path);
    assert_int_equal(b2_st_writer_commit(w, &e), BLIP2_ERR_STATE); /* never begun */
    w = declared(path);
    b2_st_writer_abort(w);
    b2_st_writer_abort(NULL);
    assert_false(b2_file_exists(path));
    assert_int_equal(b2_st_writer_open(&w, unit_path(*state, "no/folder"), &e), BLIP2_ERR_IO);
    assert_null(w);
}

static void bad_declarations_are_refused(void **state)
{
    blip2_error e = BLIP2_ERROR_INIT;
    b2_st_writer *w = declared(unit_path(*state, "decl"));
    assert_int_equal(b2_st_writer_declare(w, "o", B2_ST_OTHER, 0, NULL, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "__metadata__", B2_ST_F32, 0, NULL, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "\xFF", B2_ST_F32, 0, NULL, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "r", B2_ST_F32, 9, (int64_t[9]){0}, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "n", B2_ST_F32, 1, (int64_t[]){-1}, &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "h", B2_ST_F32, 2, (int64_t[]){INT64_MAX, 8}, &e),
                     BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_metadata(w, "k", "1", NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_metadata(w, "k", "2", &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_metadata(w, "format", "np", &e), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_st_writer_declare(w, "z", B2_ST_F32, 0, NULL, NULL), BLIP2_OK);
    assert_int_equal(b2_st_writer_begin(w, &e), BLIP2_ERR_ARGUMENT); /* z twice */
    assert_non_null(strstr(e.text, "\"z\""));
    b2_st_writer_abort(w);
    assert_false(b2_file_exists(unit_path(*state, "decl")));
}

static void many_tensors_round_trip(void **state)
{
    enum { N = 2500 };
    const char *path = unit_path(*state, "many");
    b2_st_writer *w = NULL;
    char name[40];
    assert_int_equal(b2_st_writer_open(&w, path, NULL), BLIP2_OK);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "layer.%d.weight", i * 7 % N);
        assert_int_equal(
            b2_st_writer_declare(w, name, i % 2 ? B2_ST_I32 : B2_ST_F32, 1, (int64_t[]){1}, NULL), BLIP2_OK);
    }
    assert_int_equal(b2_st_writer_begin(w, NULL), BLIP2_OK);
    for (size_t i = 0; i < N; i++) {
        int32_t v = (int32_t)(b2_st_writer_order(w, i) * 7 % N);
        assert_int_equal(b2_st_writer_data(w, &v, 4, NULL), BLIP2_OK);
    }
    assert_int_equal(b2_st_writer_commit(w, NULL), BLIP2_OK);
    b2_st_set *s = open_good(path);
    for (int32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "layer.%d.weight", i);
        assert_memory_equal(b2_st_find(s, name)->data, &i, 4);
    }
    b2_st_close(s);
}

static void dtypes_have_names_and_sizes(void **state)
{
    (void)state;
    static const char *const names[] = {"F32", "BF16", "F16", "I64", "I32", "I8", "U8", "OTHER"};
    static const size_t sizes[] = {4, 2, 2, 8, 4, 1, 1, 0};
    for (int i = 0; i < 8; i++) {
        assert_string_equal(b2_st_dtype_name((b2_st_dtype)i), names[i]);
        assert_int_equal(b2_st_dtype_size((b2_st_dtype)i), sizes[i]);
    }
    assert_int_equal(b2_st_dtype_size((b2_st_dtype)99), 0);
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
        cmocka_unit_test(tensors_are_found),
        cmocka_unit_test(empty_files_are_legal),
        cmocka_unit_test(broken_rules_are_named),
        cmocka_unit_test(tiny_files_are_refused),
        cmocka_unit_test(shards_make_one_set),
        cmocka_unit_test(bad_indices_are_named),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(pickles_are_refused_with_the_command),
        cmocka_unit_test(written_files_are_read_back),
        cmocka_unit_test(incomplete_files_never_appear),
        cmocka_unit_test(bad_declarations_are_refused),
        cmocka_unit_test(many_tensors_round_trip),
        cmocka_unit_test(dtypes_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
