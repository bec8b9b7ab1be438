/* See train_common.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "blip2/data.h"
#include "unit/train_common.h"
#include "tests/unit/unit.h"

/* START and its parents, until one holds PATH. */
static bool climb(char *out, size_t cap, const char *start, const char *path)
{
    char at[2048];
    snprintf(at, sizeof at, "%s", start);
    for (;;) {
        snprintf(out, cap, "%s/%s", at, path);
        if (access(out, F_OK) == 0) return true;
        char *slash = strrchr(at, '/');
        if (!slash) return false;
        *slash = 0;
    }
}

const char *train_tree(const char *path)
{
    static char found[16][4200];
    static unsigned turn;
    char *out = found[turn++ % 16], start[2048] = "";
    const ssize_t n = readlink("/proc/self/exe", start, sizeof start - 1);
    if (n > 0 && climb(out, sizeof found[0], start, path)) return out;
    if (getcwd(start, sizeof start) && climb(out, sizeof found[0], start, path)) return out;
    fail_msg("%s is in no folder above this program or the current folder", path);
    return "";
}

static void draw_photo(const char *path, int number)
{
    enum { SIDE = 20 };
    uint8_t px[SIDE * SIDE * 3];
    unsigned char *jpeg = NULL;
    size_t n = 0;
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            uint8_t *p = px + 3 * (y * SIDE + x);
            p[0] = (uint8_t)(20 * number + 3 * x);
            p[1] = (uint8_t)(255 - 9 * y - number);
            p[2] = (uint8_t)((x / 3 + y / 4 + number) % 2 ? 220 : 30);
        }
    }
    const blip2_image img = {SIDE, SIDE, 3 * SIDE, px};
    assert_int_equal(blip2_image_encode_jpeg(&img, 92, &jpeg, &n, NULL), BLIP2_OK);
    unit_write(path, jpeg, n);
    free(jpeg);
}

static void fill_shop(const char *dir)
{
    static const char *const kind[] = {"bags", "ankle boots", "shirt", "blue shoes"};
    b2_str qa = {0}, cap = {0};
    assert_int_equal(mkdir(unit_path(dir, "images"), 0777), 0);
    b2_str_add(&qa, "id,Question,Answer\n");
    b2_str_add(&cap, "id,Caption\n");
    for (int i = 0; i < 11; i++) {
        char name[64];
        snprintf(name, sizeof name, "images/p%d.jpg", i);
        draw_photo(unit_path(dir, name), i);
        b2_str_addf(&qa, "p%d,what is the article type?,Article Type: %s\n", i, kind[i % 4]);
        b2_str_addf(&qa, "p%d,which colour?,Colour: %s\n", i, i % 2 ? "blue" : "red");
        b2_str_addf(&cap, "p%d,\"a photo of %s, %snumber %d, on a %s table\"\n", i, kind[i % 4],
                    i == 10 ? "very new, " : "", i, i % 3 ? "blue" : "long red and blue");
    }
    unit_write(unit_path(dir, "qa.csv"), qa.p, qa.n);
    unit_write(unit_path(dir, "captions.csv"), cap.p, cap.n);
    b2_str_free(&qa);
    b2_str_free(&cap);
}

static void keep_log(void *user, int level, const char *message)
{
    train_shop *s = user;
    const size_t n = strlen(s->log);
    snprintf(s->log + n, sizeof s->log - n, "%d %s\n", level, message);
}

void shop_open(train_shop *s, const char *model, const char *csv, int threads)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_device_options d = BLIP2_DEVICE_OPTIONS_INIT;
    blip2_dataset_options o = BLIP2_DATASET_OPTIONS_INIT;
    char folder[64];
    memset(s, 0, sizeof *s);
    s->dir = unit_folder();
    fill_shop(s->dir);
    d.threads = threads;
    d.log = keep_log;
    d.log_user = s;
    snprintf(folder, sizeof folder, "tests/golden/%s/model", model);
    if (blip2_device_open(unit_device(), &d, &s->device, &e) != BLIP2_OK) fail_msg("%s", e.text);
    if (blip2_model_open(s->device, train_tree(folder), NULL, &s->model, &e) != BLIP2_OK)
        fail_msg("%s", e.text);
    o.csv = unit_path(s->dir, csv);
    o.images = unit_path(s->dir, "images");
    if (blip2_dataset_open(&o, &s->data, &e) != BLIP2_OK) fail_msg("%s", e.text);
}

void shop_close(train_shop *s)
{
    blip2_dataset_close(s->data);
    blip2_model_close(s->model);
    size_t peak;
    assert_int_equal(blip2_device_memory(s->device, &peak), 0);
    blip2_device_close(s->device);
    unit_remove(s->dir);
}

blip2_trainer_options shop_options(void)
{
    blip2_trainer_options o;
    blip2_trainer_options_init(&o);
    o.batch = 4;
    o.epochs = 2;
    o.lr = 5e-3;
    o.schedule = BLIP2_CONSTANT;
    o.warmup = 2;
    o.seed = 7;
    return o;
}

blip2_trainer *shop_trainer(train_shop *s, const blip2_trainer_options *o)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_trainer *t = NULL;
    if (blip2_trainer_open(s->model, s->data, o, &t, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return t;
}

blip2_step_report shop_step(blip2_trainer *t)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_step_report r = {.size = sizeof r};
    if (blip2_trainer_step(t, &r, &e) != BLIP2_OK) fail_msg("%s", e.text);
    return r;
}

uint64_t shop_hash(const blip2_trainer *t)
{
    const size_t n = (size_t)t->flat.total * sizeof(float);
    return b2_hash64(b2_hash64(b2_hash64(0, t->flat.w, n), t->flat.m, n), t->flat.v, n);
}
