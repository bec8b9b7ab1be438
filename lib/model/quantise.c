/* Quantising rows, and reading them back. */
#include "model/quantise.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "model/model.h"

enum { TASK_ROWS = 16 };

static const char *row_of(const b2_param *p, int64_t o)
{
    return (const char *)p->p + (size_t)o * b2_row_bytes(p->type, p->cols);
}

static float group_scale(const b2_param *p, int64_t o, int group)
{
    b2_bf16 s;
    const int64_t at = o * (p->cols / B2_I4_GROUP) + group;
    memcpy(&s, (const char *)p->scale + at * (int64_t)sizeof s, sizeof s);
    return b2_bf16_to_f32(s);
}

void b2_param_row(const b2_param *p, int64_t o, float *row)
{
    const char *from = row_of(p, o);
    float scale = 0;
    if (p->type == B2_F32) memcpy(row, from, (size_t)p->cols * sizeof *row);
    if (p->type == B2_I8) memcpy(&scale, (const char *)p->scale + o * (int64_t)sizeof scale, sizeof scale);
    for (int c = 0; c < p->cols && p->type != B2_F32; c++) {
        b2_bf16 h;
        switch (p->type) {
        case B2_I8: row[c] = scale * (float)((const int8_t *)from)[c]; break;
        case B2_I4: row[c] = group_scale(p, o, c / B2_I4_GROUP) * (float)b2_i4_get(from, c); break;
        default: memcpy(&h, from + (size_t)c * sizeof h, sizeof h); row[c] = b2_bf16_to_f32(h);
        }
    }
}

/* ---- int8 ---------------------------------------------------------------------------------------------- */

static float largest(const float *x, int n)
{
    float top = 0;
    for (int i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return top;
}

static void int8_row(const float *row, int n, int8_t *q, float *scale)
{
    const float top = largest(row, n);
    *scale = top / 127;
    for (int i = 0; i < n; i++) q[i] = (int8_t)(top > 0 ? lrintf(row[i] * (127 / top)) : 0);
}

/* ---- int4 ---------------------------------------------------------------------------------------------- */

/* To five significant bits, of the eight that bf16 has: q*scale is then a bf16 number for every q. */
static float five_bits(float x)
{
    int e;
    const float f = frexpf(x, &e);
    return ldexpf(rintf(f * 32), e - 5);
}

static int nibble(float x, float inverse)
{
    const float q = rintf(x * inverse);
    return q < -8 ? -8 : q > 7 ? 7 : (int)q;
}

static double group_error(const float *x, float scale)
{
    const float inverse = 1 / scale;
    double sum = 0;
    for (int i = 0; i < B2_I4_GROUP; i++) {
        const float d = scale * (float)nibble(x[i], inverse) - x[i];
        sum += (double)d * d;
    }
    return sum;
}

/* The number of largest size goes to -8 or nearly so: a scale of the other sign where it is positive. */
static float best_scale(const float *x)
{
    static const float steps[] = {-8.0f, -8.5f, -9.0f, -7.5f, -7.0f, 7.0f};
    float top = 0, best = 0;
    double least = INFINITY;
    for (int i = 0; i < B2_I4_GROUP; i++) top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
    if (fabsf(top) < 1e-30f) return 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const float scale = five_bits(top / steps[i]);
        const double error = group_error(x, scale);
        if (error >= least) continue;
        least = error;
        best = scale;
    }
    return best;
}

