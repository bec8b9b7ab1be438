/* lib/base without pool and json: errors, log, arenas, strings, files, hashes, random numbers, halves. */
#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/half.h"
#include "base/log.h"
#include "base/rng.h"
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

/* ---- files ---- */
static void files_are_mapped_and_read(void **state)
{
    const char *path = unit_path(*state, "f");
    unit_write(path, "hello\0world", 11);
    b2_map m;
    assert_int_equal(b2_map_open(&m, path, NULL), BLIP2_OK);
    assert_int_equal(m.size, 11);
    assert_memory_equal(m.p, "hello\0world", 11);
    b2_map_close(&m);
    assert_null(m.p);
    char *text;
    size_t n;
    assert_int_equal(b2_read_file(path, 11, &text, &n, NULL), BLIP2_OK);
    assert_int_equal(n, 11);
    assert_memory_equal(text, "hello\0world", 12); /* with its NUL */
    free(text);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_read_file(path, 10, &text, &n, &e), BLIP2_ERR_LIMIT);
    assert_null(text);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(b2_read_file("/proc/self/status", 1 << 20, &text, &n, NULL),
                     BLIP2_OK); /* stat says 0 bytes */
    assert_true(n > 10);
    free(text);
    assert_int_equal(b2_read_file("/dev/zero", 100000, &text, &n, NULL), BLIP2_ERR_LIMIT);
}

static void odd_files_are_refused(void **state)
{
    b2_map m;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_map_open(&m, unit_path(*state, "absent"), &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "absent"));
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(b2_map_open(&m, *state, &e), BLIP2_ERR_IO); /* a folder */
    const char *fifo = unit_path(*state, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(b2_map_open(&m, fifo, &e), BLIP2_ERR_IO); /* and does not wait for a writer */
    const char *empty = unit_path(*state, "empty");
    unit_write(empty, "", 0);
    assert_int_equal(b2_map_open(&m, empty, &e), BLIP2_OK);
    assert_null(m.p);
    assert_int_equal(m.size, 0);
    char *text;
    assert_int_equal(b2_read_file(*state, 100, &text, NULL, &e), BLIP2_ERR_IO);
    assert_int_equal(b2_read_file(empty, 100, &text, NULL, &e), BLIP2_OK);
    assert_string_equal(text, "");
    free(text);
}

static void folders_are_made(void **state)
{
    const char *deep = unit_path(*state, "a/b//c/");
    assert_int_equal(b2_make_dirs(deep, NULL), BLIP2_OK);
    assert_int_equal(b2_make_dirs(deep, NULL), BLIP2_OK);
    assert_true(b2_file_exists(unit_path(*state, "a/b/c")));
    unit_write(unit_path(*state, "a/file"), "x", 1);
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_make_dirs(unit_path(*state, "a/file/d"), &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "a/file"));
}

static void expect_content(const char *path, const char *want)
{
    char *text;
    assert_int_equal(b2_read_file(path, 1 << 20, &text, NULL, NULL), BLIP2_OK);
    assert_string_equal(text, want);
    free(text);
}

static void writers_replace_whole_files(void **state)
{
    const char *path = unit_path(*state, "out");
    b2_writer w;
    assert_int_equal(b2_write_file(path, "old", 3, NULL), BLIP2_OK);
    assert_int_equal(b2_writer_open(&w, path, NULL), BLIP2_OK);
    assert_int_equal(b2_writer_put(&w, "new", 3, NULL), BLIP2_OK);
    assert_int_equal(b2_writer_printf(&w, NULL, " %d", 42), BLIP2_OK);
    expect_content(path, "old");
    assert_int_equal(b2_writer_commit(&w, NULL), BLIP2_OK);
    expect_content(path, "new 42");
    assert_int_equal(w.crc_bytes, 6);
    assert_int_equal(w.crc, b2_crc32(0, "new 42", 6));
    b2_writer_abort(&w); /* committed: nothing to do */
    assert_int_equal(b2_writer_open(&w, path, NULL), BLIP2_OK);
    assert_int_equal(b2_writer_put(&w, "junk", 4, NULL), BLIP2_OK);
    char *tmp = b2_strdup(w.tmp);
    assert_true(b2_file_exists(tmp));
    b2_writer_abort(&w);
    b2_writer_abort(&w);
    assert_false(b2_file_exists(tmp));
    free(tmp);
    expect_content(path, "new 42");
    assert_int_equal(b2_copy_file(path, unit_path(*state, "copy"), NULL), BLIP2_OK);
    expect_content(unit_path(*state, "copy"), "new 42");
}

