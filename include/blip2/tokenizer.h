/* T5's tokenizer: SentencePiece unigram from spiece.model, or from a tokenizer.json turned into one in
 * memory. */
#ifndef BLIP2_TOKENIZER_H
#define BLIP2_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "blip2/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blip2_tokenizer blip2_tokenizer; /* immutable; any number of threads */

/* DIR/spiece.model, else DIR/tokenizer.json; or the path of either file. tokenizer_config.json beside it is
 * read for extra_ids (default 100), added_tokens_decoder and clean_up_tokenization_spaces (default false, as
 * transformers 4.57). */
BLIP2_API blip2_status blip2_tokenizer_open(const char *path, blip2_tokenizer **out, blip2_error *err);
BLIP2_API void blip2_tokenizer_close(blip2_tokenizer *t); /* NULL allowed */
/* Text (UTF-8, at most 1 MiB) → ids with </s> (1) at the end, as T5Tokenizer (slow, legacy) makes them:
 * special tokens in the text count as such, and no second </s> follows one. ids may be NULL to ask for *count
 * alone. BLIP2_ERR_LIMIT when there are more than `capacity` ids (*count then says how many). */
BLIP2_API blip2_status blip2_tokenizer_encode(const blip2_tokenizer *t, const char *text, size_t size,
                                              int32_t *ids, size_t capacity, size_t *count, blip2_error *err);
/* Ids → text without special tokens (unknown and out-of-range ids too), written with a NUL. *size = bytes
 * without it; text may be NULL to ask. */
BLIP2_API blip2_status blip2_tokenizer_decode(const blip2_tokenizer *t, const int32_t *ids, size_t count,
                                              char *text, size_t capacity, size_t *size, blip2_error *err);
/* The largest id that means something, plus one (pieces, extra ids, added tokens). */
BLIP2_API int32_t blip2_tokenizer_size(const blip2_tokenizer *t);

#ifdef __cplusplus
}
#endif
#endif