static void int4_row(const float *row, int n, uint8_t *q, b2_bf16 *scales)
{
    for (int g = 0; g < n / B2_I4_GROUP; g++, row += B2_I4_GROUP) {
        const float scale = best_scale(row), inverse = scale == 0.0f ? 0 : 1 / scale;
        scales[g] = b2_f32_to_bf16(scale);
        for (int l = 0; l < 16; l++) {
            unsigned word = 0;
            for (int k = 0; k < 4; k++) word |= ((unsigned)nibble(row[k * 16 + l], inverse) & 15) << 4 * k;
            *q++ = (uint8_t)word;
            *q++ = (uint8_t)(word >> 8);
        }
    }
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

typedef struct job {
    const b2_param *from, *to;
    _Atomic bool *bad; /* a value is not finite */
    float *room;       /* two rows for each worker */
    b2_change *change; /* of each chunk */
} job;

static void quantise_rows(void *ctx, int64_t chunk, int worker)
{
    const job *j = ctx;
    const b2_param *to = j->to;
    float *row = j->room + 2 * (size_t)worker * (size_t)to->cols, *back = row + to->cols;
    const int64_t end = (chunk + 1) * TASK_ROWS < to->rows ? (chunk + 1) * TASK_ROWS : to->rows;
    b2_change sum = {0, 0};
    for (int64_t o = chunk * TASK_ROWS; o < end; o++) {
        void *q = (void *)(uintptr_t)row_of(to, o);
        char *scale = (char *)(uintptr_t)to->scale + (size_t)o * b2_scale_bytes(to->type, to->cols);
        b2_param_row(j->from, o, row);
        for (int c = 0; c < to->cols; c++)
            if (!isfinite(row[c])) {
                *j->bad = true;
                row[c] = 0;
            }
        if (to->type == B2_I8)
            int8_row(row, to->cols, q, (float *)(void *)scale);
        else
            int4_row(row, to->cols, q, (b2_bf16 *)(void *)scale);
        b2_param_row(to, o, back);
        for (int c = 0; c < to->cols; c++) {
            sum.error += ((double)back[c] - row[c]) * ((double)back[c] - row[c]);
            sum.size += (double)row[c] * row[c];
        }
    }
    j->change[chunk] = sum;
}

blip2_status b2_quantise(b2_pool *pool, const char *name, const b2_param *from, const b2_param *to,
                         b2_change *change, blip2_error *e)
{
    _Atomic bool bad = false;
    const int64_t chunks = (to->rows + TASK_ROWS - 1) / TASK_ROWS;
    job j = {from, to, &bad, malloc(2 * (size_t)b2_pool_threads(pool) * (size_t)to->cols * sizeof(float)),
             calloc((size_t)chunks, sizeof(b2_change))};
    const bool room = j.room && j.change;
    if (room) b2_pool_run(pool, chunks, quantise_rows, &j);
    for (int64_t i = 0; room && change && i < chunks; i++) {
        change->error += j.change[i].error;
        change->size += j.change[i].size;
    }
    free(j.room);
    free(j.change);
    if (!room) return B2_NOMEM(e, "rows to quantise");
    if (bad)
        return b2_fail(e, BLIP2_ERR_NONFINITE,
                       "tensor \"%s\" holds values that are not finite: it cannot be quantised", name);
    return BLIP2_OK;
}

/* ---- which ones ---------------------------------------------------------------------------------------- */

bool b2_may_quantise(const b2_net *n, const b2_param_ref *r, b2_dtype type)
{
    if (!r->linear || r->linear == &n->vit.patch) return false;
    return type == B2_I8 || r->param->cols % B2_I4_GROUP == 0;
}

bool b2_wants_quantising(const b2_net *n, const b2_param_ref *r, b2_dtype type, const char *keep)
{
    const char *list = keep ? keep : BLIP2_KEEP_WIDE;
    if (!r->linear || r->param->type >= B2_I8) return false;
    for (int i = 0; i < n->refs; i++) {
        const b2_param_ref *x = &n->ref[i];
        const b2_param *p = x->param;
        if (x->linear != r->linear) continue;
        if (!p->p || p->p == n->shared.p || (p->type >= B2_I8 && p->type != type)) return false;
        if (!b2_may_quantise(n, x, type) || b2_name_listed(x->name, list)) return false;
    }
    return true;
}

static bool listed(const char *word, size_t n, const char *list)
{
    for (const char *p = list ? list : ""; *p; p += strcspn(p, ","), p += *p == ',')
        if (n == strcspn(p, ",") && strncmp(word, p, n) == 0) return true;
    return false;
}

bool b2_name_listed(const char *tensor, const char *list)
{
    for (const char *p = tensor; *p; p += strcspn(p, "."), p += *p == '.')
        if (listed(p, strcspn(p, "."), list)) return true;
    return false;
}

void b2_kind_of(const b2_param_ref *r, char *kind, size_t size)
{
    const char *end = strrchr(r->name, '.'), *start = end;
    if (r->part == B2_PART_QFORMER || !end) {
        snprintf(kind, size, "%s", r->part == B2_PART_QFORMER ? "qformer" : r->name);
        return;
    }
    while (start > r->name && start[-1] != '.') start--;
    const int n = (int)(end - start);
    if (n == 1 && strchr("qkv", *start))
        snprintf(kind, size, "q,k,v");
    else if (n == 4 && strncmp(start, "wi_", 3) == 0)
        snprintf(kind, size, "wi_0,wi_1");
    else
        snprintf(kind, size, "%.*s", n, start);
}

void b2_scale_name(const char *tensor, b2_dtype type, char *name, size_t size)
{
    const char *end = strrchr(tensor, '.');
    const int stem = end ? (int)(end - tensor) : (int)strlen(tensor);
    snprintf(name, size, "%.*s%s", stem, tensor, type == B2_I8 ? ".SCB" : ".weight_scale");
}

/* ---- by kind ------------------------------------------------------------------------------------------- */

enum { KINDS = 64 };

typedef struct kind_table {
    blip2_matrix_kind kind[KINDS];
    b2_change change[KINDS];
    int n;
} kind_table;

/* Its place among those known so far, or a new one; -1: there is none. */
static int kind_index(kind_table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->kind[i].name, name)) return i;
    if (t->n == KINDS) return -1;
    snprintf(t->kind[t->n].name, sizeof t->kind[t->n].name, "%s", name);
    return t->n++;
}

