/* Quantising rows and reading them back; body of quantise_tmpl_<isa>.c. Inside the pool numbers below the
 * normal range are 0, as the formulas want it. */
#include "kernels/act.h"
#include "kernels/cpu/gemm_quant.h"
#include "kernels/cpu/sweep.h"
#include "kernels/quantise_rule.h"

enum { TASK_GROUPS = SPAN / B2_I4_GROUP, WORDS = 16, GROUP_BYTES = 2 * WORDS }; /* of an int4 group */

typedef struct quantise_job {
    const act_t *x;
    char *w, *scale;
    int rows, cols;
    int64_t groups;
} quantise_job;

/* ---- int8 ---------------------------------------------------------------------------------------------- */

static void i8_row(int8_t *w, float *scale, const act_t *x, int n)
{
    vf tops = vzero(), zeros = vzero(); /* zeros becomes NaN where x is not finite */
    SWEEP(n, {
        const vf v = aget(x + i, len);
        tops = vmax(tops, vabs(v));
        zeros = vfma(v, vzero(), zeros);
    });
    const bool finite = vnanbits(zeros) == 0;
    const float top = vhmax(tops);
    const bool some = finite && top >= B2_I8_LEAST;
    *scale = some ? top / 127 : finite ? 0 : NAN;
    if (!some) {
        memset(w, 0, (size_t)n);
        return;
    }
    const vf inverse = vset1(127 / top);
    SWEEP(n, vi8_store(w + i, vint(vmul(aget(x + i, len), inverse)), len));
}

static void i8_task(void *ctx, int64_t chunk, int worker)
{
    const quantise_job *j = ctx;
    const int step = rows_per_task(j->cols);
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++)
        i8_row((int8_t *)j->w + r * j->cols, (float *)(void *)j->scale + r, j->x + r * j->cols, j->cols);
}

void TIER_FN(quantise_i8)(b2_queue *q, int8_t *w, float *scale, const void *x, int rows, int cols)
{
    quantise_job j = {.x = x, .w = (char *)w, .scale = (char *)scale, .rows = rows, .cols = cols};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), i8_task, &j);
}

/* ---- int4: a lane for each of VL groups, so that a lane's sum runs along its columns in order ---------- */

typedef struct lanes {
    vf col[B2_I4_GROUP];
    vm finite; /* which groups are */
} lanes;

static inline void load_columns(vf *col, const act_t *x, int n)
{
    for (int p = 0; p < B2_I4_GROUP; p += VL) {
        for (int g = 0; g < VL; g++) col[p + g] = g < n ? aget(x + g * B2_I4_GROUP + p, VL) : vzero();
        vtranspose(col + p);
    }
}

static inline vf five_bits(vf x)
{
    const vi u = vbits(x), odd = viand(visrl(u, 19), viset1(1));
    return vfrom_bits(viand(viadd(viadd(u, odd), viset1(0x3FFFF)), viset1(0xFFF80000u)));
}

static inline vf nearest(vf x, vf inverse)
{
    return vmax(vset1(-8), vmin(vset1(7), vround(vmul(x, inverse))));
}

static inline vd2 group_errors(const vf *col, vf scale)
{
    const vf inverse = vdiv(vset1(1), scale);
    vd2 sum = vd2_zero();
    for (int c = 0; c < B2_I4_GROUP; c++) /* vd2_addsq: the square is exact, whether fused or not */
        sum = vd2_addsq(sum, vsub(vmul(scale, nearest(col[c], inverse)), col[c]));
    return sum;
}

static inline vf best_scales(const vf *col, vf top)
{
    static const float steps[] = {B2_I4_STEPS};
    vf best = vzero();
    vd2 least = vd2_set1(INFINITY);
    for (int i = 0; i < B2_I4_TRIES; i++) {
        const vf scale = five_bits(vdiv(top, vset1(steps[i])));
        const vd2 error = group_errors(col, scale);
        best = vsel(vd2_lt(error, least), scale, best);
        least = vd2_min(error, least);
    }
    return vsel(vgt(vset1(B2_I4_LEAST), vabs(top)), vzero(), best);
}

/* Bits 4k.. of word l of every group, shifted down: column 16k+l. */
static inline vi nibbles(const lanes *g, int l, int k, vf inverse)
{
    return viand(vint(vsel(g->finite, nearest(g->col[16 * k + l], inverse), vzero())), viset1(15));
}

