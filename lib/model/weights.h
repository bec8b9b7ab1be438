/* Binding the tensors of a checkpoint to a net. */
#ifndef B2_MODEL_WEIGHTS_H
#define B2_MODEL_WEIGHTS_H
#include "model/model.h"

/* Points every parameter of m->net at its tensor in m->file, in place where type and alignment allow, else
 * at a copy (m->copies). Missing tensors and wrong shapes are errors that name file and tensor. */
blip2_status b2_weights_bind(blip2_model *m, const blip2_model_options *o, blip2_error *e);
void b2_weights_free(blip2_model *m);
/* The tensor of the file behind a ref (aliases of the shared embedding included), or NULL. */
const b2_st_tensor *b2_weights_find(const b2_st_set *file, const char *name);
/* n elements of a stored tensor starting at `first`, as f32. BLIP2_OK or ERR_FORMAT for other dtypes. */
blip2_status b2_weights_read(const b2_st_tensor *t, int64_t first, int64_t n, float *out, blip2_error *e);
#endif
