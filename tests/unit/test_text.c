/* The tokenizer against transformers' T5Tokenizer (data/text_cases.json), its files, hostile ones, and
 * prompts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "text/added.h"
#include "text/spm_proto.h"
#include "text/text.h"
#include "unit/unit.h"

#define DATA B2_SRCDIR "/tests/unit/data"

static void refused(const char *path, blip2_status code, const char *word)
{
    blip2_tokenizer *t = (blip2_tokenizer *)&t;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = blip2_tokenizer_open(path, &t, &e);
    if (s != code || !strstr(e.text, word))
        fail_msg("status %d, \"%s\" (wanted %d, \"%s\")", s, e.text, code, word);
    assert_null(t);
}

#if B2_WITH_TEXT
static blip2_tokenizer *open_at(const char *path)
{
    blip2_tokenizer *t = NULL;
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_tokenizer_open(path, &t, &e) != BLIP2_OK) fail_msg("%s: %s", path, e.text);
    return t;
}

static int32_t ids_of(const blip2_tokenizer *t, const char *text, size_t n, int32_t *ids, size_t room)
{
    size_t count = 0, asked = 0;
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_tokenizer_encode(t, text, n, ids, room, &count, &e) != BLIP2_OK)
        fail_msg("%.60s: %s", text, e.text);
    assert_int_equal(blip2_tokenizer_encode(t, text, n, NULL, 0, &asked, NULL), BLIP2_OK);
    assert_int_equal(asked, count);
    return (int32_t)count;
}

/* The texts that the two files of one tokenizer take differently: transformers' fast tokenizer adds a second
 * </s> (this library does not), and does not double a written U+2581. Both files go through sentencepiece
 * here. */
static void check_case(const blip2_tokenizer *t, const b2_json *c)
{
    const char *text = b2_json_string(b2_json_get(c, "text"));
    const char *decoded = b2_json_string(b2_json_get(c, "decoded"));
    int32_t want[2048], ids[2048];
    size_t n = 0, size;
    for (const b2_json *v = b2_json_first(b2_json_get(c, "ids")); v; v = b2_json_next(v))
        want[n++] = (int32_t)b2_json_number(v, -1);
    if (text) {
        int32_t got = ids_of(t, text, strlen(text), ids, 2048);
        bool same = got == (int32_t)n && memcmp(ids, want, n * sizeof *ids) == 0;
        if (!same) fail_msg("\"%s\": %d ids, wanted %zu; first %d %d", text, got, n, ids[0], want[0]);
    }
    char out[8192];
    assert_int_equal(blip2_tokenizer_decode(t, want, n, out, sizeof out, &size, NULL), BLIP2_OK);
    if (strcmp(out, decoded) != 0)
        fail_msg("\"%s\" is decoded to \"%s\", wanted \"%s\"", text ? text : "", out, decoded);
    assert_int_equal(size, strlen(out));
}

static void cases_of(const char *key, const char *folder, int32_t size)
{
    b2_json *all;
    assert_int_equal(b2_json_load(&all, DATA "/text_cases.json", 1 << 20, 100000, NULL), BLIP2_OK);
    blip2_tokenizer *t = open_at(folder);
    size_t n = 0;
    for (const b2_json *c = b2_json_first(b2_json_get(all, key)); c; c = b2_json_next(c), n++)
        check_case(t, c);
    assert_true(n > 80);
    assert_int_equal(blip2_tokenizer_size(t), size);
    blip2_tokenizer_close(t);
    b2_json_free(all);
}

static void a_model_file_gives_transformers_ids(void **state)
{
    (void)state;
    cases_of("t5", DATA "/t5", 500);
    cases_of("t5", DATA "/t5/spiece.model", 500);
}

static void the_configuration_is_heeded(void **state)
{
    (void)state;
    cases_of("small", DATA "/small", 207);
}

static void tokenizer_json_gives_the_same_ids(void **state)
{
    (void)state;
    cases_of("small", DATA "/json", 207);
    cases_of("small", DATA "/json/tokenizer.json", 207);
}

