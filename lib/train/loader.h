/* Micro-batches by number: what a batch holds is a pure function of (seed, its number), whoever asks in what
 * order. A thread of the loader's own prepares the next ones while a step runs. */
#ifndef B2_TRAIN_LOADER_H
#define B2_TRAIN_LOADER_H
#include "model/forward.h"
#include "train/pictures.h"
#include "train/texts.h"

typedef struct b2_loader_options {
    int batch, accumulate;
    int64_t steps; /* of the whole run: micro-batches 0 .. steps*accumulate-1 */
    bool shuffle;
    int augment; /* BLIP2_AUGMENT_* */
    uint64_t seed;
} b2_loader_options;

typedef struct b2_micro {
    b2_batch b;       /* b.batch 0: the step has no rows left for this micro-batch */
    int64_t tokens;   /* labels that count */
    uint64_t *sample; /* [batch] global sample indices, epoch*rows + row */
    int64_t *row;     /* [batch] */
    float *pixels, *features;
    int32_t *enc_ids, *enc_len, *dec_ids, *dec_len, *labels, *text;
    uint8_t *picture[2];
    blip2_status status;
    blip2_error error;
} b2_micro;

typedef struct b2_loader b2_loader;
/* The memory of a loader comes from the arena; with a dry arena this only counts. cached: features are given.
 */
size_t b2_loader_bytes(const blip2_dataset *d, const blip2_model *m, const b2_texts *t,
                       const b2_loader_options *o, bool cached);
/* features: tokens of photo i at features[i*queries*d], or NULL: pixels are wanted and come from `pictures`.
 * All but o is borrowed. */
blip2_status b2_loader_open(b2_loader **out, const blip2_dataset *d, const blip2_model *m, const b2_texts *t,
                            b2_pictures *pictures, const float *features, const b2_loader_options *o,
                            b2_account *account, blip2_error *e);
void b2_loader_close(b2_loader *l); /* NULL allowed */
int64_t b2_loader_steps_per_epoch(int64_t rows, const b2_loader_options *o);
/* The next call of b2_loader_next gives micro-batch number `micro`. */
void b2_loader_seek(b2_loader *l, int64_t micro);
/* Valid until the next call; the caller looks at its status. */
const b2_micro *b2_loader_next(b2_loader *l);

/* Where a caption of n tokens (without </s>) is cut in this epoch: the tokens before the cut go to the
 * encoder. Two times in three 0, else uniform in 0..n-1 (model.md has no such rule; it is BLIP-2's second
 * stage on captions). */
int b2_caption_cut(uint64_t seed, uint64_t epoch, uint64_t row, int n);
/* A permutation of 0..rows-1: a pure function of (seed, epoch). */
void b2_epoch_order(int32_t *order, int64_t rows, bool shuffle, uint64_t seed, uint64_t epoch);
#endif
