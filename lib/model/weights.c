/* Tensors of the file → parameters of the net. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/rng.h"
#include "model/quantise.h"
#include "model/weights.h"

static const char *const shared_names[] = {"language_model.shared.weight",
                                           "language_model.encoder.embed_tokens.weight",
                                           "language_model.decoder.embed_tokens.weight"};

const b2_st_tensor *b2_weights_find(const b2_st_set *file, const char *name)
{
    const b2_st_tensor *t = b2_st_find(file, name);
    for (size_t i = 1; !t && strcmp(name, shared_names[0]) == 0 && i < 3; i++)
        t = b2_st_find(file, shared_names[i]);
    return t;
}

static void shape_text(char *out, size_t n, int rank, const int64_t *shape)
{
    size_t at = (size_t)snprintf(out, n, "[");
    for (int i = 0; i < rank && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (at < n) snprintf(out + at, n - at, "]");
}

/* I8 or I4 for a tensor stored so, else F32. */
static b2_dtype stored_type(const b2_st_tensor *t, const b2_param_ref *r)
{
    if (!t || !r->linear) return B2_F32;
    return t->dtype == B2_ST_I8 ? B2_I8 : t->dtype == B2_ST_U8 ? B2_I4 : B2_F32;
}

static blip2_status check_shape(const b2_st_tensor *t, int rank, const int64_t *shape, blip2_error *e)
{
    char want[96], have[96];
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->shape[i] == shape[i];
    if (same) return BLIP2_OK;
    shape_text(want, sizeof want, rank, shape);
    shape_text(have, sizeof have, t->rank, t->shape);
    return b2_fail(e, BLIP2_ERR_SHAPE, "%s: tensor \"%s\": expected shape %s (from config.json), found %s",
                   t->file, t->name, want, have);
}

static blip2_status check_tensor(const b2_st_tensor *t, const b2_param_ref *r, const char *dir,
                                 blip2_error *e)
{
    char want[96];
    if (!t) {
        shape_text(want, sizeof want, r->rank, r->shape);
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: tensor \"%s\" %s is missing from the weights", dir, r->name,
                       want);
    }
    const b2_dtype q = stored_type(t, r);
    if (q >= B2_I8) {
        const int64_t narrow[] = {r->param->rows, (int64_t)b2_row_bytes(q, r->param->cols)};
        return check_shape(t, 2, narrow, e);
    }
    B2_TRY(check_shape(t, r->rank, r->shape, e));
    if (t->dtype != B2_ST_F32 && t->dtype != B2_ST_BF16 && t->dtype != B2_ST_F16)
        return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "%s: tensor \"%s\": expected F32, BF16 or F16, found %s",
                       t->file, t->name, t->dtype_name);
    return BLIP2_OK;
}

static float element(const b2_st_tensor *t, int64_t i)
{
    float f;
    uint16_t h;
    if (t->dtype == B2_ST_F32) {
        memcpy(&f, t->data + 4 * i, 4);
        return f;
    }
    memcpy(&h, t->data + 2 * i, 2);
    return t->dtype == B2_ST_BF16 ? b2_bf16_to_f32(h) : b2_f16_to_f32(h);
}

blip2_status b2_weights_read(const b2_st_tensor *t, int64_t first, int64_t n, float *out, blip2_error *e)
{
    if (t->dtype != B2_ST_F32 && t->dtype != B2_ST_BF16 && t->dtype != B2_ST_F16)
        return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "%s: tensor \"%s\": expected F32, BF16 or F16, found %s",
                       t->file, t->name, t->dtype_name);
    for (int64_t i = 0; i < n; i++) out[i] = element(t, first + i);
    return BLIP2_OK;
}

typedef struct convert {
    const b2_st_tensor *t;
    void *to;
    b2_dtype type;
    int64_t n;
} convert;
enum { CONVERT_CHUNK = 1 << 18 };

static void convert_chunk(void *ctx, int64_t chunk, int worker)
{
    const convert *c = ctx;
    const int64_t lo = chunk * CONVERT_CHUNK, hi = lo + CONVERT_CHUNK < c->n ? lo + CONVERT_CHUNK : c->n;
    (void)worker;
    for (int64_t i = lo; i < hi; i++) {
        if (c->type == B2_F32)
            ((float *)c->to)[i] = element(c->t, i);
        else
            ((b2_bf16 *)c->to)[i] = b2_f32_to_bf16(element(c->t, i));
    }
}

