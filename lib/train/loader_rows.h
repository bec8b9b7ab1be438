/* Inside the loader: filling one micro-batch. */
#ifndef B2_TRAIN_LOADER_ROWS_H
#define B2_TRAIN_LOADER_ROWS_H
#include "train/loader.h"

typedef struct b2_filler {
    const blip2_dataset *d;
    const blip2_model *m;
    const b2_texts *t;
    b2_pictures *pictures;
    const float *features;
    b2_loader_options o;
    int32_t *order; /* [rows] of `epoch` */
    int64_t epoch;  /* -1: none yet */
} b2_filler;

/* Memory of one micro-batch, from the arena (which may be dry). */
void b2_micro_init(b2_micro *x, const b2_filler *f, bool cached, b2_arena *a);
/* Fills x with micro-batch number `micro`; x->status says how it went. */
void b2_micro_fill(b2_micro *x, b2_filler *f, int64_t micro);
#endif