static inline vi word_of(const lanes *g, int l, vf inverse)
{
    const vi low = viadd(nibbles(g, l, 0, inverse), visll(nibbles(g, l, 1, inverse), 4));
    const vi high = viadd(nibbles(g, l, 2, inverse), visll(nibbles(g, l, 3, inverse), 4));
    return viadd(low, visll(high, 8));
}

/* n <= VL groups that follow each other. */
static void quantise_groups(char *w, char *scale, const act_t *x, int n)
{
    lanes g;
    uint16_t halves[VL];
    vf top = vzero(), zeros = vzero();
    load_columns(g.col, x, n);
    for (int c = 0; c < B2_I4_GROUP; c++) {
        top = vsel(vgt(vabs(g.col[c]), vabs(top)), g.col[c], top);
        zeros = vfma(g.col[c], vzero(), zeros);
    }
    g.finite = vgt(vset1(1), zeros); /* NaN where it is not */
    const vf best = best_scales(g.col, top);
    const vf inverse = vsel(vgt(vabs(best), vzero()), vdiv(vset1(1), best), vzero());
    vi16_store(halves, visrl(vbits(vsel(g.finite, best, vset1(NAN))), 16));
    memcpy(scale, halves, (size_t)n * sizeof *halves);
    for (int p = 0; p < WORDS; p += VL) {
        vf r[VL];
        for (int i = 0; i < VL; i++) r[i] = vfrom_bits(word_of(&g, p + i, inverse));
        vtranspose(r);
        for (int i = 0; i < n; i++) vi16_store(w + i * GROUP_BYTES + 2 * p, vbits(r[i]));
    }
}

static void i4_task(void *ctx, int64_t chunk, int worker)
{
    const quantise_job *j = ctx;
    const int64_t end = (chunk + 1) * TASK_GROUPS < j->groups ? (chunk + 1) * TASK_GROUPS : j->groups;
    (void)worker;
    for (int64_t g = chunk * TASK_GROUPS; g < end; g += VL)
        quantise_groups(j->w + g * GROUP_BYTES, j->scale + g * 2, j->x + g * B2_I4_GROUP,
                        end - g < VL ? (int)(end - g) : VL);
}

void TIER_FN(quantise_i4)(b2_queue *q, void *w, uint16_t *scale, const void *x, int rows, int cols)
{
    quantise_job j = {.x = x, .w = w, .scale = (char *)scale};
    j.groups = (int64_t)rows * (cols / B2_I4_GROUP);
    b2_pool_run(q->pool, (j.groups + TASK_GROUPS - 1) / TASK_GROUPS, i4_task, &j);
}

/* ---- back ---------------------------------------------------------------------------------------------- */

typedef struct read_job {
    act_t *y;
    const char *w, *scale;
    int rows, cols;
} read_job;

static inline void read_rows(const read_job *j, const b2_dtype wf, int64_t chunk)
{
    const int step = rows_per_task(j->cols);
    const size_t bytes = b2_row_bytes(wf, j->cols), scales = b2_scale_bytes(wf, j->cols);
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) {
        const quant_row row = {j->w + (size_t)r * bytes, j->scale + (size_t)r * scales};
        act_t *y = j->y + r * j->cols;
        SWEEP(j->cols, aput(y + i, load_quant(&row, wf, (int)i, len), len));
    }
}

static void read_i8_task(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    read_rows(ctx, B2_I8, chunk);
}

static void read_i4_task(void *ctx, int64_t chunk, int worker)
{
    (void)worker;
    read_rows(ctx, B2_I4, chunk);
}

void TIER_FN(dequantise_i8)(b2_queue *q, void *y, const int8_t *w, const float *scale, int rows, int cols)
{
    read_job j = {y, (const char *)w, (const char *)scale, rows, cols};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), read_i8_task, &j);
}

void TIER_FN(dequantise_i4)(b2_queue *q, void *y, const void *w, const uint16_t *scale, int rows, int cols)
{
    read_job j = {y, w, (const char *)scale, rows, cols};
    b2_pool_run(q->pool, b2_cuts(rows, rows_per_task(cols)), read_i4_task, &j);
}