/* Memory of the model's own for p, a quantised one's scales behind it. t: what it is made from, for the
 * message. */
static blip2_status new_copy(blip2_model *m, b2_param *p, const b2_st_tensor *t, b2_dtype type, void **out,
                             blip2_error *e)
{
    const size_t numbers = ((size_t)p->rows * b2_row_bytes(type, p->cols) + 7) / 8 * 8,
                 bytes = numbers + (size_t)p->rows * b2_scale_bytes(type, p->cols);
    void *to = b2_account_alloc(b2_device_host(m->device), bytes);
    if (!to)
        return b2_fail(e, BLIP2_ERR_MEMORY, "%s: out of memory for a copy of tensor \"%s\" (%zu bytes)",
                       t->file, t->name, bytes);
    m->copies[m->n_copies] = to;
    m->copy_bytes[m->n_copies++] = bytes;
    m->weight_bytes += bytes;
    p->p = *out = to;
    p->type = type;
    p->scale = type >= B2_I8 ? (const char *)to + numbers : NULL;
    return BLIP2_OK;
}

static blip2_status copy_tensor(blip2_model *m, b2_param *p, const b2_st_tensor *t, b2_dtype type,
                                blip2_error *e)
{
    const int64_t n = (int64_t)p->rows * p->cols;
    void *to = NULL;
    B2_TRY(new_copy(m, p, t, type, &to, e));
    convert c = {t, to, type, n};
    b2_pool_run(m->device->pool, (n + CONVERT_CHUNK - 1) / CONVERT_CHUNK, convert_chunk, &c);
    return BLIP2_OK;
}

/* Type of a matrix in memory: f32 mode keeps what the file has (f16 widens); bf16 mode has bf16
 * everywhere. */
static b2_dtype target_type(const blip2_model *m, const b2_param_ref *r, const b2_st_tensor *t)
{
    if (!r->matrix) return B2_F32;
    if (m->act == B2_BF16) return B2_BF16;
    return t->dtype == B2_ST_BF16 ? B2_BF16 : B2_F32;
}

/* A tensor that the file holds quantised: its numbers where they lie, int8's scales as the kernels want
 * them. */
static blip2_status bind_quantised(blip2_model *m, const b2_param_ref *r, const b2_st_tensor *t,
                                   blip2_error *e)
{
    char name[128];
    const b2_dtype type = stored_type(t, r);
    b2_param *p = r->param;
    const int64_t shape[] = {p->rows, p->cols / B2_I4_GROUP};
    const b2_st_dtype want = type == B2_I8 ? B2_ST_F32 : B2_ST_BF16;
    b2_scale_name(r->name, type, name, sizeof name);
    const b2_st_tensor *s = b2_st_find(m->file, name);
    if (!s)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: tensor \"%s\" is %s, its scales \"%s\" are missing", t->file,
                       t->name, t->dtype_name, name);
    if (s->dtype != want)
        return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "%s: tensor \"%s\": expected %s, found %s", s->file, name,
                       b2_st_dtype_name(want), s->dtype_name);
    if (type == B2_I4 && p->cols % B2_I4_GROUP)
        return b2_fail(e, BLIP2_ERR_SHAPE, "%s: tensor \"%s\": int4 needs a multiple of %d columns, found %d",
                       t->file, t->name, B2_I4_GROUP, p->cols);
    B2_TRY(check_shape(s, type == B2_I8 ? 1 : 2, shape, e));
    p->p = t->data;
    p->type = type;
    p->scale = s->data;
    if (type == B2_I4 && (uintptr_t)s->data % 2 == 0) return BLIP2_OK;
    void *to = b2_account_alloc(b2_device_host(m->device), s->bytes);
    if (!to) return B2_NOMEM(e, "scales of weights");
    m->copies[m->n_copies] = to;
    m->copy_bytes[m->n_copies++] = s->bytes;
    memcpy(to, s->data, s->bytes);
    for (int i = 0; type == B2_I8 && i < p->rows; i++) ((float *)to)[i] /= 127;
    p->scale = to;
    return BLIP2_OK;
}

