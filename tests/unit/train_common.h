/* A little shop for tests of training: drawn photos, a CSV of rows, and one of the golden models. */
#ifndef B2_TESTS_TRAIN_COMMON_H
#define B2_TESTS_TRAIN_COMMON_H
#include "blip2.h"
#include "train/trainer.h"
#include "unit/unit.h"

/* Can this build decode photos and tokenise? Tests that need both skip themselves otherwise. */
#define TRAIN_SKIP_UNLESS_WHOLE()                                                                            \
    do {                                                                                                     \
        if (!B2_WITH_IMAGE || !B2_WITH_TEXT) skip();                                                         \
    } while (0)

typedef struct train_shop {
    char *dir; /* temporary: images/, qa.csv, captions.csv */
    blip2_device *device;
    blip2_model *model;
    blip2_dataset *data;
    char log[4096]; /* what the device said */
} train_shop;

/* A path in the source tree, found from the program's own place or the current folder. */
const char *train_tree(const char *path);
/* model: "old", "new" or "relu" of tests/golden; csv: "qa.csv" (22 rows on 11 photos) or "captions.csv"
 * (11 rows). threads 0: default. */
void shop_open(train_shop *s, const char *model, const char *csv, int threads);
void shop_close(train_shop *s);
/* LoRA on q and v, batch 4, dropout as configured, shuffled, 2 epochs, constant rate. */
blip2_trainer_options shop_options(void);
blip2_trainer *shop_trainer(train_shop *s, const blip2_trainer_options *o);
/* One step that must succeed. */
blip2_step_report shop_step(blip2_trainer *t);
/* Hash of trained tensors and moments. */
uint64_t shop_hash(const blip2_trainer *t);
#endif
