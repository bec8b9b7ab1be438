/* The model behind blip2_model, and exporting one. */
#ifndef B2_MODEL_MODEL_H
#define B2_MODEL_MODEL_H
#include "blip2/adapter.h"
#include "image/image.h"
#include "io/safetensors.h"
#include "model/net.h"

struct blip2_model {
    _Atomic int refs;
    blip2_device *device;
    char *dir;
    b2_config config;
    b2_net *net; /* in the host's memory: no dropout, no adapters, no gradients */
    b2_net *run; /* the same where the kernels run; net itself where that is the host */
    void *block; /* run's weights on a GPU */
    size_t block_bytes;
    b2_dtype act; /* T: the mode */
    b2_st_set *file;
    void **copies; /* tensors that could not be used in place */
    size_t *copy_bytes;
    int n_copies;
    size_t weight_bytes;
    b2_preprocess prep;
    blip2_tokenizer *tok;  /* NULL when the folder has none */
    _Atomic uint64_t hash; /* 0: not asked for yet */
};
/* Of config and weights (names, shapes, bytes sampled): keys caches and checkpoints. Made when first asked
 * for: it reads from all over the file. Any thread. */
uint64_t b2_model_hash(const blip2_model *m);
blip2_model *b2_model_ref(blip2_model *m);
/* Fills run from net; gives it back. */
blip2_status b2_model_place(blip2_model *m, blip2_error *e);
void b2_model_unplace(blip2_model *m);

/* Writes a model folder from a net (any mix of dtypes and owners): every tensor of net->ref, in `dtype`
 * (FILE: as the original file has it, else as the view is), config.json, tokenizer and processor files
 * copied from m's folder. add (may be NULL): adds an adapter's scale*B*A first. */
blip2_status b2_model_write(const blip2_model *m, const b2_net *net, const blip2_adapter *add,
                            blip2_dtype dtype, const char *dir, blip2_error *e);
#endif