static blip2_status bind_one(blip2_model *m, const b2_param_ref *r, const b2_st_tensor *t, blip2_error *e)
{
    if (stored_type(t, r) >= B2_I8) return bind_quantised(m, r, t, e);
    const b2_dtype want = target_type(m, r, t);
    const bool same =
        (want == B2_F32 && t->dtype == B2_ST_F32) || (want == B2_BF16 && t->dtype == B2_ST_BF16);
    const bool aligned = (uintptr_t)t->data % b2_dtype_size(want) == 0;
    if (!same || !aligned) return copy_tensor(m, r->param, t, want, e);
    r->param->p = t->data;
    r->param->type = want;
    return BLIP2_OK;
}

/* Snapshots of early 2023 hold the ViT's query and value biases apart, and none for the key: r becomes
 * [q_bias, 0, v_bias]. *joined: r is such a tensor and the file has both. */
static blip2_status join_biases(blip2_model *m, const b2_param_ref *r, bool *joined, blip2_error *e)
{
    static const char fused[] = "qkv.bias";
    const size_t n = strlen(r->name), stem = n > strlen(fused) ? n - strlen(fused) : 0;
    const int64_t third = r->shape[0] / 3;
    const b2_st_tensor *part[2];
    void *to = NULL;
    *joined = false;
    if (!stem || strcmp(r->name + stem, fused)) return BLIP2_OK;
    for (int i = 0; i < 2; i++) {
        b2_param_ref want = {.rank = 1, .shape = {third}};
        snprintf(want.name, sizeof want.name, "%.*s%c_bias", (int)stem, r->name, i ? 'v' : 'q');
        part[i] = b2_st_find(m->file, want.name);
        if (!part[i]) return BLIP2_OK;
        B2_TRY(check_tensor(part[i], &want, m->dir, e));
    }
    B2_TRY(new_copy(m, r->param, part[0], B2_F32, &to, e));
    for (int i = 0; i < 2; i++) B2_TRY(b2_weights_read(part[i], 0, third, (float *)to + 2 * i * third, e));
    *joined = true;
    return BLIP2_OK;
}

/* Gives back what p pointed at, if it was the model's own. */
static void drop_copy(blip2_model *m, const void *p)
{
    for (int i = 0; i < m->n_copies; i++) {
        if (m->copies[i] != p) continue;
        b2_account_free(b2_device_host(m->device), m->copies[i], m->copy_bytes[i]);
        m->weight_bytes -= m->copy_bytes[i];
        m->copies[i] = m->copies[--m->n_copies];
        m->copy_bytes[i] = m->copy_bytes[m->n_copies];
        return;
    }
}

/* p again as `type`, in memory of the model's own. */
static blip2_status change_type(blip2_model *m, const b2_param_ref *r, b2_dtype type, blip2_error *e)
{
    const b2_param was = *r->param;
    b2_host_queue h;
    void *to = NULL;
    B2_TRY(new_copy(m, r->param, b2_weights_find(m->file, r->name), type, &to, e));
    if (type >= B2_I8) {
        B2_TRY(b2_quantise(m->device->pool, r->name, &was, r->param, NULL, e));
        drop_copy(m, was.p);
        return BLIP2_OK;
    }
    b2_host_queue_init(&h, m->device->pool);
    if (type == B2_F32) return b2_param_rows(&h.q, &was, 0, was.rows, to, e);
    b2_tensor y = b2_view(to, type, was.rows, was.cols); /* bf16 is only asked for in place of narrow rows */
    b2_dequantise_rows(&h.q, &y, &was);
    return b2_queue_finish(&h.q, e);
}

/* The blocks of a linear must agree: when a file mixes types, the narrow ones are widened. */
static blip2_status agree(blip2_model *m, blip2_error *e)
{
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        bool mixed = false;
        b2_dtype wide = m->act;
        for (int k = 0; r->linear && k < r->linear->n; k++) {
            mixed = mixed || r->linear->w[k].type != r->linear->w[0].type;
            if (r->linear->w[k].type == B2_F32) wide = B2_F32;
        }
        if (mixed && r->param->type != wide) B2_TRY(change_type(m, r, wide, e));
    }
    return BLIP2_OK;
}

/* What the options ask to be quantised while loading. */
static blip2_status quantise(blip2_model *m, const blip2_model_options *o, blip2_error *e)
{
    const b2_dtype type = o->dtype == BLIP2_DTYPE_INT8 ? B2_I8 : B2_I4;
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        if (b2_wants_quantising(m->net, r, type, o->keep)) B2_TRY(change_type(m, r, type, e));
    }
    return BLIP2_OK;
}

