/* Rows of training data: what is read, and what each fault is told as. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    REFUSED("", "empty", "header");
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
    REFUSED("id,Question,Answer\np0,a?,b,c\n", "line 2", "4 fields, the header has 3");
    REFUSED("id,Question,Answer\np0,\"a?,b\n", "line 2", "quot");
    REFUSED("id,Question,Answer\np0,a\0?,b\n", "line 2", "NUL byte");
    shop_close(&s);
}

static void names_row_3(const blip2_error *e)
{
    if (e->code != BLIP2_ERR_DATA || !strstr(e->text, "cut.jpg") || !strstr(e->text, "rows.csv: line 3"))
        fail_msg("%d, \"%s\": not data, cut.jpg and rows.csv: line 3", (int)e->code, e->text);
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
    assert_int_equal(mkdir(unit_path(s.dir, "images/folder.jpg"), 0777), 0);
    unit_write(unit_path(s.dir, "images/cut.jpg"), "\xFF\xD8\xFF\xE0\0\x10JFIF\0\1\1\0\0\1\0\1\0", 20);
    REFUSED("id,Question,Answer\np0,a?,b\ntext,a?,b\n", "line 3", "text.jpg");
    REFUSED("id,Question,Answer\nempty,a?,b\n", "line 2", "empty.jpg");
    REFUSED("id,Question,Answer\nfolder,a?,b\n", "line 2", "folder.jpg");
    REFUSED("image,Question,Answer\nnowhere/p0.jpg,a?,b\n", "line 2", "nowhere/p0.jpg");
    /* One that looks like a JPEG is found out when it is decoded: the step fails and names file and row. */
    blip2_dataset *own = s.data;
    s.data =
        read_text(&s, "id,Question,Answer\np0,which colour?,Colour: red\ncut,which colour?,Colour: red\n");
    blip2_trainer_options o = shop_options();
    blip2_trainer *t = shop_trainer(&s, &o);
    blip2_step_report r = {.size = sizeof r};
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(blip2_trainer_step(t, &r, &e), BLIP2_OK);
        names_row_3(&e);
    }
    blip2_trainer_close(t);
    o.feature_cache = 1;
    t = NULL;
    assert_int_not_equal(blip2_trainer_open(s.model, s.data, &o, &t, &e), BLIP2_OK);
    assert_null(t);
    names_row_3(&e);
    blip2_dataset_close(s.data);
    s.data = own;
    shop_close(&s);
}

static void files_that_are_not_there(void **state)
{
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    blip2_dataset *d = NULL;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    o.csv = unit_path(s.dir, "none.csv");
    o.images = unit_path(s.dir, "images");
    assert_int_equal(blip2_dataset_open(&o, &d, &e), BLIP2_ERR_IO);
    assert_null(d);
    assert_non_null(strstr(e.text, "none.csv"));
    o.csv = unit_path(s.dir, "qa.csv");
    o.images = unit_path(s.dir, "no photos");
    assert_int_equal(blip2_dataset_open(&o, &d, &e), BLIP2_ERR_DATA);
    assert_null(d);
    if (!strstr(e.text, "qa.csv: line 2") || !strstr(e.text, "no photos/p0.jpg"))
        fail_msg("\"%s\" does not name the row and its photo", e.text);
    shop_close(&s);
}

/* A trainer opened on TEXT fails as data, naming the row, its part and both counts. */
static void too_long(train_shop *s, const blip2_trainer_options *o, const char *text, const char *what)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t = NULL;
    int found = 0, most = 0;
    blip2_dataset *d = read_text(s, text);
    assert_int_equal(blip2_trainer_open(s->model, d, o, &t, &e), BLIP2_ERR_DATA);
    assert_null(t);
    const char *at = strstr(e.text, what);
    if (!strstr(e.text, "rows.csv: line 4: ") || !at ||
        sscanf(at + strlen(what), " has %d tokens, at most %d are allowed", &found, &most) != 2)
        fail_msg("\"%s\" does not say that in line 4 the %s is too long", e.text, what);
    assert_int_equal(most, 40);
    assert_true(found > 40);
    blip2_dataset_close(d);
}

static void texts_that_are_too_long(void **state)
{
#define LONG                                                                                                 \
    "blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue blue"
    train_shop s;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    blip2_trainer_options o = shop_options();
    o.max_prompt_tokens = 40;
    too_long(&s, &o, "id,Question,Answer\np0,\"a\nb?\",b\np1," LONG LONG LONG ",c\n", "prompt");
    o.max_prompt_tokens = 256;
    o.max_answer_tokens = 40;
    too_long(&s, &o, "id,Question,Answer\np0,\"a\nb?\",b\np1,c?," LONG LONG LONG "\n", "answer");
    too_long(&s, &o, "id,Caption\np0,\"a\nb\"\np1," LONG LONG LONG "\n", "caption");
    shop_close(&s);
}

/* With a limit, what stands behind it is not looked at. */
static void first_rows_only(void **state)
{
    static const char text[] = "id,Question,Answer\np0,a?,b\np1,c?,d\np99,e?,\n";
    train_shop s;
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    blip2_dataset *d = NULL;
    (void)state;
    TRAIN_SKIP_UNLESS_WHOLE();
    shop_open(&s, "old", "qa.csv", 1);
    o.csv = unit_path(s.dir, "rows.csv");
    o.images = unit_path(s.dir, "images");
    unit_write(o.csv, text, sizeof text - 1);
    for (o.limit = 1; o.limit <= 2; o.limit++) {
        if (blip2_dataset_open(&o, &d, &e)) fail_msg("%s", e.text);
        assert_int_equal(blip2_dataset_rows(d), o.limit);
        assert_int_equal(blip2_dataset_images(d), o.limit);
        blip2_dataset_close(d);
    }
    assert_int_equal(o.limit, 3);
    assert_int_equal(blip2_dataset_open(&o, &d, &e), BLIP2_ERR_DATA);
    assert_non_null(strstr(e.text, "line 4"));
    o.limit = -1;
    assert_int_equal(blip2_dataset_open(&o, &d, &e), BLIP2_ERR_ARGUMENT);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_named),         cmocka_unit_test(photos_that_are_none),
        cmocka_unit_test(files_that_are_not_there), cmocka_unit_test(texts_that_are_too_long),
        cmocka_unit_test(first_rows_only),          cmocka_unit_test(what_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
