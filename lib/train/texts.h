/* The rows' texts as token ids, each distinct text tokenised once. */
#ifndef B2_TRAIN_TEXTS_H
#define B2_TRAIN_TEXTS_H
#include "base/arena.h"
#include "model/model.h"
#include "train/dataset.h"

typedef struct b2_span {
    size_t at;
    int32_t n;
} b2_span;

typedef struct b2_texts {
    int32_t *ids;
    b2_span *in, *out;   /* [rows]: prompt and answer, </s> included; a caption row has in.n == 0 and its
                            caption in out */
    int max_in, max_out; /* longest row of encoder ids (image tokens included) and of labels */
    int max_prompt;      /* a caption's prefix, </s> included, is at most so long */
    size_t bytes;        /* counted in `account` */
    b2_account *account;
} b2_texts;

typedef struct b2_texts_options {
    const char *prompt_template; /* checked */
    int max_prompt, max_answer;  /* tokens, </s> included; longer rows are BLIP2_ERR_DATA */
} b2_texts_options;
blip2_status b2_texts_open(b2_texts *t, const blip2_dataset *d, const blip2_model *m,
                           const b2_texts_options *o, b2_account *account, blip2_error *e);
void b2_texts_close(b2_texts *t);
#endif
