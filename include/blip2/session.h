/* Asking: one session is used by one thread at a time; blip2_session_cancel may come from any. */
#ifndef BLIP2_SESSION_H
#define BLIP2_SESSION_H

#include "blip2/adapter.h"
#include "blip2/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct blip2_session blip2_session;
typedef struct blip2_features
    blip2_features; /* one encoded picture: immutable, reference-counted, any thread */

typedef struct blip2_session_options {
    size_t size;
    int max_batch;         /* questions answered at once; more are answered in turns */
    int max_prompt_tokens; /* of text, </s> included */
    int max_new_tokens;    /* the largest limit a request may ask for */
    int max_images;        /* pictures encoded at once; more in turns */
    blip2_adapter *const
        *adapters;  /* bound to the session, which takes references; NULL when n_adapters is 0 */
    int n_adapters; /* at most 8 */
} blip2_session_options;
#define BLIP2_SESSION_OPTIONS_INIT                                                                           \
    {                                                                                                        \
        sizeof(blip2_session_options), 8, 256, 64, 1, NULL, 0                                                \
    }

/* Bytes by owner, known before anything is allocated. */
typedef struct blip2_plan {
    size_t size;
    size_t weights; /* of the model: mapped and copied */
    size_t state;   /* KV caches; or gradients, moments and trained tensors */
    size_t saved;   /* activations kept for the backward pass */
    size_t scratch;
    size_t total;
} blip2_plan;
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_plan(const blip2_model *m,
                                                           const blip2_session_options *o, blip2_plan *plan,
                                                           blip2_error *err);

BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_open(const blip2_model *m,
                                                           const blip2_session_options *options,
                                                           blip2_session **out, blip2_error *err);
BLIP2_API void blip2_session_close(blip2_session *s); /* NULL allowed */
/* The running call returns BLIP2_ERR_CANCELLED between two layers; the session stays usable. */
BLIP2_API void blip2_session_cancel(blip2_session *s);

/* n pictures → n features (released by blip2_features_close). adapter: index of a bound adapter whose
 * image side is used, or -1. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_encode(blip2_session *s, const blip2_image *images,
                                                             int n, int adapter, blip2_features **out,
                                                             blip2_error *err);
/* The same from ready pixels: f32 [n][3][image_size][image_size], already normalised. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_encode_pixels(blip2_session *s, const float *pixels,
                                                                    int n, int adapter, blip2_features **out,
                                                                    blip2_error *err);
BLIP2_API void blip2_features_close(blip2_features *f); /* NULL allowed */
/* f32 [tokens][hidden], the projected image tokens; lives as long as f. */
BLIP2_API const float *blip2_features_data(const blip2_features *f, int *tokens, int *hidden);

/* Called with each piece of text as it is made: whole UTF-8 characters; return nonzero to stop this row. */
typedef int (*blip2_token_fn)(void *user, const char *text, size_t size);

typedef struct blip2_request {
    size_t size;
    const blip2_features *features;
    const char *prompt;        /* the whole prompt text; NULL or "": captioning */
    const int32_t *prompt_ids; /* used instead of prompt when not NULL (</s> is the caller's) */
    int prompt_count;
    int adapter;             /* index of a bound adapter, or -1: the base model */
    int max_new_tokens;      /* 0: the session's */
    int min_new_tokens;      /* </s> is forbidden before */
    blip2_token_fn on_token; /* NULL: none */
    void *user;
} blip2_request;
#define BLIP2_REQUEST_INIT                                                                                   \
    {                                                                                                        \
        sizeof(blip2_request), NULL, NULL, NULL, 0, -1, 0, 0, NULL, NULL                                     \
    }

typedef struct blip2_answer {
    const char *text;      /* without special tokens; NULL when the model has no tokenizer */
    const int32_t *tokens; /* new ids, start token left out, </s> included when it was made */
    int count;
    float logprob; /* sum of the log-probabilities of `tokens` */
    int finished;  /* 1: ended by </s>; 0: by the limit or the callback */
} blip2_answer;

/* Greedy answers to n requests, as one ragged batch. Answers belong to the session until its next call.
 * BLIP2_ERR_NONFINITE: logits that are not numbers (such values in weights, adapter or features, or
 * overflow). */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_generate(blip2_session *s,
                                                               const blip2_request *requests, int n,
                                                               blip2_answer *answers, blip2_error *err);
/* Runs one picture and one request (its features are ignored) and writes pixel_values, vit, qformer,
 * projection, encoder (after the final norm) and logits [new tokens, vocab] as f32 to a safetensors file. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_trace(blip2_session *s, const blip2_image *image,
                                                            const blip2_request *request, const char *path,
                                                            blip2_answer *answer, blip2_error *err);

/* How far two sets of weights stray: sums over the tokens of answers. */
typedef struct blip2_drift {
    size_t size;
    int64_t tokens, same; /* same: `other` would have chosen the same */
    double kl;            /* sum of KL(wide || other) of the next token's distribution, in nats */
    double squares; /* sum of the mean square, over the vocabulary, of the difference of log-probabilities */
    double largest; /* difference of a log-probability, where wide gives more than 1e-4 */
} blip2_drift;
#define BLIP2_DRIFT_INIT                                                                                     \
    {                                                                                                        \
        sizeof(blip2_drift), 0, 0, 0, 0, 0                                                                   \
    }
/* Encodes the picture with both sessions, answers with `wide`, leads `other` along the same tokens, and adds
 * what their logits differ to *sum. Models of the same configuration; the request's features are ignored. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_session_drift(blip2_session *wide, blip2_session *other,
                                                            const blip2_image *image,
                                                            const blip2_request *request, blip2_drift *sum,
                                                            blip2_error *err);

/* "Question: {} Answer: " with the question put in. Writes a NUL; *size = bytes without it; buffer may be
 * NULL. */
BLIP2_API BLIP2_MUST_CHECK blip2_status blip2_prompt_format(const char *prompt_template, const char *question,
                                                            char *buffer, size_t capacity, size_t *size,
                                                            blip2_error *err);
#define BLIP2_PROMPT_TEMPLATE "Question: {} Answer: "

#ifdef __cplusplus
}
#endif
#endif
