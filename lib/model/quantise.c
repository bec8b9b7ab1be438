/* Quantising matrices, and reading them back. */
#include "model/quantise.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "model/model.h"

enum { TASK_ROWS = 16 };

/* n of p's rows, from row `first` on. */
static b2_param rows_of(const b2_param *p, int64_t first, int n)
{
    b2_param part = *p;
    part.p = (const char *)p->p + (size_t)first * b2_row_bytes(p->type, p->cols);
    if (p->scale) part.scale = (const char *)p->scale + (size_t)first * b2_scale_bytes(p->type, p->cols);
    part.rows = n;
    return part;
}

void b2_param_row(const b2_param *p, int64_t o, float *row)
{
    const b2_param from = rows_of(p, o, 1);
    b2_bf16 h;
    switch (p->type) {
    case B2_F32: memcpy(row, from.p, (size_t)p->cols * sizeof *row); break;
    case B2_I8: b2_ref_f32_dequantise_i8(NULL, row, from.p, from.scale, 1, p->cols); break;
    case B2_I4: b2_ref_f32_dequantise_i4(NULL, row, from.p, from.scale, 1, p->cols); break;
    default:
        for (int c = 0; c < p->cols; c++) {
            memcpy(&h, (const char *)from.p + (size_t)c * sizeof h, sizeof h);
            row[c] = b2_bf16_to_f32(h);
        }
    }
}

blip2_status b2_param_rows(b2_queue *q, const b2_param *p, int64_t first, int n, float *rows, blip2_error *e)
{
    const b2_param part = rows_of(p, first, n);
    b2_tensor y = b2_view_f32(rows, n, p->cols);
    if (p->type >= B2_I8)
        b2_dequantise_rows(q, &y, &part);
    else
        for (int i = 0; i < n; i++) b2_param_row(&part, i, rows + (int64_t)i * p->cols);
    return b2_queue_finish(q, e);
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* A NaN among the scales: the kernels' word for rows and groups that are not finite. */
static bool has_nan(const b2_param *p)
{
    const int64_t n =
        (int64_t)((size_t)p->rows * b2_scale_bytes(p->type, p->cols) / (p->type == B2_I8 ? 4 : 2));
    bool bad = false;
    for (int64_t i = 0; p->type == B2_I8 && i < n; i++) bad |= isnan(((const float *)p->scale)[i]) != 0;
    for (int64_t i = 0; p->type == B2_I4 && i < n; i++)
        bad |= (((const b2_bf16 *)p->scale)[i] & 0x7FFF) > 0x7F80;
    return bad;
}

typedef struct compare {
    const b2_param *was, *now;
    const b2_queue *q;
    float *room;       /* two rows for each worker */
    b2_change *change; /* of each chunk */
} compare;

/* A chunk of the pool's own work: its kernels get no pool. */
static void compare_rows(void *ctx, int64_t chunk, int worker)
{
    const compare *j = ctx;
    const int cols = j->was->cols;
    b2_arena none = {0};
    b2_queue q = {.k = {j->q->k[0], j->q->k[1]}, .threads = 1, .scratch = &none};
    float *row = j->room + 2 * (size_t)worker * (size_t)cols, *back = row + cols;
    const int64_t end = (chunk + 1) * TASK_ROWS < j->was->rows ? (chunk + 1) * TASK_ROWS : j->was->rows;
    b2_change sum = {0, 0};
    for (int64_t o = chunk * TASK_ROWS; o < end; o++) {
        b2_param_row(j->was, o, row);
        b2_param_rows(&q, j->now, o, 1, back, NULL);
        for (int c = 0; c < cols; c++) {
            sum.error += ((double)back[c] - row[c]) * ((double)back[c] - row[c]);
            sum.size += (double)row[c] * row[c];
        }
    }
    j->change[chunk] = sum;
}

static blip2_status add_change(const b2_queue *q, const b2_param *was, const b2_param *now, b2_change *change,
                               blip2_error *e)
{
    const int64_t chunks = (was->rows + TASK_ROWS - 1) / TASK_ROWS;
    compare j = {was, now, q, malloc(2 * (size_t)q->threads * (size_t)was->cols * sizeof(float)),
                 calloc((size_t)chunks, sizeof(b2_change))};
    const bool room = j.room && j.change;
    if (room) b2_pool_run(q->pool, chunks, compare_rows, &j);
    for (int64_t i = 0; room && i < chunks; i++) {
        change->error += j.change[i].error;
        change->size += j.change[i].size;
    }
    free(j.room);
    free(j.change);
    return room ? BLIP2_OK : B2_NOMEM(e, "rows to compare");
}

blip2_status b2_quantise(b2_pool *pool, const char *name, const b2_param *from, const b2_param *to,
                         b2_change *change, blip2_error *e)
{
    b2_host_queue h;
    const b2_tensor x = b2_view((void *)(uintptr_t)from->p, from->type, from->rows, from->cols);
    b2_host_queue_init(&h, pool);
    b2_quantise_rows(&h.q, to, &x);
    B2_TRY(b2_queue_finish(&h.q, e));
    if (has_nan(to))
        return b2_fail(e, BLIP2_ERR_NONFINITE,
                       "tensor \"%s\" holds values that are not finite: it cannot be quantised", name);
    return change ? add_change(&h.q, from, to, change, e) : BLIP2_OK;
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
