/* Activations, gated products, cast; body of act_tmpl_<isa>.c. */
#include "kernels/act.h"
#include "kernels/cpu/sweep.h"
#include "kernels/cpu/vdrop.h"
#include "kernels/cpu/vmath.h"

#define INV_SQRT_2PI 0.39894228040143267794f
/* gelu_new: 0.5 x (1 + tanh(u)) = x sigmoid(2u), 2u = x (GATE + GATE_CUBE x^2), GATE = 2 sqrt(2/pi) */
#define GATE      1.59576912160573071176f
#define GATE_REST -4.53406805e-08f /* what f32 drops of it */
#define GATE_CUBE 0.07135481282780026f

/* sigmoid(2u); in *rest what is left to 1, in *d the slope of 2u. 2u is kept to twice the digits: an error
 * in it is one of e^2u. */
static inline vf gate(vf x, vf *rest, vf *d)
{
    x = vmax(vset1(-16), vmin(vset1(16), x)); /* 0 and 1 beyond; NaN is the second operand */
    const vf c = vset1(GATE_CUBE), square = vmul(x, x), cubic = vmul(c, square),
             factor = vfma(c, square, vset1(GATE));
    const vf large = vmax(cubic, vset1(GATE)), small = vmin(cubic, vset1(GATE));
    const vf square_rest = vfma(x, x, vsub(vzero(), square)),
             cubic_rest = vfma(c, square, vsub(vzero(), cubic));
    const vf sum_rest = vsub(small, vsub(factor, large));
    const vf dropped = vadd(vadd(sum_rest, cubic_rest), vfma(c, square_rest, vset1(GATE_REST)));
    const vf t = vmul(x, factor), low = vfma(x, dropped, vfma(x, factor, vsub(vzero(), t)));
    *d = vfma(vset1(3), cubic, vset1(GATE));
    return vlogistic(vmul(vexp(vsub(vzero(), t)), vsub(vset1(1), low)), rest);
}

/* fn is a constant at every use */
static inline vf apply(const int fn, vf x)
{
    vf e, d;
    switch (fn) {
    case B2_RELU: return vmax(vzero(), x);
    case B2_GELU: return vmul(x, vnormal_cdf(x, &e));
    case B2_GELU_NEW: return vmul(x, gate(x, &e, &d));
    default: return vmul(x, vlogistic(vexp(vsub(vzero(), x)), &e));
    }
}

/* The slope of x s(t), s the sigmoid and d = dt/dx: s + x d s (1-s). */
static inline vf gated_slope(vf x, vf s, vf rest, vf d) { return vfma(vmul(vmul(x, d), s), rest, s); }

static inline vf slope(const int fn, vf x)
{
    vf e, d, s;
    switch (fn) {
    case B2_RELU: return vsel(vgt(x, vzero()), vset1(1), vzero());
    case B2_GELU: s = vnormal_cdf(x, &e); return vfma(vmul(x, vset1(INV_SQRT_2PI)), e, s);
    case B2_GELU_NEW: s = gate(x, &e, &d); return gated_slope(x, s, e, d);
    default: s = vlogistic(vexp(vsub(vzero(), x)), &e); return gated_slope(x, s, e, vset1(1));
    }
}

typedef struct act_job {
    act_t *y;
    const act_t *x;
    const float *from; /* of cast */
    const act_t *dy;
    act_t *dx;
    int64_t n;
    int fn, rows, f;
    const b2_step *step;
    b2_drop drop;
} act_job;

/* Calls the inline function with fn as a constant. */
#define BY_FN(fn, call)                                                                                      \
    do {                                                                                                     \
        switch (fn) {                                                                                        \
        case B2_RELU: call(B2_RELU); break;                                                                  \
        case B2_GELU: call(B2_GELU); break;                                                                  \
        case B2_GELU_NEW: call(B2_GELU_NEW); break;                                                          \
        default: call(B2_SILU); break;                                                                       \
        }                                                                                                    \
    } while (0)

static inline void fwd_span(const int fn, act_t *y, const act_t *x, int64_t n)
{
    SWEEP(n, aput(y + i, apply(fn, aget(x + i, len)), len));
}

static inline void bwd_span(const int fn, act_t *dx, const act_t *dy, const act_t *x, int64_t n)
{
    SWEEP(n, aput(dx + i, vmul(aget(dy + i, len), slope(fn, aget(x + i, len))), len));
}

/* The mask of a row; p 0: not to be used. */
typedef struct row_drop {
    bool drops;
    uint32_t first; /* number of its first element in the sample */
    vdrop mask;
} row_drop;

