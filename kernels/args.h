/* What kernels are handed besides numbers and pointers: plain structs, the same in C and in CUDA C++. */
#ifndef B2_KERNELS_ARGS_H
#define B2_KERNELS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define B2_ANYWHERE __host__ __device__
#else
#define B2_ANYWHERE
#endif

/* F32 and BF16: also the index of a table. I8 and I4: weights alone, see b2_rows. */
typedef enum { B2_F32 = 0, B2_BF16 = 1, B2_I8 = 2, B2_I4 = 3 } b2_dtype;
enum { B2_I4_GROUP = 64 }; /* columns that share a scale */
static inline size_t b2_dtype_size(b2_dtype t) { return t == B2_F32 ? 4 : 2; } /* of activations */
/* Bytes of a row of cols elements; I4: cols is a multiple of the group. */
static inline size_t b2_row_bytes(b2_dtype t, int cols)
{
    const size_t n = (size_t)cols;
    return t == B2_I8 ? n : t == B2_I4 ? n / 2 : n * b2_dtype_size(t);
}
/* Bytes of a row's scales. */
static inline size_t b2_scale_bytes(b2_dtype t, int cols)
{
    return t == B2_I8 ? sizeof(float) : t == B2_I4 ? (size_t)(cols / B2_I4_GROUP) * 2 : 0;
}
/* Column c of an I4 row: a group is 16 little-endian words of 16 bits; word l holds columns l, 16+l, 32+l,
 * 48+l, the first in its lowest four bits, each in two's complement. */
B2_ANYWHERE static inline int b2_i4_get(const void *row, int c)
{
    const unsigned char *p = (const unsigned char *)row + c / 64 * 32 + c % 16 * 2;
    const unsigned word = p[0] | (unsigned)p[1] << 8;
    return (int)((word >> c % 64 / 16 * 4 & 15) ^ 8) - 8;
}

/* Dropout inside another kernel: of rows, `rows` of them a sample. p: the probability; 0: none. */
typedef struct b2_drop {
    float p;
    uint32_t site;
    int rows;
} b2_drop;

typedef enum { B2_RELU, B2_GELU, B2_GELU_NEW, B2_SILU } b2_act_fn;

/* A block of weight rows where they lie: n rows of k elements. */
typedef struct b2_rows {
    const void *w;
    const float *bias; /* [n] or NULL */
    int n;
    const void *scale; /* I8: f32 [n]; I4: bf16 [n, k/64]; else NULL */
} b2_rows;

/* Where a product's rows go, ld elements apart. type: F32, or the table's T: each sum is rounded once. */
typedef struct b2_out {
    void *p;
    int ld;
    b2_dtype type;
} b2_out;

/* A gradient that a product reads, rows ld elements apart. type: F32, or the table's T. */
typedef struct b2_in {
    const void *p;
    int ld;
    b2_dtype type;
} b2_in;

enum { B2_MAX_ADAPTERS = 8 }; /* of one call */

/* One adapter's A [r,k] and B [n,r] for a weight block; r == 0: this adapter has nothing here. */
typedef struct b2_lora_ab {
    const float *a, *b;
    int r;
    float scale;
} b2_lora_ab;

/* The adapters of one weight block: columns c0.. of y, n of them. */
typedef struct b2_lora_block {
    b2_lora_ab ab[B2_MAX_ADAPTERS];
    int c0, n;
    float *u;       /* a x, [m, r of ab[0]]: kept by the forward, read by the backward; NULL: not kept */
    float *ga, *gb; /* gradients of ab[0]'s a and b; NULL: not wanted */
    float drop;     /* of x before a meets it: probability; 0: none */
    uint32_t site;
} b2_lora_block;

/* The adapted blocks of a linear layer: they share x [m,k], m = items*per_item, and lie in the same y. */
typedef struct b2_lora {
    b2_lora_block block[3];
    int blocks;
    const int32_t *which; /* [items] adapter of each item, -1: none; NULL: the first for all */
    int items, per_item, k;
} b2_lora;

/* Multi-head attention of `batch` items with tq query rows each; q, k and v have type T. Query row i of item
 * b is row b*tq+i of q; head h is its columns h*dim... Key row j of item b is row kvrow(b)*krows + j of k
 * and v. */
typedef struct b2_attn {
    const void *q, *k, *v;
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
