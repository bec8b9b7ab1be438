/* One attention as cuDNN plans it: its unified operation, O = softmax(scale Q K^T) V of bf16 rows, with the
 * logarithm of each row's sum of exponentials (Stats) where it is wanted. No GPU is needed for it. */
#ifndef B2_KERNELS_CUDA_CUDNN_PLAN_H
#define B2_KERNELS_CUDA_CUDNN_PLAN_H
#include <stdbool.h>
#include "kernels/cuda/cudnn_api.h"

/* Rows as b2_attn has them: of tq queries and tk keys an item, ld elements apart; O is [batch*tq,
 * heads*dim]. Whole numbers only: a key of tables. */
typedef struct b2_dnn_shape {
    int64_t batch, heads, dim, tq, tk;
    int64_t ldq, ldk, ldv;
    int64_t stats; /* 1: f32 [batch, heads, tq] besides */
} b2_dnn_shape;
/* Unique ids of the graph's tensors, Q first; the scale is an f32 of the host's. */
enum { B2_DNN_Q = 1, B2_DNN_K, B2_DNN_V, B2_DNN_O, B2_DNN_SCALE, B2_DNN_STATS };
/* Which releases have the operation, and what a plan may want of workspace. */
enum { B2_DNN_LEAST_VERSION = 91300 /* 9.13 */, B2_DNN_WORKSPACE = 1 << 20 };
enum { B2_DNN_ALIGNED = 16 /* bytes, of all of them */, B2_DNN_DESCRIPTORS = 20 };

typedef struct b2_dnn_plan {
    void *made[B2_DNN_DESCRIPTORS]; /* all that were, the plan among them */
    int n;
    void *plan;         /* NULL: there is none */
    size_t workspace;   /* bytes it wants */
    const char *failed; /* where it ended; NULL: it did not */
    int code;           /* with which cudnnStatus_t */
} b2_dnn_plan;
/* The first engine that the library's heuristics name, takes the shape and wants at most `most` bytes. For
 * the GPU of a handle; handle NULL: for the one that `device` describes, a finished descriptor. */
void b2_dnn_plan_make(const b2_dnn_api *api, b2_dnn_plan *p, const b2_dnn_shape *s, void *handle,
                      void *device, size_t most);
void b2_dnn_plan_free(const b2_dnn_api *api, b2_dnn_plan *p);
#endif
