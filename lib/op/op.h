/* Checked ops on tensors: the one place for shape checks, the sticky status, the dry run and the trace.
 * Each returns nothing: after a failure the rest does nothing, and the public entry reports the first
 * failure. */
#ifndef B2_OP_OP_H
#define B2_OP_OP_H
#include "op/tensor.h"

/* ---- linear ---- */
typedef struct b2_wblocks {      /* 1 to 3 weights that share an input, outputs side by side */
    const b2_param *w[3], *b[3]; /* b[i] may be NULL */
    int n;
} b2_wblocks;
int b2_wblocks_out(const b2_wblocks *w);
/* y = beta*y + alpha * x W^T + b.   x: [m,k] T, y: [m, sum n] f32, or T with beta 0 (ld allowed) */
void b2_gemm(b2_queue *q, b2_tensor *y, const b2_tensor *x, const b2_wblocks *w, float alpha, float beta);
/* dx = beta*dx + alpha * dy W.   dy, dx: f32 or T; a dx of T wants beta 0 */
void b2_gemm_dx(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_wblocks *w, float alpha,
                float beta);
/* dw += alpha * dy^T x;  dw: [n,k] */
void b2_gemm_dw(b2_queue *q, float *dw, const b2_tensor *dy, const b2_tensor *x, float alpha);
void b2_bias_grad(b2_queue *q, float *db, const b2_tensor *dy);
/* y = base + LoRA of l's blocks, where l's pointers lie where the kernels run. base: f32, y itself, or of no
 * use afterwards; then the blocks cover all of y, which may be T. */
void b2_lora_fwd(b2_queue *q, b2_tensor *y, b2_tensor *base, const b2_tensor *x, const b2_lora *l);
/* dx (NULL: not wanted) and the gradients in l += those of LoRA. */
void b2_lora_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const b2_lora *l);

/* ---- quantised rows ---- */
/* x, f32 or bf16, in w's format (I8 or I4): fills w->p and w->scale. Where x is not finite a scale is NaN. */
void b2_quantise_rows(b2_queue *q, const b2_param *w, const b2_tensor *x);
/* w, I8 or I4, as numbers of y's type */
void b2_dequantise_rows(b2_queue *q, b2_tensor *y, const b2_param *w);

/* ---- norms ---- */
void b2_rmsnorm(b2_queue *q, b2_tensor *y, float *r, const b2_tensor *x, const b2_param *w, float eps);
void b2_rmsnorm_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const float *r,
                    const b2_param *w, float beta);
void b2_layernorm(b2_queue *q, b2_tensor *y, b2_tensor *y32, float *stat, const b2_tensor *x,
                  const b2_param *g, const b2_param *b, float eps);
void b2_layernorm_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, const float *stat,
                      const b2_param *g, const b2_param *b, float beta);

/* ---- elementwise ---- */
/* all T */
void b2_act(b2_queue *q, b2_tensor *y, const b2_tensor *x, b2_act_fn fn);
void b2_act_bwd(b2_queue *q, b2_tensor *dx, const b2_tensor *dy, const b2_tensor *x, b2_act_fn fn);
void b2_glu(b2_queue *q, b2_tensor *y, const b2_tensor *gu, b2_act_fn fn, b2_drop drop);
void b2_glu_bwd(b2_queue *q, b2_tensor *dgu, const b2_tensor *dy, const b2_tensor *gu, b2_act_fn fn,
                b2_drop drop);
/* f32 → y's type, dropped on the way */
void b2_cast(b2_queue *q, b2_tensor *y, const b2_tensor *x, b2_drop drop);
void b2_add(b2_queue *q, b2_tensor *y, const b2_tensor *x); /* y += x, f32 */
void b2_zero(b2_queue *q, b2_tensor *y);
void b2_copy(b2_queue *q, b2_tensor *y, const b2_tensor *x);
/* Dropout of a tensor of `samples` equal parts; p == 0 does nothing (or copies/adds). */
void b2_dropout(b2_queue *q, b2_tensor *y, const b2_tensor *x, int samples, float p, uint32_t site);
void b2_dropout_add(b2_queue *q, b2_tensor *y, const b2_tensor *x, int samples, float p, uint32_t site,
                    float beta);

/* ---- attention: q, k, v, ctx and their gradients are T ---- */
void b2_attention(b2_queue *q, b2_tensor *ctx, float *lse, const b2_attn *a);
void b2_attention_bwd(b2_queue *q, b2_tensor *dq, b2_tensor *dk, b2_tensor *dv, float *dbias,
                      const b2_tensor *dctx, const float *lse, const b2_attn *a);
void b2_relbias(b2_queue *q, float *bias, const b2_param *table, int max_distance, bool bidirectional,
                int zero, int n);
void b2_relbias_bwd(b2_queue *q, const float *dbias, const b2_param *table, int max_distance,
                    bool bidirectional, int zero, int n);
/* A decoder's step, see attn_append: the new keys and values, columns k0.. and v0.. of kv, go into the
 * caches k and v at a->qpos; then one query an item. */
void b2_attention_append(b2_queue *q, b2_tensor *ctx, b2_tensor *k, b2_tensor *v, const b2_tensor *kv, int k0,
                         int v0, const b2_attn *a);

/* ---- embedding, patches ---- */
void b2_embed(b2_queue *q, b2_tensor *y, const b2_param *table, const b2_tensor *image, const int32_t *ids);
void b2_embed_bwd(b2_queue *q, const b2_param *table, b2_tensor *dimage, const b2_tensor *dy,
                  const int32_t *ids);
void b2_patchify(b2_queue *q, b2_tensor *y, const float *pixels, int batch, int size, int patch);
void b2_vit_embed(b2_queue *q, b2_tensor *x, const b2_tensor *patches, const b2_param *cls,
                  const b2_param *pos, int batch);
void b2_vit_embed_bwd(b2_queue *q, b2_tensor *dpatches, const b2_param *cls, const b2_param *pos,
                      const b2_tensor *dx, int batch);
void b2_tile(b2_queue *q, b2_tensor *y, const b2_param *x, int copies);
void b2_tile_bwd(b2_queue *q, const b2_param *x, const b2_tensor *dy, int copies);

/* ---- loss, choosing, optimizer ---- */
void b2_xent(b2_queue *q, float *row_loss, b2_tensor *logits, const int32_t *labels, bool want_grad);
void b2_argmax(b2_queue *q, int32_t *ids, float *logp, const b2_tensor *logits, const int32_t *forbid);
void b2_sum(b2_queue *q, double *out, const float *x, int64_t n);   /* out += */
void b2_sumsq(b2_queue *q, double *out, const float *x, int64_t n); /* out = */
/* gscale and finite of a step, where the kernels run */
void b2_step_scale(b2_queue *q, b2_step *step, const double *sums, const float *count, double clip);
void b2_adamw(b2_queue *q, float *w, const float *g, float *m, float *v, int64_t n, float decay);
#endif