static void bytes_of_any_kind_are_taken(void **state)
{
    (void)state;
    blip2_tokenizer *t = open_at(DATA "/t5");
    int32_t ids[64];
    assert_int_equal(ids_of(t, NULL, 0, ids, 64), 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids_of(t, "\xFF\xFE\x80", 3, ids, 64),
                     3); /* a blank's piece, one run of unknowns, </s> */
    assert_int_equal(ids[1], 2);
    int32_t nul = ids_of(t, "red\0shirt", 9, ids, 64), plain = ids_of(t, "red", 3, ids + 32, 32);
    assert_true(nul > plain); /* the text does not end there */
    int32_t cut = ids_of(t, "caf\xC3", 4, ids, 64);
    assert_int_equal(ids[cut - 2], 2);
    blip2_tokenizer_close(t);
}

static void long_texts_are_taken_up_to_the_limit(void **state)
{
    (void)state;
    const size_t n = 1 << 20;
    blip2_tokenizer *t = open_at(DATA "/t5");
    char *text = malloc(n + 1);
    size_t count, again;
    for (size_t i = 0; i < n; i++) text[i] = "red shirt "[i % 10];
    assert_int_equal(blip2_tokenizer_encode(t, text, n, NULL, 0, &count, NULL), BLIP2_OK);
    const int32_t each = ids_of(t, "red shirt", 9, (int32_t[16]){0}, 16) - 1;
    const int32_t last = ids_of(t, "red sh", 6, (int32_t[16]){0}, 16) - 1;
    assert_int_equal(count,
                     n / 10 * (size_t)each + (size_t)last + 1); /* as if it had not been cut into parts */
    int32_t *ids = malloc(count * sizeof *ids);
    assert_int_equal(blip2_tokenizer_encode(t, text, n, ids, count, &again, NULL), BLIP2_OK);
    assert_int_equal(ids[count - 1], 1);
    size_t size;
    char *back = malloc(n + 1);
    assert_int_equal(blip2_tokenizer_decode(t, ids, count, back, n + 1, &size, NULL), BLIP2_OK);
    assert_true(size == n && memcmp(back, text, size) == 0);
    for (size_t i = 0; i < n; i++) text[i] = '<'; /* begins a token, is none, is unknown */
    assert_int_equal(blip2_tokenizer_encode(t, text, n, NULL, 0, &count, NULL), BLIP2_OK);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(blip2_tokenizer_encode(t, text, n + 1, NULL, 0, &count, &e), BLIP2_ERR_LIMIT);
    assert_non_null(strstr(e.text, "1048577"));
    free(text);
    free(back);
    free(ids);
    blip2_tokenizer_close(t);
}

