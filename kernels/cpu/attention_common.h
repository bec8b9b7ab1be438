/* What attention's forward and backward share: one head of one item, its packed keys and values, its score
 * rows. Included after a simd header. */
#ifndef B2_KERNELS_CPU_ATTENTION_COMMON_H
#define B2_KERNELS_CPU_ATTENTION_COMMON_H
#include <math.h>
#include "kernels/act.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/sweep.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vdrop.h"
#include "kernels/cpu/vmath.h"

enum { QUERIES = 48 }; /* query rows that share a block of scores */

typedef struct head {
    const b2_attn *a;
    int b, h, keys, at; /* keys that any row may see; position of query row 0 */
    const act_t *q, *k, *v;
    const float *bias; /* of relative position 0, or NULL */
    vdrop drop;
} head;

static inline head head_at(const b2_queue *q, const b2_attn *a, int64_t chunk)
{
    head r = {.a = a, .b = (int)(chunk / a->heads), .h = (int)(chunk % a->heads)};
    const size_t column = (size_t)r.h * (size_t)a->dim,
                 first = (size_t)(a->kvrow ? a->kvrow[r.b] : r.b) * (size_t)a->krows;
    r.at = a->qpos ? a->qpos[r.b] : 0;
    r.keys = a->klen && a->klen[r.b] < a->tk ? a->klen[r.b] : a->tk;
    if (r.keys < 0) r.keys = 0;
    r.q = (const act_t *)a->q + (size_t)r.b * (size_t)a->tq * (size_t)a->ldq + column;
    r.k = (const act_t *)a->k + first * (size_t)a->ldk + column;
    r.v = (const act_t *)a->v + first * (size_t)a->ldv + column;
    if (a->bias) r.bias = a->bias + (size_t)r.h * (size_t)a->ldbias + a->bias0;
    if (a->drop > 0)
        r.drop =
            vdrop_begin(b2_drop_key(q->step->seed, q->step->step, q->step->sample[r.b], a->site), a->drop);
    return r;
}

/* Keys that query row i sees. */
static inline int visible(const head *r, int i)
{
    const int n = r->at + i + 1;
    if (!r->a->causal || n >= r->keys) return r->keys;
    return n > 0 ? n : 0;
}

/* Distance of score rows. */
static inline size_t score_ld(const b2_attn *a) { return (size_t)panel_width(a->tk > 0 ? a->tk : 1); }

/* All panels of n rows turned, or of n columns straight; k long. Panel p lies at p*NR*k. */
static inline void pack_all_turned(float *dst, const act_t *src, int ld, int n, int k)
{
    for (int c = 0; c < n; c += NR)
        pack_turned(dst + (size_t)c * (size_t)k, (const char *)(src + (size_t)c * (size_t)ld),
                    (size_t)ld * sizeof *src, (b2_dtype)B2_ACT, n - c < NR ? n - c : NR, k);
}

static inline void pack_all_straight(float *dst, const void *src, b2_dtype type, int ld, int n, int k)
{
    pack_straight_from(dst, (size_t)k * NR, 0, src, (size_t)ld * b2_dtype_size(type), type, n, k);
}

/* `rows` rows of dim columns, lds apart, as f32; *ld their distance: as they lie, or widened into `room`. */
static inline const float *rows_f32(float *room, const act_t *from, int lds, int rows, int dim, ptrdiff_t *ld)
{
#if B2_ACT == 0
    (void)room, (void)rows, (void)dim;
    *ld = lds;
    return from;
#else
    *ld = dim;
    widen_rows(room, (size_t)dim, from, (size_t)lds, rows, dim);
    return room;
#endif
}

/* C[m, n] = alpha * A B for the first n of `all` packed columns, and for the rest of the last panel. */
static inline void product(const b2_tile *t, int m, int n, int all)
{
    b2_tile u = *t;
    for (int c = 0; c < n; c += NR) {
        u.b = t->b + (size_t)c * (size_t)t->k;
        u.c = t->c + c;
        ISA_FN(tile)(m, all - c < NR ? all - c : NR, &u);
    }
}

/* Adds the bias to a row's scores; returns the largest. */
static inline float bias_and_top(const head *r, float *s, int row, int n)
{
    const float *bias = r->bias ? r->bias - (r->at + row) : NULL;
    vf top = vset1(-INFINITY);
    SWEEP(n, {
        vf v = vget(s + i, len);
        if (bias) {
            v = vadd(v, vget(bias + i, len));
            vput(s + i, v, len);
        }
        top = vmax(len == VL ? v : vsel(vtail(len), v, vset1(-INFINITY)), top);
    });
    return vhmax(top);
}

static inline uint32_t drop_element(const head *r, int row)
{
    return (uint32_t)r->h << 24 | (uint32_t)row << 12;
}

static inline void clear_floats(float *p, size_t n) { memset(p, 0, n * sizeof *p); }
#endif
