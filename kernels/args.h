/* What kernels are handed besides numbers and pointers: plain structs, the same in C and in CUDA C++. */
#ifndef B2_KERNELS_ARGS_H
#define B2_KERNELS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { B2_F32 = 0, B2_BF16 = 1 } b2_dtype; /* also the index of a table */
static inline size_t b2_dtype_size(b2_dtype t) { return t == B2_F32 ? 4 : 2; }

typedef enum { B2_RELU, B2_GELU, B2_GELU_NEW, B2_SILU } b2_act_fn;

/* A block of weight rows where they lie: n rows of k elements. */
typedef struct b2_rows {
    const void *w;
    const float *bias; /* [n] or NULL */
    int n;
} b2_rows;

enum { B2_MAX_ADAPTERS = 8 }; /* of one call */

/* One adapter's A [r,k] and B [n,r] for a weight block; r == 0: this adapter has nothing here. */
typedef struct b2_lora_ab {
    const float *a, *b;
    int r;
    float scale;
} b2_lora_ab;

/* Multi-head attention of `batch` items with tq query rows each. Query row i of item b is row b*tq+i of q;
 * head h is its columns h*dim... Key row j of item b is row kvrow(b)*krows + j of k and v. */
typedef struct b2_attn {
    const float *q, *k, *v;
    int ldq, ldk, ldv;
    int batch, heads, dim, tq, tk; /* tk: keys looked at, at most krows */
    int krows;
    float scale;
    const float
        *bias; /* [heads, ldbias] by relative position, or NULL; column bias0 is relative position 0 */
    int ldbias, bias0;
    const int32_t *klen;  /* [batch] visible keys of item b, or NULL: tk */
    const int32_t *qpos;  /* [batch] position of query row 0, or NULL: 0 */
    const int32_t *kvrow; /* [batch] item whose keys are used, or NULL: b */
    bool causal;
    float drop; /* probability; 0: none */
    uint32_t site;
} b2_attn;

/* What changes from step to step; lives where the kernels run. */
typedef struct b2_step {
    uint64_t seed, step;
    const uint64_t *sample; /* global index of each sample of the batch */
    float lr, beta1, beta2, eps, weight_decay, c1, c2;
    float gscale; /* 1/tokens and the clip factor in one */
    int32_t finite;
} b2_step;

#endif
