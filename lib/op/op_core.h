/* Shared by the op files: opening an op (status, dry run, trace) and closing it (finite check). */
#ifndef B2_OP_OP_CORE_H
#define B2_OP_OP_CORE_H
#include "op/op.h"

typedef struct b2_op {
    b2_queue *q;
    const char *name;
    double start;
    size_t mark; /* of the scratch arena: workspaces are released when the op ends */
} b2_op;

/* False when the op must not run: the queue failed, `ok` is false (recorded with name and shape), or a dry
 * run (`plan` then counts the workspace first). Every op that returns true from begin ends with b2_op_end. */
bool b2_op_begin(b2_op *o, b2_queue *q, const char *name, bool ok, const char *fmt, ...) B2_PRINTF(5, 6);
/* Workspace of the op; call it between begin and the launch. In a dry run it only counts. */
void *b2_op_ws(b2_op *o, size_t bytes);
/* Dry: releases and returns false; else true: launch now. */
bool b2_op_launch(b2_op *o);
/* Ends the op; out (or NULL) is looked at when the queue checks for non-finite values. */
void b2_op_end(b2_op *o, const b2_tensor *out);
/* The same look at one more output (p NULL: none); after b2_op_end. */
void b2_op_look(b2_op *o, const b2_tensor *out);

static inline int64_t b2_numel(const b2_tensor *t) { return (int64_t)t->rows * t->cols; }
static inline bool b2_is(const b2_tensor *t, int rows, int cols)
{
    return t->rows == rows && t->cols == cols;
}
static inline bool b2_same(const b2_tensor *a, const b2_tensor *b) { return b2_is(a, b->rows, b->cols); }
static inline bool b2_dense(const b2_tensor *t) { return t->ld == t->cols || t->rows <= 1; }
static inline bool b2_f32(const b2_tensor *t) { return t->type == B2_F32; }
static inline const char *b2_type_of(const b2_tensor *t) { return b2_f32(t) ? "f32" : "bf16"; }
static inline b2_in b2_in_of(const b2_tensor *x) { return (b2_in){x->p, x->ld, x->type}; }
/* May a kernel of `type`'s table read this, or write it? */
static inline bool b2_sum_or(const b2_tensor *t, b2_dtype type) { return b2_f32(t) || t->type == type; }
static inline b2_out b2_out_of(const b2_tensor *y) { return (b2_out){y->p, y->ld, y->type}; }
#endif
