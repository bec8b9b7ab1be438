/* A BLIP-2 model folder in Hugging Face layout: weights and configuration, immutable once opened. */
#ifndef BLIP2_MODEL_H
#define BLIP2_MODEL_H

#include <stdint.h>
#include "blip2/device.h"
#include "blip2/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum blip2_dtype {
    BLIP2_DTYPE_FILE = 0, /* as the file holds it (f16 becomes f32) */
    BLIP2_DTYPE_F32 = 1,  /* nothing is rounded */
    BLIP2_DTYPE_BF16 = 2, /* weights, and what linears, attention and activations read; sums are f32 */
    BLIP2_DTYPE_INT8 = 3, /* as BF16, with linears' weights in int8, a scale for each output row */
    BLIP2_DTYPE_INT4 = 4  /* in int4, a scale for 64 columns of a row; what has not whole groups stays wide */
} blip2_dtype;
/* "f32", "float32", "bf16", "bfloat16", "int8", "int4", "file"; anything else is BLIP2_ERR_ARGUMENT. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_dtype_parse(const char *text, blip2_dtype *out,
                                                          blip2_error *err);

typedef struct blip2_model blip2_model; /* any number of threads and sessions */

typedef struct blip2_model_options {
    size_t size;
    blip2_dtype dtype;
    /* INT8, INT4: linears with one of these names in theirs, between dots, stay bf16 ("wo,lm_head,encoder");
     * NULL: BLIP2_KEEP_WIDE. Embeddings, norms, biases and the patch embedding always do. What a folder holds
     * quantised is taken as it is, whatever dtype says. */
    const char *keep;
} blip2_model_options;
#define BLIP2_MODEL_OPTIONS_INIT                                                                             \
    {                                                                                                        \
        sizeof(blip2_model_options), BLIP2_DTYPE_FILE, NULL                                                  \
    }
/* Flan-T5's wo has outliers that 8 bits lose; lm_head is close to the answer; the Q-Former and its projection
 * are small, and may be wanted for training. */
#define BLIP2_KEEP_WIDE "wo,lm_head,qformer,language_projection"

/* dir: config.json, model.safetensors (or index and shards), preprocessor_config.json, tokenizer files; a
 * cache snapshot of links is fine. Matrices in f32 or bf16 are used where they lie in the mapped file.
 * Holds a reference to d. Errors name the file and the tensor or field, what was expected and what was
 * found. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_model_open(blip2_device *d, const char *dir,
                                                         const blip2_model_options *options,
                                                         blip2_model **out, blip2_error *err);
BLIP2_API void blip2_model_close(blip2_model *m); /* drops the caller's reference; NULL allowed */

typedef struct blip2_model_info {
    size_t size;
    int64_t parameters;
    size_t weight_bytes;     /* mapped and copied */
    blip2_dtype dtype;       /* of what linears, attention and activations read: F32 or BF16 */
    int image_size, queries; /* pixels a side; image tokens */
    int hidden, vocab;       /* of the language model */
    int vit_layers, qformer_layers, encoder_layers, decoder_layers;
    int int8_tensors, int4_tensors; /* matrices in memory in these formats */
} blip2_model_info;
BLIP2_API void blip2_model_get_info(const blip2_model *m, blip2_model_info *info); /* set info->size first */
/* Matrices that would be quantised, by a name that `keep` knows them by ("qkv", "wo", "qformer"). */
typedef struct blip2_matrix_kind {
    char name[32];
    int tensors;
    int64_t parameters;
    double error; /* of their weights in the format asked for: rms of the change, relative to their rms */
} blip2_matrix_kind;
/* Fills up to `capacity` kinds, *count = how many there are. dtype: INT8 or INT4; keep as in the options.
 * Quantises everything once: takes seconds for a large model. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_model_kinds(const blip2_model *m, blip2_dtype dtype,
                                                          const char *keep, blip2_matrix_kind *kinds,
                                                          int capacity, int *count, blip2_error *err);
/* The model's tokenizer, or NULL when the folder has none. Lives as long as the model. */
BLIP2_API const blip2_tokenizer *blip2_model_tokenizer(const blip2_model *m);

/* A new model folder with random weights at a realistic scale, streamed to disk tensor by tensor.
 * preset: "fashion-tiny", "flan-t5-xl", "flan-t5-xxl", or NULL with config_path naming a config.json.
 * tokenizer_path: a spiece.model or tokenizer.json copied into the folder, or NULL. */
typedef struct blip2_init_options {
    size_t size;
    const char *preset, *config_path, *tokenizer_path;
    blip2_dtype dtype; /* F32 or BF16; FILE means BF16 */
    uint64_t seed;
    int threads; /* 0: as many as this process may use; the weights do not depend on it */
} blip2_init_options;
#define BLIP2_INIT_OPTIONS_INIT                                                                              \
    {                                                                                                        \
        sizeof(blip2_init_options), NULL, NULL, NULL, BLIP2_DTYPE_FILE, 1, 0                                 \
    }
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_model_init(const char *dir, const blip2_init_options *options,
                                                         blip2_error *err);

#ifdef __cplusplus
}
#endif
#endif
