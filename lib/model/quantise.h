/* int8 and int4 weights: making them, reading them back, and which matrices take part. */
#ifndef B2_MODEL_QUANTISE_H
#define B2_MODEL_QUANTISE_H
#include "base/pool.h"
#include "model/net.h"

/* Row o of any parameter as f32. */
void b2_param_row(const b2_param *p, int64_t o, float *row);
/* n rows from row `first` on, by the kernels of a host queue. */
blip2_status b2_param_rows(b2_queue *q, const b2_param *p, int64_t first, int n, float *rows, blip2_error *e);

/* Fills to->p (rows of b2_row_bytes) and to->scale (rows of b2_scale_bytes) in to's type, I8 or I4, from the
 * rows of `from`, f32 or bf16, of the same shape, by the host's kernels (quantise_i8, quantise_i4). name: for
 * the error when a value is not finite. change: what that did is added to it; or NULL. */
typedef struct b2_change {
    double error, size; /* sums of (new - old)^2 and old^2 */
} b2_change;
blip2_status b2_quantise(b2_pool *pool, const char *name, const b2_param *from, const b2_param *to,
                         b2_change *change, blip2_error *e);

/* Can this tensor be stored as `type`? Linear layers' weights, the patch embedding aside; int4: whole
 * groups. */
bool b2_may_quantise(const b2_net *n, const b2_param_ref *r, b2_dtype type);
/* May it, is it there, wide, no twin of the embedding, and not listed in `keep` (NULL: BLIP2_KEEP_WIDE)?
 * And all other blocks of its linear too: they have one format. */
bool b2_wants_quantising(const b2_net *n, const b2_param_ref *r, b2_dtype type, const char *keep);
/* Is one of the names in `list` ("wo,lm_head") a part of the tensor's name between dots? */
bool b2_name_listed(const char *tensor, const char *list);
/* The kind a tensor is reported under, names for such a list: "qformer", "q,k,v", "wi_0,wi_1" (what shares a
 * linear somewhere), else its module's last name. */
void b2_kind_of(const b2_param_ref *r, char *kind, size_t size);

/* Names of what lies beside a quantised "….weight": "….SCB" (int8, f32 [rows]: the largest of each row, as
 * bitsandbytes stores it), "….weight_scale" (int4, bf16 [rows, cols/64]). */
void b2_scale_name(const char *tensor, b2_dtype type, char *name, size_t size);
#endif