/* Quantises p to nowhere. */
static blip2_status change_of(const blip2_model *m, const b2_param_ref *r, b2_dtype type, b2_change *sum,
                              blip2_error *e)
{
    const b2_param *p = r->param;
    const size_t q = ((size_t)p->rows * b2_row_bytes(type, p->cols) + 7) / 8 * 8;
    b2_param to = {NULL, type, p->rows, p->cols, NULL, NULL};
    char *room = malloc(q + (size_t)p->rows * b2_scale_bytes(type, p->cols));
    if (!room) return B2_NOMEM(e, "a quantised matrix");
    to.p = room;
    to.scale = room + q;
    const blip2_status s = b2_quantise(m->device->pool, r->name, p, &to, sum, e);
    free(room);
    return s;
}

static blip2_status measure_kinds(const blip2_model *m, b2_dtype type, const char *keep, kind_table *t,
                                  blip2_error *e)
{
    char name[32];
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        if (!b2_wants_quantising(m->net, r, type, keep)) continue;
        b2_kind_of(r, name, sizeof name);
        const int at = kind_index(t, name);
        if (at < 0) continue;
        t->kind[at].tensors++;
        t->kind[at].parameters += (int64_t)r->param->rows * r->param->cols;
        B2_TRY(change_of(m, r, type, &t->change[at], e));
    }
    return BLIP2_OK;
}

blip2_status blip2_model_kinds(const blip2_model *m, blip2_dtype dtype, const char *keep,
                               blip2_matrix_kind *kinds, int capacity, int *count, blip2_error *err)
{
    if (!m || (!kinds && capacity) || !count || capacity < 0 ||
        (dtype != BLIP2_DTYPE_INT8 && dtype != BLIP2_DTYPE_INT4))
        return b2_fail(err, BLIP2_ERR_ARGUMENT,
                       "blip2_model_kinds: a model, room and int8 or int4 are wanted");
    kind_table *t = calloc(1, sizeof *t);
    if (!t) return B2_NOMEM(err, "kinds of matrices");
    const blip2_status s = measure_kinds(m, dtype == BLIP2_DTYPE_INT8 ? B2_I8 : B2_I4, keep, t, err);
    for (int i = 0; i < t->n && i < capacity; i++) {
        const b2_change *c = &t->change[i];
        kinds[i] = t->kind[i];
        kinds[i].error = c->size > 0 ? sqrt(c->error / c->size) : 0;
    }
    *count = t->n;
    free(t);
    return s;
}
