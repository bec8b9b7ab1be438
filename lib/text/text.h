/* Internal side of text: the sentencepiece wrapper, prompts, tokenizer files. */
#ifndef B2_TEXT_TEXT_H
#define B2_TEXT_TEXT_H
#include "blip2/tokenizer.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif
/* sentencepiece.cc: the one C++ file; no exception leaves it. */
typedef struct b2_spm b2_spm;
/* A ModelProto's bytes, checked with b2_spm_check before sentencepiece sees them. */
blip2_status b2_spm_open(b2_spm **out, const void *model, size_t n, blip2_error *e);
void b2_spm_close(b2_spm *s); /* NULL allowed */
int32_t b2_spm_size(const b2_spm *s);
/* Ids without </s>; free() them. Nothing to encode gives *ids = NULL, *count = 0. */
blip2_status b2_spm_encode(const b2_spm *s, const char *text, size_t n, int32_t **ids, size_t *count,
                           blip2_error *e);
/* Ids must be below the size; control pieces give nothing; free() text, which ends with a NUL. */
blip2_status b2_spm_decode(const b2_spm *s, const int32_t *ids, size_t count, char **text, size_t *n,
                           blip2_error *e);
int32_t b2_spm_id(const b2_spm *s, const char *piece); /* -1 when it is not a piece */
bool b2_spm_is_text(const b2_spm *s, int32_t id); /* a piece that stands for text: not unknown, not control */
#ifdef __cplusplus
}
#endif

/* Copies spiece.model, tokenizer.json, tokenizer_config.json, special_tokens_map.json (whichever exist). */
blip2_status b2_tokenizer_copy(const char *from_dir, const char *to_dir, blip2_error *e);

/* Prompt templates: "{}" stands for the question, e.g. "Question: {} Answer: ". Exactly one "{}". */
#define B2_DEFAULT_TEMPLATE "Question: {} Answer: "
blip2_status b2_prompt_check(const char *tmpl, blip2_error *e);
blip2_status b2_prompt_format(b2_str *out, const char *tmpl, const char *question, blip2_error *e);
#endif