static void writers_report_failures(void **state)
{
    b2_writer w;
    blip2_error e = BLIP2_ERROR_INIT;
    assert_int_equal(b2_writer_open(&w, unit_path(*state, "no/such/folder"), &e), BLIP2_ERR_IO);
    assert_non_null(strstr(e.text, "no/such/folder"));
    b2_writer_abort(&w);
    const char *dir = unit_path(*state, "dir");
    assert_int_equal(b2_make_dirs(unit_path(*state, "dir/inner"), NULL), BLIP2_OK);
    assert_int_equal(b2_writer_open(&w, dir, NULL), BLIP2_OK);
    char *tmp = b2_strdup(w.tmp);
    assert_int_equal(b2_writer_commit(&w, &e), BLIP2_ERR_IO); /* a folder is in the way */
    assert_false(b2_file_exists(tmp));
    free(tmp);
    assert_int_equal(b2_writer_put(&w, "x", 1, &e), BLIP2_ERR_STATE);
    assert_int_equal(b2_writer_commit(&w, &e), BLIP2_ERR_STATE);
    assert_int_equal(b2_copy_file(*state, unit_path(*state, "copy2"), &e), BLIP2_ERR_IO);
    assert_false(b2_file_exists(unit_path(*state, "copy2")));
}

static void a_stale_link_is_not_followed(void **state)
{
    const char *path = unit_path(*state, "target"), *victim = unit_path(*state, "victim");
    unit_write(victim, "keep", 4);
    char tmp[2200];
    snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
    assert_int_equal(symlink(victim, tmp), 0);
    assert_int_equal(b2_write_file(path, "new", 3, NULL), BLIP2_OK);
    expect_content(victim, "keep");
    expect_content(path, "new");
}

/* ---- hashes ---- */
static uint32_t crc_bit_by_bit(const uint8_t *p, size_t n)
{
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (0xEDB88320u & (0u - (c & 1)));
    }
    return ~c;
}

static void crc32_is_zlibs(void **state)
{
    (void)state;
    assert_int_equal(b2_crc32(0, "123456789", 9), 0xCBF43926u);
    uint8_t b[600];
    b2_rng r = {.key = 3};
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)b2_rng_next(&r);
    for (size_t at = 0; at < 9; at++)
        for (size_t n = 0; n + at < sizeof b; n += 13) {
            uint32_t want = crc_bit_by_bit(b + at, n);
            assert_int_equal(b2_crc32(0, b + at, n), want);
            assert_int_equal(b2_crc32(b2_crc32(0, b + at, n / 3), b + at + n / 3, n - n / 3), want);
        }
}

/* XXH64's published values. */
static void hash64_is_xxh64(void **state)
{
    (void)state;
    static const char text[] =
        "Nobody inspects the spammish repetition"; /* 39 bytes: a block, then 4, 1, 1, 1 */
    assert_true(b2_hash64(0, "", 0) == 0xEF46DB3751D8E999u);
    assert_true(b2_hash64(0, "a", 1) == 0xD24EC4F1A98C6E5Bu);
    assert_true(b2_hash64(0, "abc", 3) == 0x44BC2CF5AD770999u);
    assert_true(b2_hash64(0, text, strlen(text)) == 0xFBCEA83C8A378BF1u);
    assert_true(b2_hash64(1, text, strlen(text)) != b2_hash64(0, text, strlen(text)));
    char shifted[64];
    memcpy(shifted + 1, text, sizeof text);
    assert_true(b2_hash64(0, shifted + 1, strlen(text)) == 0xFBCEA83C8A378BF1u);
}

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
    const struct CMUnitTest plain[] = {
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
        cmocka_unit_test(utf8_is_checked_strictly),
        cmocka_unit_test(utf8_prefixes_end_between_characters),
        cmocka_unit_test(paths_are_joined),
        cmocka_unit_test(crc32_is_zlibs),
        cmocka_unit_test(hash64_is_xxh64),
        cmocka_unit_test(streams_repeat_and_differ),
        cmocka_unit_test(numbers_below_n_are_even),
        cmocka_unit_test(uniforms_and_normals_have_their_moments),
        cmocka_unit_test(dropout_keeps_its_share),
        cmocka_unit_test(f16_round_trips),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    const struct CMUnitTest files[] = {
        cmocka_unit_test(files_are_mapped_and_read),
        cmocka_unit_test(odd_files_are_refused),
        cmocka_unit_test(folders_are_made),
        cmocka_unit_test(writers_replace_whole_files),
        cmocka_unit_test(writers_report_failures),
        cmocka_unit_test(a_stale_link_is_not_followed),
        cmocka_unit_test(numbers_ignore_the_programs_locale),
    };
    int bad = cmocka_run_group_tests(plain, NULL, NULL);
    bad += cmocka_run_group_tests(files, make_folder, drop_folder);
    return bad != 0;
}