static b2_dtype file_mode(const blip2_model *m)
{
    const b2_st_tensor *t = b2_weights_find(m->file, shared_names[0]);
    return t && t->dtype == B2_ST_BF16 ? B2_BF16 : B2_F32;
}

static void warn_unused(const blip2_model *m, size_t used)
{
    const size_t total = b2_st_count(m->file);
    if (total > used)
        b2_logf(&m->device->log, B2_LOG_DEBUG,
                "%s: %zu of %zu tensors belong to no part of the model and are ignored", m->dir, total - used,
                total);
}

blip2_status b2_weights_bind(blip2_model *m, const blip2_model_options *o, blip2_error *e)
{
    b2_net *n = m->net;
    size_t used = 0;
    const bool narrow = o->dtype == BLIP2_DTYPE_INT8 || o->dtype == BLIP2_DTYPE_INT4;
    m->act = o->dtype == BLIP2_DTYPE_FILE ? file_mode(m) : o->dtype == BLIP2_DTYPE_F32 ? B2_F32 : B2_BF16;
    m->copies = calloc((size_t)n->refs * 3, sizeof *m->copies);
    m->copy_bytes = calloc((size_t)n->refs * 3, sizeof *m->copy_bytes);
    if (!m->copies || !m->copy_bytes) return B2_NOMEM(e, "the list of weights");
    for (int i = 0; i < n->refs; i++) {
        const b2_param_ref *r = &n->ref[i];
        const b2_st_tensor *t = b2_weights_find(m->file, r->name);
        if (!t && r->linear == &n->head) continue;
        bool joined = false;
        if (!t) B2_TRY(join_biases(m, r, &joined, e));
        used += joined ? 2 : 0;
        if (joined) continue;
        B2_TRY(check_tensor(t, r, m->dir, e));
        B2_TRY(bind_one(m, r, t, e));
        used += r->param->scale ? 2 : 1;
    }
    if (!n->head.w[0].p) n->head.w[0] = n->shared;
    warn_unused(m, used);
    if (narrow) B2_TRY(quantise(m, o, e));
    return agree(m, e);
}

void b2_weights_free(blip2_model *m)
{
    for (int i = 0; i < m->n_copies; i++)
        b2_account_free(b2_device_host(m->device), m->copies[i], m->copy_bytes[i]);
    free(m->copies);
    free(m->copy_bytes);
}

static uint64_t sampled_hash(const blip2_model *m)
{
    enum { WHOLE = 1 << 20, PIECE = 4096, PIECES = 64 };
    uint64_t h = b2_hash64(0, &m->config, sizeof m->config);
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param_ref *r = &m->net->ref[i];
        const b2_st_tensor *t = b2_weights_find(m->file, r->name);
        if (!t && r->linear == &m->net->head) continue; /* tied to the embedding */
        h = b2_hash64(h, r->name, strlen(r->name));
        if (!t) { /* a bias joined from two tensors */
            h = b2_hash64(h, r->param->p, (size_t)r->param->rows * (size_t)r->param->cols * sizeof(float));
            continue;
        }
        h = b2_hash64(h, &t->bytes, sizeof t->bytes);
        if (r->param->type >= B2_I8) {
            const size_t scales = (size_t)r->param->rows * b2_scale_bytes(r->param->type, r->param->cols);
            h = b2_hash64(h, &r->param->type, sizeof r->param->type);
            h = b2_hash64(h, r->param->scale, scales);
        }
        if (t->bytes <= WHOLE) {
            h = b2_hash64(h, t->data, t->bytes);
            continue;
        }
        for (size_t k = 0; k < PIECES; k++)
            h = b2_hash64(h, t->data + (t->bytes - PIECE) / (PIECES - 1) * k, PIECE);
    }
    h = b2_mix64(h ^ (uint64_t)m->act);
    return h ? h : 1;
}

uint64_t b2_model_hash(const blip2_model *m)
{
    const uint64_t known = m->hash;
    if (known) return known;
    const uint64_t h = sampled_hash(m); /* another thread may do the same: the result is the same */
    ((blip2_model *)(uintptr_t)m)->hash = h;
    return h;
}
