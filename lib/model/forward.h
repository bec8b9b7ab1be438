/* The walks: image → tokens, tokens + text → encoder, decoder, loss; and backwards. Everything is padded B
 * x T with lengths; padding never changes a result. Pointers to data may be dangling while q->dry. */
#ifndef B2_MODEL_FORWARD_H
#define B2_MODEL_FORWARD_H
#include "model/net.h"

/* Where a trace wants activations copied (f32, may be NULL each). */
typedef struct b2_taps {
    float *vit, *qformer, *projection, *encoder;
} b2_taps;

/* ---- inference ---- */
/* pixels [n,3,S,S] → out f32 [n*queries, d]. p->save must be NULL. */
void b2_image_infer(const b2_pass *p, const b2_net *net, const float *pixels, int n, b2_tensor *out,
                    const b2_taps *taps);
/* ids [batch*t] (>= 0 token, < 0: row -1-id of image), len [batch] → enc T [batch*t, d] after the final
 * norm. */
void b2_encoder_infer(const b2_pass *p, const b2_net *net, const b2_tensor *image, const int32_t *ids,
                      const int32_t *len, int batch, int t, b2_tensor *enc);

/* Encoder ids of one row: the queries' image rows (base .. base+queries-1) and the text. With a
 * placeholder id in the configuration and placeholders in the text they are replaced in order (their
 * number must be `queries`); otherwise the image rows come first. out needs queries + n places; returns
 * how many were written, -1: wrong placeholder count. */
int b2_encoder_ids(const b2_config *c, const int32_t *text, int n, int base, int32_t *out);

/* ---- training ---- */
typedef struct b2_batch {
    int batch, tenc, tdec;
    const float *pixels;    /* [batch,3,S,S]; NULL when features are given */
    const float *features;  /* [batch*queries, d] image tokens; NULL when pixels are given */
    const int32_t *enc_ids; /* [batch*tenc], see b2_encoder_ids (row r of the batch's image tokens) */
    const int32_t *enc_len; /* [batch] */
    const int32_t *dec_ids; /* [batch*tdec] start token, then the labels shifted */
    const int32_t *labels;  /* [batch*tdec], -1 where there is no label */
} b2_batch;
/* One micro-batch forward and backward. Gradients (sums over tokens, not means) accumulate wherever the
 * net has gradient pointers; *loss += sum of the tokens' losses. p->save is marked and released inside.
 * With loss_only no backward runs. Parts without any gradient below them are not walked backward. */
void b2_train_pass(const b2_pass *p, const b2_net *net, const b2_batch *b, double *loss, bool loss_only);
#endif
