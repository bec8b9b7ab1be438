/* A small random model folder for tests of sessions, adapters and export. */
#ifndef B2_TESTS_MODEL_COMMON_H
#define B2_TESTS_MODEL_COMMON_H
#include "blip2.h"

typedef struct small_model {
    char dir[256]; /* temporary folder with model/ in it */
    char model_dir[300];
    blip2_device *device;
    blip2_model *model;
} small_model;

/* threads 0: default. Fails the running cmocka test when something goes wrong. */
void small_model_open(small_model *s, int threads, blip2_dtype dtype);
void small_model_close(small_model *s); /* removes the folder */
/* A PEFT folder DIR/name with random A and B for `targets`. */
void small_adapter_write(const small_model *s, const char *name, const char *targets, int rank,
                         uint64_t seed);
/* Pixels of a made-up picture: f32 [3][size][size]; free(). */
float *small_pixels(const small_model *s, uint64_t seed);
blip2_features *small_features(blip2_session *session, const small_model *s, uint64_t seed, int adapter);
#endif
