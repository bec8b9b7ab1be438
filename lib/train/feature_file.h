/* Inside the feature cache: some photos' tokens. */
#ifndef B2_TRAIN_FEATURE_FILE_H
#define B2_TRAIN_FEATURE_FILE_H
#include "train/feature_cache.h"

/* Tokens of n (<= B2_ENCODE_BATCH) photos into out [n][queries*d]. */
blip2_status b2_features_chunk(const b2_encoder_work *w, const int64_t *image, int n, float *out,
                               blip2_error *e);
#endif
