/* Sessions on any net: the model's own, or a trainer's (evaluation while training). */
#ifndef B2_INFER_SESSION_H
#define B2_INFER_SESSION_H
#include "blip2/session.h"
#include "model/lora.h"
#include "model/model.h"

/* Like blip2_session_open, with parameters (and adapters already attached to it) viewed from `net` instead
 * of the model's. net must outlive the session; when it has slots, adapter 0 is its only adapter and rows
 * use index 0. */
blip2_status b2_session_open_net(const blip2_model *m, const b2_net *net, const blip2_session_options *o,
                                 blip2_session **out, blip2_error *e);
/* Features from ready tokens [queries, d] (copied), e.g. out of a feature cache. */
blip2_status b2_features_from(const float *tokens, int queries, int hidden, blip2_features **out,
                              blip2_error *e);
#endif
