/* Inside a session: its arenas and the steps that generation is made of. */
#ifndef B2_INFER_SESSION_CORE_H
#define B2_INFER_SESSION_CORE_H
#include "base/str.h"
#include "infer/session.h"
#include "model/parts.h"

struct blip2_features {
    _Atomic int refs;
    int tokens, hidden;
    float data[]; /* [tokens, hidden] */
};
blip2_features *b2_features_ref(blip2_features *f);

/* What one layer of the decoder remembers. */
typedef struct b2_kv {
    b2_tensor k, v;  /* self-attention: [batch*cap, inner], row b*cap + position */
    b2_tensor cross; /* [batch*tenc, 2*inner]: keys and values of the encoder's output */
} b2_kv;

/* Answers of the last call. */
typedef struct b2_answer_store {
    int32_t *tokens; /* [n, max_new] */
    b2_str *text;    /* [n] */
    int n;
} b2_answer_store;

struct blip2_session {
    blip2_model *model;
    b2_net *net;
    blip2_adapter *adapter[B2_MAX_ADAPTERS];
    int n_adapters;
    bool trained_net;  /* opened on a trainer's net: its one adapter, if any, is index 0 for every row */
    int batch, images; /* capacities */
    int tenc, tdec;    /* longest encoder and decoder rows */
    b2_queue q;
    b2_pass pass;
    b2_step step;
    b2_arena scratch, state,
        staging; /* staging: the host's half of `twin`, empty where the device is the host */
    b2_twin twin;
    b2_recordings graphs;
    _Atomic int cancel;
    /* views into state, where the kernels run */
    b2_kv *kv;        /* [decoder layers], malloc'ed */
    b2_tensor enc;    /* T [batch*tenc, d] */
    b2_tensor logits; /* [batch, vocab] */
    b2_tensor bias;   /* [heads, tdec] decoder's relative bias, column tdec-1 is distance 0 */
    /* The host's half of twins. A decoder step pushes ids, pos, seen, forbid (one block) and pulls chosen,
     * logp (one). */
    int32_t *which, *enc_len, *enc_ids, *ids, *pos, *seen, *forbid, *chosen;
    float *logp;
    float *feats;  /* [batch*queries, d] image tokens of the rows */
    float *pixels; /* [sets][images, 3*S*S] */
    int sets;      /* on a GPU two: one is filled while pictures in the other are encoded */
    float *tokens; /* [images*queries, d] fresh features */
    b2_answer_store answers;
};

/* Encoder and cross-attention keys for `rows` rows of length t (feats, enc_ids, enc_len, which are set). */
void b2_session_prefill(blip2_session *s, int rows, int t);
/* One decoder step at position `at` (ids, pos, seen set): logits of the next token. */
void b2_session_decode(blip2_session *s, int rows, int t, int at);
/* The first n rows of answers: chosen, logp. */
void b2_session_choose(blip2_session *s, int rows);
/* Both, as one recording where the device records. */
void b2_session_next(blip2_session *s, int rows, int t, int at);
/* Images already in `pixels`, one of the sets → s->tokens, when they are fetched: what was pushed must
 * stay till then. adapter: bound index or -1. taps point where the kernels run. */
void b2_session_images(blip2_session *s, const float *pixels, int n, int adapter, const b2_taps *taps);
void b2_session_fetch_tokens(blip2_session *s, int n); /* waits */

/* What a traced generation collects; NULL members are not wanted. */
typedef struct b2_trace_sink {
    float *encoder;     /* [t, d] */
    float *logits;      /* [max_new, vocab] */
    int t;              /* encoder rows, filled in */
    const int32_t *led; /* tokens that the answer takes, whatever the logits say; NULL: its own */
    int n_led;
} b2_trace_sink;
blip2_status b2_session_generate_traced(blip2_session *s, const blip2_request *r, int n, blip2_answer *a,
                                        b2_trace_sink *sink, blip2_error *e);
blip2_status b2_session_check_request(const blip2_session *s, const blip2_request *r, blip2_error *e);
void b2_answers_free(b2_answer_store *a);
#endif
