/* The records of a training pass. */
#include <stdlib.h>
#include "model/tape.h"

b2_tape *b2_tape_new(const b2_config *c)
{
    b2_tape *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->vit = calloc((size_t)c->vit.layers, sizeof *t->vit);
    t->qf = calloc((size_t)c->qf.layers, sizeof *t->qf);
    t->enc = calloc((size_t)c->t5.enc_layers, sizeof *t->enc);
    t->dec = calloc((size_t)c->t5.dec_layers, sizeof *t->dec);
    if (t->vit && t->qf && t->enc && t->dec) return t;
    b2_tape_free(t);
    return NULL;
}

void b2_tape_free(b2_tape *t)
{
    if (!t) return;
    free(t->vit);
    free(t->qf);
    free(t->enc);
    free(t->dec);
    free(t);
}
