/* Added tokens: strings that are cut out of the raw text before sentencepiece sees the rest (</s>,
 * <extra_id_0>, …). */
#ifndef B2_TEXT_ADDED_H
#define B2_TEXT_ADDED_H
#include "base/json.h"
#include "base/str.h"

#define B2_ADDED_MAX    4096
#define B2_ADDED_MAX_ID (1 << 24)

typedef struct b2_added_token {
    char *text;
    size_t n;
    int32_t id;
    bool special;        /* dropped when decoding */
    bool lstrip, rstrip; /* takes the white space before and after it along */
    bool single_word;    /* counts only where no letter, digit or _ touches it */
} b2_added_token;

typedef struct b2_added {
    b2_added_token *list; /* sorted by id after b2_added_finish */
    size_t count, cap;
    struct b2_trie_node *nodes;
    size_t node_count, node_cap;
} b2_added;

/* Copies t->text; replaces tokens with the same id or the same text. */
blip2_status b2_added_put(b2_added *a, const b2_added_token *t, blip2_error *e);
/* One entry of tokenizer.json's added_tokens or of tokenizer_config.json's added_tokens_decoder. */
blip2_status b2_added_put_json(b2_added *a, int64_t id, const b2_json *v, const char *path, blip2_error *e);
blip2_status b2_added_finish(b2_added *a, blip2_error *e); /* after the last put, before find and by_id */
/* The first token at or after text[from], the longest of those that start there; NULL when there is none. */
const b2_added_token *b2_added_find(const b2_added *a, const char *text, size_t n, size_t from, size_t *at);
const b2_added_token *b2_added_by_id(const b2_added *a, int32_t id);
void b2_added_free(b2_added *a);

/* tokenizer.json → the bytes of a ModelProto in *model, and its added tokens (tokenizer_json.c). Not finished
 * yet. */
blip2_status b2_tokenizer_json_read(const char *path, b2_str *model, b2_added *added, blip2_error *e);
#endif
