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
blip2_status b2_spm_open(b2_spm **out, const void *model, size_t n, blip2_error *e);
void b2_spm_close(b2_spm *s);
int32_t b2_spm_size(const b2_spm *s);
blip2_status b2_spm_encode(const b2_spm *s, const char *text, size_t n, int32_t **ids, size_t *count, blip2_error *e); /* free() ids */
blip2_status b2_spm_decode(const b2_spm *s, const int32_t *ids, size_t count, char **text, size_t *n, blip2_error *e); /* free() text */
int32_t b2_spm_id(const b2_spm *s, const char *piece); /* -1 when it is not a piece */
#ifdef __cplusplus
}
#endif

/* tokenizer.json → ModelProto bytes for b2_spm_open (tokenizer_json.c). out is malloc'ed. */
blip2_status b2_tokenizer_json_to_model(const char *path, void **out, size_t *n, blip2_error *e);
/* Copies spiece.model, tokenizer.json, tokenizer_config.json, special_tokens_map.json (whichever exist). */
blip2_status b2_tokenizer_copy(const char *from_dir, const char *to_dir, blip2_error *e);

/* Prompt templates: "{}" stands for the question, e.g. "Question: {} Answer: ". Exactly one "{}". */
#define B2_DEFAULT_TEMPLATE "Question: {} Answer: "
blip2_status b2_prompt_check(const char *tmpl, blip2_error *e);
blip2_status b2_prompt_format(b2_str *out, const char *tmpl, const char *question, blip2_error *e);
#endif
