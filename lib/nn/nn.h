/* Layers: parameters, saved activations, forward and backward side by side. Conventions: parameters'
 * gradients accumulate; activations' gradients overwrite, except the residual stream, which accumulates; a
 * NULL gradient is not wanted; saved == NULL is inference. What linears, attention and activations read has
 * the mode's type T (f32 or bf16), forward and backward; the residual stream and its gradient are f32. */
#ifndef B2_NN_NN_H
#define B2_NN_NN_H
#include "op/op.h"

/* LoRA of one linear block. A session binds up to 8 adapters (which[] chooses for each item); a trainer
 * uses ab[0] with gradients. n == 0: none. */
typedef struct b2_lora_slot {
    b2_lora_ab ab[B2_MAX_ADAPTERS];
    int n;
    float *ga, *gb; /* gradients of ab[0].a [r,in] and ab[0].b [out,r], or NULL */
    float drop;     /* on the input of A, training only */
    uint32_t site;
} b2_lora_slot;

/* nn.Linear with one to three row blocks that share the input (q,k,v; k,v; wi_0,wi_1). */
typedef struct b2_linear {
    b2_param w[3], b[3];   /* b[i].p NULL: no bias */
    b2_lora_slot *lora[3]; /* NULL: none */
    int n;                 /* blocks */
} b2_linear;
int b2_linear_out(const b2_linear *l);
int b2_linear_in(const b2_linear *l);

typedef struct b2_norm {
    b2_param w, b; /* b.p NULL: RMS norm */
    float eps;
} b2_norm;

/* What holds for a whole pass. */
typedef struct b2_pass {
    b2_queue *q;
    b2_dtype act;         /* T */
    b2_arena *save;       /* activations kept for backward; NULL: inference */
    const int32_t *which; /* adapter of each item, or NULL */
    bool recompute;
} b2_pass;

/* From p->save when there is one, else from scratch. */
b2_tensor b2_keep(const b2_pass *p, b2_dtype t, int rows, int cols);
/* The residual stream's gradient as a sub-layer reads it: T, in scratch, dropped as the sub-layer's output
 * was; or dx itself where that is the same. */
b2_tensor b2_grad_of(const b2_pass *p, const b2_tensor *dx, int items, float drop, uint32_t site);

/* ---- linear ---- */
typedef struct b2_linear_saved {
    b2_tensor x;    /* T [m, in], as given */
    b2_tensor u[3]; /* LoRA's A x */
    int items;      /* m = items * rows each */
} b2_linear_saved;
/* y = beta*y + alpha*(x W^T) + b (+ LoRA).  y: [m, out], f32, or T with beta 0 */
void b2_linear_fwd(const b2_pass *p, const b2_linear *l, b2_linear_saved *s, b2_tensor *y, const b2_tensor *x,
                   int items, float alpha, float beta);
/* dx (NULL: not wanted) = beta*dx + ...; weights', biases' and LoRA's gradients accumulate. dy: f32 or T [m,
 * out]; dx: f32, or T with beta 0 */
void b2_linear_bwd(const b2_pass *p, const b2_linear *l, const b2_linear_saved *s, b2_tensor *dx,
                   const b2_tensor *dy, float alpha, float beta);
/* Does anything in this linear want a gradient? */
bool b2_linear_trains(const b2_linear *l);

/* ---- norm ---- */
typedef struct b2_norm_saved {
    b2_tensor x; /* f32, the input: must stay unchanged until backward */
    float *stat; /* r [rows] or mean,rstd [rows,2] */
} b2_norm_saved;
/* y: T or NULL, y32: f32 or NULL. */
void b2_norm_fwd(const b2_pass *p, const b2_norm *n, b2_norm_saved *s, b2_tensor *y, b2_tensor *y32,
                 const b2_tensor *x);
void b2_norm_bwd(const b2_pass *p, const b2_norm *n, const b2_norm_saved *s, b2_tensor *dx,
                 const b2_tensor *dy, float beta);
/* Keeps a copy of x for a norm's backward, where x is a residual stream that later layers add to. */
void b2_norm_fwd_keep(const b2_pass *p, const b2_norm *n, b2_norm_saved *s, b2_tensor *y, const b2_tensor *x);
bool b2_norm_trains(const b2_norm *n);

/* ---- attention around its projections ---- */
typedef struct b2_mha {
    b2_linear qkv; /* self: three blocks; cross: the query alone */
    b2_linear kv;  /* cross: two blocks; self: unused (n == 0) */
    b2_linear o;
    int heads, dim;
    float scale, drop; /* drop: of the probabilities */
    uint32_t site;
} b2_mha;
typedef struct b2_mha_io { /* geometry of one call */
    int batch, tq, tk;
    const int32_t *klen; /* visible keys, or NULL */
    const float *bias;   /* expanded relative bias, or NULL */
    float *dbias;        /* its gradient, or NULL */
    int ldbias, bias0;
    bool causal;
} b2_mha_io;
typedef struct b2_mha_saved {
    b2_linear_saved qkv, kv, o;
    b2_tensor q3, kv2; /* projected q,k,v or q; k,v */
    float *lse;
} b2_mha_saved;
/* y = beta*y + o(attention(...)).  x: T [batch*tq, in]; enc: T [batch*tk, in'] for cross attention, else
 * NULL. */
void b2_mha_fwd(const b2_pass *p, const b2_mha *m, b2_mha_saved *s, const b2_mha_io *io, b2_tensor *y,
                const b2_tensor *x, const b2_tensor *enc, float beta);
/* dx = beta*dx + … (or NULL), denc = beta_enc*denc + … (or NULL). dx may be dy when beta is 1. */
void b2_mha_bwd(const b2_pass *p, const b2_mha *m, const b2_mha_saved *s, const b2_mha_io *io, b2_tensor *dx,
                float beta, b2_tensor *denc, float beta_enc, const b2_tensor *dy);
bool b2_mha_trains(const b2_mha *m);

/* ---- feed forward ---- */
typedef struct b2_mlp {
    b2_linear up; /* one block, or two when gated */
    b2_linear down;
    b2_act_fn fn;
    bool gated;
    float drop; /* of the inner product (T5) */
    uint32_t site;
} b2_mlp;
typedef struct b2_mlp_saved {
    b2_linear_saved up, down;
    b2_tensor gu; /* T [m, F or 2F] */
} b2_mlp_saved;
void b2_mlp_fwd(const b2_pass *p, const b2_mlp *m, b2_mlp_saved *s, b2_tensor *y, const b2_tensor *x,
                int items, float beta);
/* dx = beta*dx + … (or NULL); dx may be dy when beta is 1. */
void b2_mlp_bwd(const b2_pass *p, const b2_mlp *m, const b2_mlp_saved *s, b2_tensor *dx, float beta,
                const b2_tensor *dy, int items);
bool b2_mlp_trains(const b2_mlp *m);
#endif
