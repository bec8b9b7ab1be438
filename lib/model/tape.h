/* Saved activations of one training pass: one record a layer. The structs live as long as the net; the
 * tensors in them are views into the pass's save arena. */
#ifndef B2_MODEL_TAPE_H
#define B2_MODEL_TAPE_H
#include "model/net.h"

typedef struct b2_vit_saved {
    b2_norm_saved ln1, ln2;
    b2_mha_saved attn;
    b2_mlp_saved mlp;
    b2_tensor x; /* the block's input, kept when recomputing */
} b2_vit_saved;
typedef struct b2_qf_saved {
    b2_norm_saved ln_self, ln_cross, ln_ff;
    b2_mha_saved self, cross;
    b2_mlp_saved ff;
    b2_tensor x;
} b2_qf_saved;
typedef struct b2_t5_saved {
    b2_norm_saved ln_self, ln_cross, ln_ff;
    b2_mha_saved self, cross;
    b2_mlp_saved ff;
    b2_tensor x;
} b2_t5_saved;

typedef struct b2_tape {
    b2_vit_saved *vit;
    b2_qf_saved *qf;
    b2_t5_saved *enc, *dec;
    b2_linear_saved patch, proj, head;
    b2_norm_saved vit_post, qf_ln, enc_final, dec_final;
    b2_tensor e; /* T, the picture after post_layernorm */
} b2_tape;
b2_tape *b2_tape_new(const b2_config *c); /* NULL: out of memory */
void b2_tape_free(b2_tape *t);
#endif