static inline row_drop row_drop_at(const act_job *j, int64_t row)
{
    const b2_drop *d = &j->drop;
    row_drop r = {.drops = d->p > 0};
    if (!r.drops) return r;
    r.first = (uint32_t)(row % d->rows * j->f);
    r.mask =
        vdrop_begin(b2_drop_key(j->step->seed, j->step->step, j->step->sample[row / d->rows], d->site), d->p);
    return r;
}

static inline vf dropped(const row_drop *r, vf v, int64_t i)
{
    return r->drops ? vdrop_apply(v, vdrop_factor(&r->mask, r->first + (uint32_t)i)) : v;
}

static inline void glu_row(const int fn, act_t *y, const act_t *g, int64_t n, const row_drop *r)
{
    SWEEP(n, aput(y + i, dropped(r, vmul(apply(fn, aget(g + i, len)), aget(g + n + i, len)), i), len));
}

static inline void glu_bwd_row(const int fn, act_t *dg, const act_t *dy, const act_t *g, int64_t n,
                               const row_drop *r)
{
    SWEEP(n, {
        const vf d = dropped(r, aget(dy + i, len), i);
        const vf gate = aget(g + i, len);
        const vf up = aget(g + n + i, len);
        aput(dg + i, vmul(vmul(d, up), slope(fn, gate)), len);
        aput(dg + n + i, vmul(d, apply(fn, gate)), len);
    });
}

static void fwd_task(void *ctx, int64_t chunk, int worker)
{
    const act_job *j = ctx;
    const int64_t at = chunk * SPAN, n = span_len(j->n, chunk);
    (void)worker;
#define CALL(fn) fwd_span(fn, j->y + at, j->x + at, n)
    BY_FN(j->fn, CALL);
#undef CALL
}

static void bwd_task(void *ctx, int64_t chunk, int worker)
{
    const act_job *j = ctx;
    const int64_t at = chunk * SPAN, n = span_len(j->n, chunk);
    (void)worker;
#define CALL(fn) bwd_span(fn, j->dx + at, j->dy + at, j->x + at, n)
    BY_FN(j->fn, CALL);
#undef CALL
}

static void glu_task(void *ctx, int64_t chunk, int worker)
{
    const act_job *j = ctx;
    const int step = rows_per_task(j->f);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        const row_drop drop = row_drop_at(j, r);
#define CALL(fn) glu_row(fn, j->y + r * j->f, j->x + 2 * r * j->f, j->f, &drop)
        BY_FN(j->fn, CALL);
#undef CALL
    }
}

static void glu_bwd_task(void *ctx, int64_t chunk, int worker)
{
    const act_job *j = ctx;
    const int step = rows_per_task(j->f);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        const row_drop drop = row_drop_at(j, r);
#define CALL(fn) glu_bwd_row(fn, j->dx + 2 * r * j->f, j->dy + r * j->f, j->x + 2 * r * j->f, j->f, &drop)
        BY_FN(j->fn, CALL);
#undef CALL
    }
}

static void cast_task(void *ctx, int64_t chunk, int worker)
{
    const act_job *j = ctx;
    const int step = rows_per_task(j->f);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        const row_drop drop = row_drop_at(j, r);
        const float *x = j->from + r * j->f;
        act_t *y = j->y + r * j->f;
        SWEEP(j->f, aput(y + i, dropped(&drop, vget(x + i, len), i), len));
    }
}

void TIER_FN(act_fwd)(b2_queue *q, void *y, const void *x, int64_t n, int fn)
{
    act_job j = {.y = y, .x = x, .n = n, .fn = fn};
    b2_pool_run(q->pool, spans(n), fwd_task, &j);
}

void TIER_FN(act_bwd)(b2_queue *q, void *dx, const void *dy, const void *x, int64_t n, int fn)
{
    act_job j = {.dx = dx, .dy = dy, .x = x, .n = n, .fn = fn};
    b2_pool_run(q->pool, spans(n), bwd_task, &j);
}

void TIER_FN(glu_fwd)(b2_queue *q, void *y, const void *gu, int rows, int f, int fn, b2_drop drop)
{
    act_job j = {.y = y, .x = gu, .rows = rows, .f = f, .fn = fn, .step = q->step, .drop = drop};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(f)), glu_task, &j);
}

void TIER_FN(glu_bwd)(b2_queue *q, void *dgu, const void *dy, const void *gu, int rows, int f, int fn,
                      b2_drop drop)
{
    act_job j = {.dx = dgu, .dy = dy, .x = gu, .rows = rows, .f = f, .fn = fn, .step = q->step, .drop = drop};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(f)), glu_bwd_task, &j);
}

void TIER_FN(cast)(b2_queue *q, void *y, const float *x, int rows, int cols, b2_drop drop)
{
    act_job j = {.y = y, .from = x, .rows = rows, .f = cols, .step = q->step, .drop = drop};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), cast_task, &j);
}