static void small_buffers_are_told(void **state)
{
    (void)state;
    blip2_tokenizer *t = open_at(DATA "/small");
    int32_t ids[64];
    char out[64];
    size_t count, size;
    int32_t n = ids_of(t, "red shirt", 9, ids, 64);
    assert_int_equal(blip2_tokenizer_encode(t, "red shirt", 9, ids, (size_t)n - 1, &count, NULL),
                     BLIP2_ERR_LIMIT);
    assert_int_equal(count, n);
    assert_int_equal(blip2_tokenizer_decode(t, ids, (size_t)n, NULL, 0, &size, NULL), BLIP2_OK);
    assert_int_equal(size, 9);
    assert_int_equal(blip2_tokenizer_decode(t, ids, (size_t)n, out, 9, &size, NULL), BLIP2_ERR_LIMIT);
    assert_int_equal(size, 9);
    assert_int_equal(blip2_tokenizer_decode(t, ids, (size_t)n, out, 10, &size, NULL), BLIP2_OK);
    assert_string_equal(out, "red shirt");
    const int32_t odd[] = {-1, INT32_MIN, INT32_MAX, 300, 207, 0, 1, 2};
    assert_int_equal(blip2_tokenizer_decode(t, odd, 8, out, sizeof out, &size, NULL), BLIP2_OK);
    assert_string_equal(out, "");
    assert_int_equal(blip2_tokenizer_decode(t, NULL, 0, out, sizeof out, &size, NULL), BLIP2_OK);
    assert_int_equal(blip2_tokenizer_encode(t, NULL, 1, ids, 1, &count, NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(blip2_tokenizer_encode(NULL, "", 0, ids, 1, &count, NULL), BLIP2_ERR_ARGUMENT);
    blip2_tokenizer_close(t);
    blip2_tokenizer_close(NULL);
    assert_int_equal(blip2_tokenizer_size(NULL), 0);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static char *read_data(const char *name, size_t *n)
{
    char *p;
    assert_int_equal(b2_read_file(unit_path(DATA, name), 1 << 20, &p, n, NULL), BLIP2_OK);
    return p;
}

static void damaged_models_are_refused(void **state)
{
    (void)state;
    char *dir = unit_folder();
    size_t n;
    char *model = read_data("small/spiece.model", &n);
    const char *path = unit_path(dir, "spiece.model");
    refused(dir, BLIP2_ERR_IO, "neither spiece.model nor tokenizer.json");
    refused(path, BLIP2_ERR_IO, "spiece.model");
    unit_write(path, "", 0);
    refused(dir, BLIP2_ERR_FORMAT, "empty");
    int taken = 0;
    for (size_t cut = 1; cut < n; cut += 97) { /* some cuts fall between two pieces and leave a model */
        unit_write(path, model, cut);
        blip2_tokenizer *t;
        taken += blip2_tokenizer_open(path, &t, NULL) == BLIP2_OK;
        blip2_tokenizer_close(t);
    }
    assert_true(taken < 5);
    unit_write(path, "this is no model, it is a text", 30);
    refused(path, BLIP2_ERR_FORMAT, "not a sentencepiece model");
    free(model);
    unit_remove(dir);
}

/* A model of </s>, <unk> and one piece, with what `more` adds to its specs. */
static void tiny(b2_str *s, const void *piece, size_t n, float score, int type, const b2_str *trainer,
                 const b2_str *normalizer)
{
    const struct {
        const char *text;
        int type;
    } fixed[] = {{"<pad>", B2_SPM_CONTROL}, {"</s>", B2_SPM_CONTROL}, {"<unk>", B2_SPM_UNKNOWN}};
    b2_str p = {0};
    *s = (b2_str){0};
    for (int i = 0; i < 4; i++) {
        b2_str_clear(&p);
        b2_pb_bytes(&p, 1, i < 3 ? fixed[i].text : piece, i < 3 ? strlen(fixed[i].text) : n);
        b2_pb_float(&p, 2, i < 3 ? 0 : score);
        b2_pb_int(&p, 3, i < 3 ? fixed[i].type : type);
        b2_pb_bytes(s, 1, p.p, p.n);
    }
    if (trainer) b2_pb_bytes(s, 2, trainer->p, trainer->n);
    if (normalizer) b2_pb_bytes(s, 3, normalizer->p, normalizer->n);
    b2_str_free(&p);
}

static void expect_model(int which, const b2_str *model, blip2_status code, const char *word)
{
    b2_spm *s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status got = b2_spm_open(&s, model->p, model->n, &e);
    if (got != code || (word && !strstr(e.text, word)))
        fail_msg("case %d: status %d, \"%s\" (wanted %d, %s)", which, got, e.text, code, word);
    b2_spm_close(s);
}

static void hostile_pieces_are_refused(void **state)
{
    (void)state;
    static char endless[200000];
    memset(endless, 'a', sizeof endless);
    const struct {
        const void *piece;
        size_t n;
        float score;
        int type;
        blip2_status code;
        const char *word;
    } cases[] = {
        {"red", 3, -1, B2_SPM_NORMAL, BLIP2_OK, NULL},
        {endless, 256, -1, B2_SPM_NORMAL, BLIP2_OK, NULL},
        {endless, 257, -1, B2_SPM_NORMAL, BLIP2_ERR_LIMIT, "a piece of 257 bytes"},
        {endless, sizeof endless, -1, B2_SPM_NORMAL, BLIP2_ERR_LIMIT, "a piece of 200000 bytes"},
        {"r\0d", 3, -1, B2_SPM_NORMAL, BLIP2_ERR_FORMAT, "not UTF-8"},
        {"r\xFF"
         "d",
         3, -1, B2_SPM_NORMAL, BLIP2_ERR_FORMAT, "not UTF-8"},
        {"red", 3, (float)(1e30 * 1e30), B2_SPM_NORMAL, BLIP2_ERR_FORMAT, "score inf"},
        {"red", 3, -1, 7, BLIP2_ERR_FORMAT, "unknown type 7"},
        {"red", 3, -1, B2_SPM_UNKNOWN, BLIP2_ERR_FORMAT, "sentencepiece"}, /* a second one */
        {"", 0, -1, B2_SPM_NORMAL, BLIP2_ERR_FORMAT, "sentencepiece"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        b2_str model;
        tiny(&model, cases[i].piece, cases[i].n, cases[i].score, cases[i].type, NULL, NULL);
        expect_model((int)i, &model, cases[i].code, cases[i].word);
        b2_str_free(&model);
    }
    b2_str bpe = {0}, model;
    b2_pb_int(&bpe, 3, 2);
    tiny(&model, "red", 3, -1, B2_SPM_NORMAL, &bpe, NULL);
    expect_model(-1, &model, BLIP2_ERR_UNSUPPORTED, "unigram");
    b2_str_free(&bpe);
    b2_str_free(&model);
}

/* An array of 256 units of `unit`, then one replacement string. */
static void expect_charsmap(int which, uint32_t first, uint32_t others, uint32_t said, const char *strings,
                            size_t n, blip2_status code)
{
    uint32_t units[257] = {said, first};
    for (int i = 2; i < 257; i++) units[i] = others;
    b2_str map = {0}, spec = {0}, model;
    b2_str_addn(&map, (const char *)units, sizeof units);
    b2_str_addn(&map, strings, n);
    b2_pb_bytes(&spec, 2, map.p, map.n);
    tiny(&model, "red", 3, -1, B2_SPM_NORMAL, NULL, &spec);
    expect_model(which, &model, code, code ? "charsmap" : NULL);
    b2_str_free(&map);
    b2_str_free(&spec);
    b2_str_free(&model);
}

static void hostile_character_maps_are_refused(void **state)
{
    (void)state;
    const uint32_t value = 0x80000000u;
    char endless[300] = "";
    memset(endless, 'a', 299);
    expect_charsmap(1, 0, value, 1024, "x\0y", 4, BLIP2_OK);
    expect_charsmap(2, 1u << 10, value, 1024, "x\0y", 4, BLIP2_OK);
    expect_charsmap(3, 256u << 10, value, 1024, "x\0y", 4, BLIP2_ERR_FORMAT); /* a step outside */
    expect_charsmap(4, 0x3FFFFFu << 10, value, 1024, "x\0y", 4, BLIP2_ERR_FORMAT);
    expect_charsmap(5, 0x200u | 1u << 10, value, 1024, "x\0y", 4,
                    BLIP2_ERR_FORMAT);                                   /* offset 256 the other way */
    expect_charsmap(6, 0x100, value, 1024, "x\0y", 4, BLIP2_ERR_FORMAT); /* unit 0 is its own value */
    expect_charsmap(7, 0x101u | 1u << 10, value | 3, 1024, "x\0y", 4, BLIP2_OK);
    expect_charsmap(8, 0x101u | 1u << 10, value | 4, 1024, "x\0y", 4,
                    BLIP2_ERR_FORMAT);                               /* a string outside */
    expect_charsmap(9, 0, value, 1024, "x\0y", 3, BLIP2_ERR_FORMAT); /* no end */
    expect_charsmap(10, 0, value, 1024, endless, 300, BLIP2_ERR_FORMAT);
    expect_charsmap(11, 0, value, 0, "x\0y", 4, BLIP2_ERR_FORMAT);
    expect_charsmap(12, 0, value, 1022, "x\0y", 4, BLIP2_ERR_FORMAT);
    expect_charsmap(13, 0, value, 1020, "x\0y", 4, BLIP2_ERR_FORMAT); /* not a whole block of 256 */
    expect_charsmap(14, 0, value, 1028, "x\0y", 4, BLIP2_ERR_FORMAT);
    expect_charsmap(15, 0, value, UINT32_MAX, "x\0y", 4, BLIP2_ERR_FORMAT);
}

static void write_text(const char *path, const char *text) { unit_write(path, text, strlen(text)); }

static void hostile_json_is_refused(void **state)
{
    (void)state;
    char *dir = unit_folder();
    const char *path = unit_path(dir, "tokenizer.json");
    const struct {
        const char *text;
        blip2_status code;
        const char *word;
    } cases[] = {
        {"{}", BLIP2_ERR_UNSUPPORTED, "Unigram"},
        {"[", BLIP2_ERR_FORMAT, "JSON"},
        {"{\"model\":{\"type\":\"BPE\"}}", BLIP2_ERR_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", BLIP2_ERR_FORMAT, "model.vocab"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]}}", BLIP2_ERR_FORMAT, "unk_id"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}}", BLIP2_ERR_FORMAT, "unk_id"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}}", BLIP2_ERR_FORMAT,
         "vocab entry 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[7]}}", BLIP2_ERR_FORMAT, "vocab entry 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0],[\"b\",0]]}}", BLIP2_ERR_FORMAT,
         "</s>"},
        {"{\"normalizer\":{\"type\":\"Lowercase\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[["
         "\"a\",0]]}}",
         BLIP2_ERR_UNSUPPORTED, "Lowercase"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"a?\"},\"model\":{\"type\":"
         "\"Unigram\"}}",
         BLIP2_ERR_FORMAT, "base64"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAAAAAAA==\"},"
         "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"</s>\",0]]}}",
         BLIP2_ERR_FORMAT, "charsmap"},
        {"{\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}],\"model\":{\"type\":\"Unigram\"}}",
         BLIP2_ERR_FORMAT, "added token"},
        {"{\"added_tokens\":[{\"id\":1e9,\"content\":\"x\"}],\"model\":{\"type\":\"Unigram\"}}",
         BLIP2_ERR_FORMAT, "added token"},
        {"{\"added_tokens\":[{\"id\":1}],\"model\":{\"type\":\"Unigram\"}}", BLIP2_ERR_FORMAT, "added token"},
        {"{\"added_tokens\":[{\"id\":1,\"content\":\"\"}],\"model\":{\"type\":\"Unigram\"}}", BLIP2_ERR_LIMIT,
         "added token"},
        {"{\"added_tokens\":[{\"id\":0,\"content\":\"x\"}],\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
         "\"vocab\":[[\"a\",0]]}}",
         BLIP2_ERR_FORMAT, "id 0 is a in vocab and x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(path, cases[i].text);
        refused(i % 2 ? path : dir, cases[i].code, cases[i].word);
    }
    unit_remove(dir);
}

/* single_word, words that are no special tokens, and the longest of two. */
static void added_tokens_of_json(void **state)
{
    (void)state;
    char *dir = unit_folder();
    const char *path = unit_path(dir, "tokenizer.json");
    write_text(
        path,
        "{\"added_tokens\":[{\"id\":5,\"content\":\"ab\",\"single_word\":true},{\"id\":6,\"content\":\"#a\"},"
        "{\"id\":9,\"content\":\"#a#\",\"special\":true}],\"model\":{\"type\":\"Unigram\",\"unk_id\":2,"
        "\"vocab\":"
        "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"\xE2\x96\x81\",-1],[\"a\",-1.5]]}}");
    blip2_tokenizer *t = open_at(path);
    int32_t ids[32];
    char out[64];
    size_t size;
    assert_int_equal(blip2_tokenizer_size(t), 10);
    assert_int_equal(ids_of(t, "ab#a#a a ab aba", 15, ids, 32), 12);
    const int32_t want[] = {5, 9, 3, 4, 3, 4, 5, 3, 4, 2, 4, 1}; /* ab #a# _a _a ab _a?a </s> */
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(blip2_tokenizer_decode(t, want, 12, out, sizeof out, &size, NULL), BLIP2_OK);
    assert_string_equal(out, "ab a a ab aa");
    assert_int_equal(ids_of(t, "#ab", 3, ids, 32), 4); /* the longest there, then _b */
    assert_int_equal(ids[0], 6);
    blip2_tokenizer_close(t);
    unit_remove(dir);
}

static void copies_are_complete(void **state)
{
    (void)state;
    char *dir = unit_folder();
    assert_int_equal(b2_tokenizer_copy(DATA "/small", dir, NULL), BLIP2_OK);
    cases_of("small", dir, 207);
    assert_int_equal(access(unit_path(dir, "tokenizer.json"), F_OK), -1);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_tokenizer_copy(DATA "/small", unit_path(dir, "absent"), &e), BLIP2_ERR_IO);
    write_text(unit_path(dir, "tokenizer_config.json"), "{\"extra_ids\":-1}");
    refused(dir, BLIP2_ERR_FORMAT, "extra_ids");
    write_text(unit_path(dir, "tokenizer_config.json"),
               "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}");
    refused(dir, BLIP2_ERR_FORMAT, "added token");
    write_text(unit_path(dir, "tokenizer_config.json"),
               "{\"additional_special_tokens\":[\"<extra_id_0>\",\"<extra_id_1>\"]}");
    blip2_tokenizer *t = open_at(dir);
    assert_int_equal(blip2_tokenizer_size(t), 202);
    blip2_tokenizer_close(t);
    unit_remove(dir);
}
#else
static void nothing_opens(void **state)
{
    (void)state;
    refused(DATA "/small", BLIP2_ERR_UNSUPPORTED, "WITH_TEXT=0");
    refused(DATA "/json", BLIP2_ERR_UNSUPPORTED, "WITH_TEXT=0");
}
#endif

static void prompts(void **state)
{
    (void)state;
    b2_str s = {0};
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_prompt_format(&s, B2_DEFAULT_TEMPLATE, "what is {} %s?", NULL), BLIP2_OK);
    assert_string_equal(s.p, "Question: what is {} %s? Answer: ");
    b2_str_clear(&s);
    assert_int_equal(b2_prompt_format(&s, "{}", "", NULL), BLIP2_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(b2_prompt_check("Question", &e), BLIP2_ERR_ARGUMENT);
    assert_non_null(strstr(e.text, "Question"));
    assert_int_equal(b2_prompt_check("{} {}", NULL), BLIP2_ERR_ARGUMENT);
    assert_int_equal(b2_prompt_check("{}\xFF", NULL), BLIP2_ERR_ARGUMENT);
    b2_str_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if B2_WITH_TEXT
        cmocka_unit_test(a_model_file_gives_transformers_ids),
        cmocka_unit_test(the_configuration_is_heeded),
        cmocka_unit_test(tokenizer_json_gives_the_same_ids),
        cmocka_unit_test(bytes_of_any_kind_are_taken),
        cmocka_unit_test(long_texts_are_taken_up_to_the_limit),
        cmocka_unit_test(small_buffers_are_told),
        cmocka_unit_test(damaged_models_are_refused),
        cmocka_unit_test(hostile_pieces_are_refused),
        cmocka_unit_test(hostile_character_maps_are_refused),
        cmocka_unit_test(hostile_json_is_refused),
        cmocka_unit_test(added_tokens_of_json),
        cmocka_unit_test(copies_are_complete),
#else
        cmocka_unit_test(nothing_opens),
#endif
        cmocka_unit_test(prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
