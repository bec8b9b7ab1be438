/* Files, atomic writers, hashes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/rng.h"
#include "base/str.h"
#include "unit/unit.h"

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

/* Half-written files of processes that are gone are removed; those of the living, and other names, stay. */
static void leftovers(void **state)
{
    static const char *const gone[] = {"a.tmp.%d", "b.safetensors.tmp.%d"}, *const kept[] = {"a.tmp.%d",
                                                                                             "a.tmp.x%d",
                                                                                             "tmp.%d"};
    char *dir = unit_folder(), name[64];
    (void)state;
    const pid_t dead = fork();
    if (dead == 0) _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, gone[i], (int)dead);
        unit_write(unit_path(dir, name), "x", 1);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, kept[i], i ? (int)dead : (int)getpid());
        unit_write(unit_path(dir, name), "x", 1);
    }
    b2_sweep_leftovers(dir, "a");
    snprintf(name, sizeof name, gone[1], (int)dead);
    assert_true(b2_file_exists(unit_path(dir, name))); /* of another file */
    b2_sweep_leftovers(dir, NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, gone[i], (int)dead);
        assert_false(b2_file_exists(unit_path(dir, name)));
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, kept[i], i ? (int)dead : (int)getpid());
        assert_true(b2_file_exists(unit_path(dir, name)));
    }
    unit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leftovers),
        cmocka_unit_test(files_are_mapped_and_read),
        cmocka_unit_test(odd_files_are_refused),
        cmocka_unit_test(folders_are_made),
        cmocka_unit_test(writers_replace_whole_files),
        cmocka_unit_test(writers_report_failures),
        cmocka_unit_test(a_stale_link_is_not_followed),
        cmocka_unit_test(crc32_is_zlibs),
        cmocka_unit_test(hash64_is_xxh64),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
