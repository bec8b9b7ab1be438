/* The binding: the whole model as a tree of layers whose parameters are views. A session and a trainer
 * each hold one of their own and point its parameters where they like; weights themselves belong to the
 * model or the trainer. */
#ifndef B2_MODEL_NET_H
#define B2_MODEL_NET_H
#include "model/config.h"
#include "nn/nn.h"

typedef struct b2_vit_layer {
    b2_norm ln1, ln2;
    b2_mha attn;
    b2_mlp mlp;
} b2_vit_layer;
typedef struct b2_vit {
    b2_param cls, pos;
    b2_linear patch;
    b2_vit_layer *layer; /* [config.vit.layers] */
    b2_norm post;
} b2_vit;

typedef struct b2_qf_layer {
    b2_mha self, cross; /* cross only where has_cross */
    bool has_cross;
    b2_norm ln_self, ln_cross, ln_ff;
    b2_mlp ff;
    uint32_t site; /* of the three sub-layer dropouts: site, site+1, site+2 */
} b2_qf_layer;
typedef struct b2_qformer {
    b2_param query; /* [queries, hidden] */
    b2_norm ln;
    b2_qf_layer *layer;
    float drop; /* hidden_dropout_prob in training, 0 otherwise */
    uint32_t site;
} b2_qformer;

typedef struct b2_t5_layer {
    b2_norm ln_self, ln_cross, ln_ff;
    b2_mha self, cross; /* cross: decoder only */
    b2_mlp ff;
    uint32_t site;
} b2_t5_layer;
typedef struct b2_t5_stack {
    b2_t5_layer *layer;
    int layers;
    bool decoder;
    b2_param relbias; /* [buckets, heads] */
    b2_norm final;
    float drop;
    uint32_t site; /* stack input: site; stack output: site+1 */
} b2_t5_stack;

typedef enum { B2_PART_VIT, B2_PART_QFORMER, B2_PART_PROJECTION, B2_PART_T5 } b2_part;

/* One tensor of the checkpoint. */
typedef struct b2_param_ref {
    char name[112]; /* as in the file, e.g. "language_model.encoder.block.0.layer.0.SelfAttention.q.weight" */
    int rank;
    int64_t shape[4];
    b2_param *param;   /* inside the net */
    b2_linear *linear; /* the linear whose weight this is, with `block`; NULL for everything else */
    int block;
    b2_part part;
    bool matrix; /* may stay in the file's bf16; vectors and small tables are f32 */
} b2_param_ref;

typedef struct b2_net {
    b2_config c;
    b2_vit vit;
    b2_qformer qf;
    b2_linear proj;
    b2_param shared; /* [vocab, d] */
    b2_t5_stack enc, dec;
    b2_linear head;    /* lm_head; its view is shared's when the file has no lm_head */
    b2_param_ref *ref; /* every tensor, in the file's natural order; lm_head last */
    int refs;
    b2_lora_slot *slots; /* owned by whoever attached adapters; see lora.h */
    int n_slots;
    struct b2_tape *tape; /* saved activations of a training pass (tape.h) */
} b2_net;

/* Builds the tree with sizes, names and dropout sites; parameters point nowhere, all dropout is 0. */
blip2_status b2_net_new(b2_net **out, const b2_config *c, blip2_error *e);
void b2_net_free(b2_net *n);
/* Same configuration: dst's parameters view what src's do; gradients NULL; no adapters. */
void b2_net_view(b2_net *dst, const b2_net *src);
/* Index in ref[] or -1. */
int b2_net_find(const b2_net *n, const char *name);
/* Dropout of the language model and of the Q-Former (hidden and attention), for training. */
void b2_net_set_dropout(b2_net *n, float t5, float qf_hidden, float qf_attn);
/* Does any tensor or adapter of the image side (ViT, Q-Former, projection) want a gradient? */
bool b2_net_image_trains(const b2_net *n);
#endif
