/* Features: the image tokens of one picture, kept and shared. */
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"

blip2_status b2_features_from(const float *tokens, int queries, int hidden, blip2_features **out,
                              blip2_error *e)
{
    const size_t bytes = (size_t)queries * (size_t)hidden * sizeof(float);
    blip2_features *f = malloc(sizeof *f + bytes);
    if (!f) return B2_NOMEM(e, "image features");
    f->refs = 1;
    f->tokens = queries;
    f->hidden = hidden;
    memcpy(f->data, tokens, bytes);
    *out = f;
    return BLIP2_OK;
}

blip2_features *b2_features_ref(blip2_features *f)
{
    if (f) f->refs++;
    return f;
}

void blip2_features_close(blip2_features *f)
{
    if (f && --f->refs == 0) free(f);
}

const float *blip2_features_data(const blip2_features *f, int *tokens, int *hidden)
{
    if (!f) return NULL;
    if (tokens) *tokens = f->tokens;
    if (hidden) *hidden = f->hidden;
    return f->data;
}
