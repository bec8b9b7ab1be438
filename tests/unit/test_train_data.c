/* Rows of training data: what is read, and what each fault is told as. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/train_common.h"

/* A data set from the text of a CSV, on the shop's photos. */
static blip2_status open_text(const train_shop *s, const char *text, size_t n, blip2_dataset **out,
                              blip2_error *e)
{
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    o.csv = unit_path(s->dir, "rows.csv");
    o.images = unit_path(s->dir, "images");
    unit_write(o.csv, text, n);
    return blip2_dataset_open(&o, out, e);
}

static blip2_dataset *read_text(const train_shop *s, const char *text)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset *d = NULL;
    if (open_text(s, text, strlen(text), &d, &e)) fail_msg("%s", e.text);
    return d;
}

/* Both words stand in the message, and the file's name. */
static void refused(const train_shop *s, const char *text, size_t n, const char *word, const char *word2)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset *d = NULL;
    const blip2_status st = open_text(s, text, n, &d, &e);
    if (st != BLIP2_ERR_DATA && st != BLIP2_ERR_FORMAT) fail_msg("status %d: %s", (int)st, e.text);
    assert_null(d);
    if (!strstr(e.text, word) || !strstr(e.text, word2) || !strstr(e.text, "rows.csv"))
        fail_msg("\"%s\" does not name rows.csv, %s and %s", e.text, word, word2);
}
#define REFUSED(text, word, word2) refused(&s, text, sizeof(text) - 1, word, word2)

static void faults_are_named(void **state)
{
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    REFUSED("", "", "");
    REFUSED("id,Question,Answer\n", "no rows", "");
    REFUSED("name,Question,Answer\np0,a?,b\n", "\"id\"", "\"image\"");
    REFUSED("id,Question\np0,a?\n", "Answer", "missing");
    REFUSED("id,Answer\np0,a\n", "Question", "missing");
    REFUSED("id\np0\n", "Caption", "Question");
    REFUSED("id,Question,Answer\np0,a?,b\np99,c?,d\n", "line 3", "p99");
    REFUSED("id,Question,Answer\n,a?,b\n", "line 2", "photo");
    REFUSED("id,Question,Answer\np0, ,b\n", "line 2", "question is empty");
    REFUSED("id,Question,Answer\np0,a?,\"\n\"\n", "line 2", "answer is empty");
    REFUSED("id,Caption\np0,\n", "line 2", "caption is empty");
    REFUSED("id,Question,Answer\n../qa,a?,b\n", "line 2", "../qa");
    REFUSED("image,Question,Answer\n/etc/passwd,a?,b\n", "line 2", "/etc/passwd");
    REFUSED("id,Question,Answer\np0,a?\n", "line 2", "answer is empty"); /* too few fields */
    REFUSED("id,Question,Answer\np0,a?,b,c\n", "line 2", "3");
    REFUSED("id,Question,Answer\np0,\"a?,b\n", "line 2", "quot");
    REFUSED("id,Question,Answer\np0,a\0?,b\n", "line 2", "");
    shop_close(&s);
}

static void photos_that_are_none(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    unit_write(unit_path(s.dir, "images/text.jpg"), "no photo at all", 15);
    unit_write(unit_path(s.dir, "images/empty.jpg"), "", 0);
    unit_write(unit_path(s.dir, "images/cut.jpg"), "\xFF\xD8\xFF\xE0\0\x10JFIF\0\1\1\0\0\1\0\1\0", 20);
    REFUSED("id,Question,Answer\np0,a?,b\ntext,a?,b\n", "line 3", "text.jpg");
    REFUSED("id,Question,Answer\nempty,a?,b\n", "line 2", "empty.jpg");
    /* One that looks like a JPEG is found out when it is decoded: the step fails and names the file. */
    blip2_dataset *own = s.data;
    s.data = read_text(&s, "id,Question,Answer\ncut,which colour?,Colour: red\n");
    blip2_trainer_options o = shop_options();
    blip2_trainer *t = shop_trainer(&s, &o);
    blip2_step_report r = {.size = sizeof r};
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(blip2_trainer_step(t, &r, &e), BLIP2_OK);
        if (!strstr(e.text, "cut.jpg")) fail_msg("\"%s\" does not name cut.jpg", e.text);
    }
    blip2_trainer_close(t);
    o.feature_cache = 1;
    t = NULL;
    assert_int_not_equal(blip2_trainer_open(s.model, s.data, &o, &t, &e), BLIP2_OK);
    assert_null(t);
    if (!strstr(e.text, "cut.jpg")) fail_msg("\"%s\" does not name cut.jpg", e.text);
    blip2_dataset_close(s.data);
    s.data = own;
    shop_close(&s);
}

static void what_is_read(void **state)
{
    train_shop s;
    blip2_row r;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    /* A byte order mark, CRLF, quotes, a line break inside a field, other columns, names in any case. */
    blip2_dataset *d = read_text(
        &s,
        "\xEF\xBB\xBFprice,ID,question,ANSWER\r\n1,p0,\"a, \"\"b\"\"?\",\"c\nd\"\r\n2,p1,e?,f\r\n3,p0,g?,h");
    assert_int_equal(blip2_dataset_rows(d), 3);
    assert_int_equal(blip2_dataset_images(d), 2);
    blip2_dataset_row(d, 0, &r);
    assert_string_equal(r.id, "p0");
    assert_string_equal(r.question, "a, \"b\"?");
    assert_string_equal(r.answer, "c\nd");
    assert_int_equal(r.line, 2);
    blip2_dataset_row(d, 1, &r);
    assert_int_equal(r.line, 4); /* lines of the file, not rows */
    blip2_dataset_row(d, 2, &r);
    assert_int_equal(r.image, 0);
    blip2_dataset_close(d);
    d = read_text(&s, "image,Caption\np2.jpg,a photo\n");
    blip2_dataset_row(d, 0, &r);
    assert_null(r.question);
    assert_string_equal(r.answer, "a photo");
    assert_non_null(strstr(r.image_path, "images/p2.jpg"));
    blip2_dataset_close(d);
    shop_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(faults_are_named),
                                       cmocka_unit_test(photos_that_are_none),
                                       cmocka_unit_test(what_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
