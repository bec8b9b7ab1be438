/* IDX files: plain and gzip'ed, cut off, damaged, oversized. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "base/file.h"
#include "io/idx.h"
#include "unit/unit.h"

enum { ITEMS = 5, HEIGHT = 30, WIDTH = 40, BYTES = ITEMS * HEIGHT * WIDTH, FILE_BYTES = 16 + BYTES };

/* An image file with noise that does not compress much. */
static uint8_t *images(void)
{
    static const uint8_t header[16] = {0, 0, 8, 3, 0, 0, 0, ITEMS, 0, 0, 0, HEIGHT, 0, 0, 0, WIDTH};
    uint8_t *p = malloc(FILE_BYTES + 1);
    memcpy(p, header, 16);
    for (unsigned i = 0; i <= BYTES; i++) p[16 + i] = (uint8_t)(i * 2654435761u >> 11);
    return p;
}

static void write_gz(const char *path, const void *p, unsigned n)
{
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, p, n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

static void expect_images(const char *path, const uint8_t *want)
{
    b2_idx x;
    blip2_error e = BLIP2_ERROR_INIT;
    if (b2_idx_load(&x, path, BYTES, &e) != BLIP2_OK) fail_msg("%s", e.text);
    assert_int_equal(x.dims, 3);
    assert_int_equal(x.size[0], ITEMS);
    assert_int_equal(x.size[1], HEIGHT);
    assert_int_equal(x.size[2], WIDTH);
    assert_int_equal(x.bytes, BYTES);
    assert_memory_equal(x.data, want + 16, BYTES);
    b2_idx_free(&x);
    assert_null(x.data);
}

static void expect_bad(const char *path, size_t limit, blip2_status code, const char *word)
{
    b2_idx x;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_status s = b2_idx_load(&x, path, limit, &e);
    if (s != code || !strstr(e.text, word) || !strstr(e.text, path))
        fail_msg("status %d \"%s\" (wanted %d \"%s\")", s, e.text, code, word);
    assert_null(x.data);
}

static void plain_and_packed_files_are_read(void **state)
{
    uint8_t *p = images();
    unit_write(unit_path(*state, "plain"), p, FILE_BYTES);
    expect_images(unit_path(*state, "plain"), p);
    write_gz(unit_path(*state, "packed.gz"), p, FILE_BYTES);
    expect_images(unit_path(*state, "packed.gz"), p);
    free(p);
}

static void labels_and_empty_sets_are_read(void **state)
{
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9},
                         none[] = {0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 5};
    b2_idx x;
    unit_write(unit_path(*state, "labels"), labels, sizeof labels);
    assert_int_equal(b2_idx_load(&x, unit_path(*state, "labels"), 3, NULL), BLIP2_OK);
    assert_int_equal(x.dims, 1);
    assert_memory_equal(x.data, labels + 8, 3);
    b2_idx_free(&x);
    unit_write(unit_path(*state, "none"), none, sizeof none);
    assert_int_equal(b2_idx_load(&x, unit_path(*state, "none"), 0, NULL), BLIP2_OK);
    assert_int_equal(x.bytes, 0);
    b2_idx_free(&x);
}

static void every_cut_is_noticed(void **state)
{
    uint8_t *p = images();
    const char *path = unit_path(*state, "cut");
    for (size_t n = 0; n < FILE_BYTES; n += n < 20 ? 1 : 977) {
        unit_write(path, p, n);
        expect_bad(path, BYTES, BLIP2_ERR_FORMAT, "ends within");
    }
    const char *gz = unit_path(*state, "whole.gz");
    write_gz(gz, p, FILE_BYTES);
    char *packed;
    size_t size;
    assert_int_equal(b2_read_file(gz, 1 << 20, &packed, &size, NULL), BLIP2_OK);
    for (size_t n = 11; n < size; n += n + 9 < size ? 257 : 1) { /* to the last byte of the trailer */
        unit_write(path, packed, n);
        expect_bad(path, BYTES, BLIP2_ERR_FORMAT, "");
    }
    free(packed);
    free(p);
}

static void damage_is_noticed(void **state)
{
    uint8_t *p = images();
    const char *gz = unit_path(*state, "damaged.gz");
    write_gz(gz, p, FILE_BYTES);
    char *packed;
    size_t size;
    assert_int_equal(b2_read_file(gz, 1 << 20, &packed, &size, NULL), BLIP2_OK);
    packed[size - 6] ^= 1; /* the CRC */
    unit_write(gz, packed, size);
    expect_bad(gz, BYTES, BLIP2_ERR_FORMAT, "gzip");
    packed[size - 6] ^= 1;
    packed[size / 2] ^= 0x55;
    unit_write(gz, packed, size);
    expect_bad(gz, BYTES, BLIP2_ERR_FORMAT, "");
    free(packed);
    free(p);
}

static void surplus_and_size_are_bounded(void **state)
{
    uint8_t *p = images();
    const char *path = unit_path(*state, "more");
    unit_write(path, p, FILE_BYTES + 1);
    expect_bad(path, BYTES, BLIP2_ERR_FORMAT, "more data");
    write_gz(path, p, FILE_BYTES + 1);
    expect_bad(path, BYTES, BLIP2_ERR_FORMAT, "more data");
    unit_write(path, p, FILE_BYTES);
    expect_bad(path, BYTES - 1, BLIP2_ERR_LIMIT, "6000");
    static const uint8_t huge[] = {0,   0,   8,   4,   255, 255, 255, 255, 255, 255, 255,
                                   255, 255, 255, 255, 255, 0,   0,   0,   1,   1};
    unit_write(path, huge, sizeof huge);
    expect_bad(path, SIZE_MAX, BLIP2_ERR_FORMAT, "overflow");
    static const uint8_t claim[] = {0,   0, 8,   2,   0,   255, 255,
                                    255, 0, 255, 255, 255, 1}; /* 256 TiB are not allocated */
    unit_write(path, claim, sizeof claim);
    expect_bad(path, SIZE_MAX, BLIP2_ERR_FORMAT, "ends within");
    free(p);
}

static void other_files_are_refused(void **state)
{
    static const uint8_t headers[][4] = {{1, 0, 8, 1},  {0, 1, 8, 1}, {0, 0, 9, 1},
                                         {0, 0, 13, 1}, {0, 0, 8, 0}, {0, 0, 8, 5}};
    const char *path = unit_path(*state, "other");
    for (int i = 0; i < 6; i++) {
        unit_write(path, headers[i], 4);
        expect_bad(path, 100, BLIP2_ERR_FORMAT, "expected 0000 08");
    }
    expect_bad(unit_path(*state, "absent"), 100, BLIP2_ERR_IO, "No such file");
    expect_bad(*state, 100, BLIP2_ERR_IO, "cannot be read");
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
        cmocka_unit_test(plain_and_packed_files_are_read),
        cmocka_unit_test(labels_and_empty_sets_are_read),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(surplus_and_size_are_bounded),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder) != 0;
}
