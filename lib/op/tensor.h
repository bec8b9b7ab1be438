/* A tensor is a view: rows x cols, contiguous rows with a leading dimension. Nobody owns memory through
 * it. */
#ifndef B2_OP_TENSOR_H
#define B2_OP_TENSOR_H
#include "device/device.h"

typedef struct b2_tensor {
    void *p;
    b2_dtype type;
    int rows, cols, ld; /* ld in elements; ld == cols where a kernel wants contiguous rows */
} b2_tensor;

static inline b2_tensor b2_view(void *p, b2_dtype t, int rows, int cols)
{
    b2_tensor x = {p, t, rows, cols, cols};
    return x;
}
static inline b2_tensor b2_view_f32(float *p, int rows, int cols) { return b2_view(p, B2_F32, rows, cols); }
/* Columns c0..c0+cols-1 of x. */
b2_tensor b2_cols(const b2_tensor *x, int c0, int cols);
/* Rows r0..r0+rows-1 of x. */
b2_tensor b2_rows_of(const b2_tensor *x, int r0, int rows);
/* Taken from an arena (scratch or saved); data undefined. A failed take makes the queue fail. */
b2_tensor b2_new(b2_queue *q, b2_arena *a, b2_dtype t, int rows, int cols);
static inline b2_tensor b2_scratch(b2_queue *q, b2_dtype t, int rows, int cols)
{
    return b2_new(q, q->scratch, t, rows, cols);
}

/* A parameter of the model as layers see it: a view of its bytes and, when it trains, of its gradient. */
typedef struct b2_param {
    const void *p;
    b2_dtype type;
    int rows, cols;    /* vectors: rows = 1 */
    float *g;          /* gradient (accumulated), NULL: not wanted */
    const void *scale; /* of I8 and I4, see b2_rows */
} b2_param;
#endif
