/* The parts that forward.h's walks are made of. With p->save they leave their records on net->tape. */
#ifndef B2_MODEL_PARTS_H
#define B2_MODEL_PARTS_H
#include "model/forward.h"
#include "model/tape.h"

/* A residual stream (f32) and its rounded twin, the input of linears; one and the same in f32 mode. */
typedef struct b2_dual {
    b2_tensor f, t;
} b2_dual;
b2_dual b2_dual_new(const b2_pass *p, b2_arena *a, int rows, int cols);

/* pixels [n,3,S,S] → e: T [n*tokens, hidden] after post_layernorm; e32 (or NULL): the same unrounded. */
void b2_vit_fwd(const b2_pass *p, const b2_net *net, const float *pixels, int n, b2_tensor *e,
                b2_tensor *e32);
/* de: f32 gradient of e, overwritten on the way. */
void b2_vit_bwd(const b2_pass *p, const b2_net *net, b2_tensor *de, int n);

/* e → out: f32 [n*queries, hidden] and T. */
void b2_qformer_fwd(const b2_pass *p, const b2_net *net, const b2_tensor *e, int n, b2_dual *out);
/* dh: gradient of out.f, overwritten; de: overwritten, or NULL. */
void b2_qformer_bwd(const b2_pass *p, const b2_net *net, b2_tensor *dh, b2_tensor *de, int n);
bool b2_vit_trains(const b2_net *net);

/* One stack of T5. x: f32 [batch*t, d], the embeddings, changed in place; enc (decoder): T [batch*tenc, d]
 * with enc_len visible; y: T [batch*t, d] after the final norm. */
typedef struct b2_stack_io {
    int batch, t, tenc;
    const int32_t *len;     /* encoder: tokens of each item */
    const int32_t *enc_len; /* decoder: encoder rows of each item */
} b2_stack_io;
void b2_stack_fwd(const b2_pass *p, const b2_t5_stack *s, b2_t5_saved *tape, b2_norm_saved *final,
                  const b2_config *c, const b2_stack_io *io, b2_tensor *x, const b2_tensor *enc,
                  b2_tensor *y);
/* dx: gradient of y on entry, of x on return (meaningless when `bottom` is false); denc: overwritten
 * (decoder) or NULL. bottom: the embeddings below want their gradient. */
void b2_stack_bwd(const b2_pass *p, const b2_t5_stack *s, b2_t5_saved *tape, b2_norm_saved *final,
                  const b2_config *c, const b2_stack_io *io, b2_tensor *dx, const b2_tensor *enc,
                  b2_tensor *denc, bool bottom);
bool b2_stack_trains(const b2_t5_stack *s);
#endif
