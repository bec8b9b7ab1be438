/* The choke point: what every op does before and after its kernel. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/half.h"
#include "op/op_core.h"

b2_tensor b2_cols(const b2_tensor *x, int c0, int cols)
{
    b2_tensor y = *x;
    y.p = (char *)x->p + (size_t)c0 * b2_dtype_size(x->type);
    y.cols = cols;
    return y;
}

b2_tensor b2_rows_of(const b2_tensor *x, int r0, int rows)
{
    b2_tensor y = *x;
    y.p = (char *)x->p + (size_t)r0 * (size_t)x->ld * b2_dtype_size(x->type);
    y.rows = rows;
    return y;
}

b2_tensor b2_new(b2_queue *q, b2_arena *a, b2_dtype t, int rows, int cols)
{
    const size_t bytes = (size_t)rows * (size_t)cols * b2_dtype_size(t);
    b2_tensor x = b2_view(b2_arena_take(a, bytes), t, rows, cols);
    if (!x.p)
        b2_queue_fail(q, BLIP2_ERR_MEMORY,
                      "%s: the planned memory of %zu bytes does not hold %d x %d more (a planning error)",
                      q->where[0] ? q->where : "arena", a->cap, rows, cols);
    return x;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool b2_op_begin(b2_op *o, b2_queue *q, const char *name, bool ok, const char *fmt, ...)
{
    if (b2_queue_failed(q)) return false;
    o->q = q;
    o->name = name;
    o->mark = b2_arena_mark(q->scratch);
    if (!ok) {
        char shape[160];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(shape, sizeof shape, fmt, ap);
        va_end(ap);
        b2_queue_fail(q, BLIP2_ERR_SHAPE, "%s%s%s: shapes or types do not fit: %s", q->where,
                      q->where[0] ? ": " : "", name, shape);
        return false;
    }
    o->start = q->trace && !q->dry ? now() : 0;
    return true;
}

void *b2_op_ws(b2_op *o, size_t bytes)
{
    if (!bytes) return NULL;
    void *p = b2_arena_take(o->q->scratch, bytes);
    if (!p)
        b2_queue_fail(o->q, BLIP2_ERR_MEMORY,
                      "%s: workspace of %zu bytes is not in the plan (a planning error)", o->name, bytes);
    return p;
}

bool b2_op_launch(b2_op *o)
{
    if (!o->q->dry && !b2_queue_failed(o->q)) return true;
    b2_arena_release(o->q->scratch, o->mark);
    return false;
}

/* First non-finite element of a dense or strided tensor of the host, as its flat index; -1 when there is
 * none. */
static int64_t find_bad(const b2_tensor *t)
{
    for (int i = 0; i < t->rows; i++) {
        for (int j = 0; j < t->cols; j++) {
            const size_t at = (size_t)i * (size_t)t->ld + (size_t)j;
            const float v =
                t->type == B2_F32 ? ((const float *)t->p)[at] : b2_bf16_to_f32(((const b2_bf16 *)t->p)[at]);
            if (!isfinite(v)) return (int64_t)i * t->cols + j;
        }
    }
    return -1;
}

/* The same of a tensor where the kernels run: only looked at to name what went wrong, so a copy may be
 * made. */
static int64_t fetch_bad(b2_queue *q, const b2_tensor *t)
{
    b2_tensor copy = *t;
    if (!q->device || b2_device_is_host(q->device) || t->rows == 0) return find_bad(t);
    const size_t bytes = ((size_t)(t->rows - 1) * (size_t)t->ld + (size_t)t->cols) * b2_dtype_size(t->type);
    copy.p = malloc(bytes ? bytes : 1);
    if (!copy.p) return -1;
    b2_download(q, copy.p, t->p, bytes);
    const int64_t bad = b2_queue_failed(q) ? -1 : find_bad(&copy);
    free(copy.p);
    return bad;
}

void b2_op_look(b2_op *o, const b2_tensor *out)
{
    b2_queue *q = o->q;
    if (!q->check_finite || !out || !out->p) return;
    const int64_t bad = fetch_bad(q, out);
    if (bad >= 0)
        b2_queue_fail(q, BLIP2_ERR_NONFINITE,
                      "%s%s%s: element [%lld, %lld] of its %d x %d result is not finite", q->where,
                      q->where[0] ? ", " : "", o->name, (long long)(bad / out->cols),
                      (long long)(bad % out->cols), out->rows, out->cols);
}

void b2_op_end(b2_op *o, const b2_tensor *out)
{
    b2_queue *q = o->q;
    b2_arena_release(q->scratch, o->mark);
    if (q->trace && out) {
        char shape[48];
        snprintf(shape, sizeof shape, "%dx%d", out->rows, out->cols);
        q->trace(q->trace_user, o->name, shape, (size_t)b2_numel(out) * b2_dtype_size(out->type),
                 now() - o->start);
    }
    b2_op_look(o, out);
}
