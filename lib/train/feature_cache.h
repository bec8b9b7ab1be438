/* Image tokens of all photos, computed once: in memory, or in a file that the next run finds. */
#ifndef B2_TRAIN_FEATURE_CACHE_H
#define B2_TRAIN_FEATURE_CACHE_H
#include "base/file.h"
#include "model/forward.h"
#include "train/pictures.h"
#include "model/model.h"

/* Layout of the file, little endian: this header, photos' content hashes u64 [images], tokens f32
 * [images][queries][d], then the CRC-32 of all that as u32. Appears whole or not at all. */
typedef struct b2_feature_header {
    char magic[8]; /* "B2FEAT02" */
    uint64_t model, preprocess;
    uint32_t act, queries, d, reserved;
    uint64_t images;
} b2_feature_header;

typedef struct b2_feature_file {
    b2_map map;
    const float *tokens; /* [images][queries*d] inside the mapping */
    b2_account *account;
} b2_feature_file;

enum { B2_ENCODE_BATCH = 16 }; /* photos of one pass when the cache is filled */

typedef struct b2_encoder_work { /* what computing tokens needs */
    const blip2_model *model;
    b2_pictures *pictures;
    b2_queue *q;
} b2_encoder_work;
/* Scratch that filling takes (q dry). */
void b2_feature_dry(const b2_encoder_work *w);
/* Tokens of all photos into out [images][queries*d]. */
blip2_status b2_features_compute(const b2_encoder_work *w, float *out, blip2_error *e);
size_t b2_feature_file_bytes(const blip2_model *m, int64_t images);
/* Opens PATH when it holds exactly these photos' tokens for this model; else writes it, taking what it
 * already holds, and opens it. A damaged file is written anew. */
blip2_status b2_feature_file_open(b2_feature_file *f, const char *path, const b2_encoder_work *w,
                                  blip2_error *e);
void b2_feature_file_close(b2_feature_file *f);
#endif
