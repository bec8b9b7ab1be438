/* Writing model folders: merged, converted, trained. One tensor is in memory at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/quantise.h"
#include "model/weights.h"
#include "text/text.h"

typedef struct export_job {
    const blip2_model *m;
    const b2_net *net;
    const blip2_adapter *add;
    blip2_dtype dtype;
    const char *dir;
    b2_queue *q; /* of the host */
    blip2_error *e;
} export_job;

enum { TOGETHER = 32 }; /* rows that are read at once */

static bool tied_head(const export_job *j, const b2_param_ref *r)
{
    return r->linear == &j->net->head && !b2_weights_find(j->m->file, r->name) &&
           r->param->p == j->net->shared.p;
}

static const b2_adapter_entry *entry_of(const blip2_adapter *a, int ref)
{
    for (int i = 0; a && i < a->entries; i++) {
        if (a->entry[i].ref == ref) return &a->entry[i];
    }
    return NULL;
}

/* Does it go out as the quantised numbers that are in memory? What an adapter adds to does not. */
static bool stays_quantised(const export_job *j, int ref)
{
    const bool wide = j->dtype == BLIP2_DTYPE_F32 || j->dtype == BLIP2_DTYPE_BF16;
    return j->net->ref[ref].param->type >= B2_I8 && !wide && !entry_of(j->add, ref);
}

/* The dtype a tensor is written in. */
static b2_st_dtype out_dtype(const export_job *j, int ref)
{
    const b2_param_ref *r = &j->net->ref[ref];
    const b2_st_tensor *t = b2_weights_find(j->m->file, r->name);
    const b2_st_dtype memory = r->param->type == B2_F32 ? B2_ST_F32 : B2_ST_BF16;
    if (j->dtype == BLIP2_DTYPE_F32) return B2_ST_F32;
    if (j->dtype == BLIP2_DTYPE_BF16) return B2_ST_BF16;
    if (stays_quantised(j, ref)) return r->param->type == B2_I8 ? B2_ST_I8 : B2_ST_U8;
    if (r->matrix && (j->dtype != BLIP2_DTYPE_FILE || r->param->type >= B2_I8)) return memory;
    return !t ? B2_ST_F32 : t->dtype == B2_ST_I8 || t->dtype == B2_ST_U8 ? memory : t->dtype;
}

/* row += scale * B[row,:] A */
static void add_lora(float *row, const b2_adapter_entry *x, int64_t o, int cols)
{
    for (int r = 0; r < x->r; r++) {
        const float s = x->scale * x->b[o * x->r + r];
        for (int k = 0; k < cols; k++) row[k] += s * x->a[(int64_t)r * cols + k];
    }
}

static blip2_status write_row(b2_st_writer *w, b2_st_dtype t, const float *row, uint16_t *narrow, int cols,
                              blip2_error *e)
{
    if (t == B2_ST_F32) return b2_st_writer_data(w, row, (size_t)cols * 4, e);
    for (int k = 0; k < cols; k++)
        narrow[k] = t == B2_ST_BF16 ? b2_f32_to_bf16(row[k]) : b2_f32_to_f16(row[k]);
    return b2_st_writer_data(w, narrow, (size_t)cols * 2, e);
}

/* A tensor that stays as the file has it goes through byte by byte. */
static const b2_st_tensor *verbatim(const export_job *j, int ref, b2_st_dtype t)
{
    const b2_param_ref *r = &j->net->ref[ref];
    const b2_st_tensor *f = b2_weights_find(j->m->file, r->name);
    const bool own =
        r->param->p == j->m->net->ref[ref].param->p && /* the model's weights, not a trainer's, */
        r->param->type < B2_I8;                        /* and what is in memory is the file's */
    return f && own && f->dtype == t && !entry_of(j->add, ref) ? f : NULL;
}

/* rows: room for TOGETHER of them; narrow: for one. */
static blip2_status write_tensor(const export_job *j, b2_st_writer *w, int ref, float *rows, uint16_t *narrow)
{
    const b2_param *p = j->net->ref[ref].param;
    const b2_st_dtype t = out_dtype(j, ref);
    const b2_st_tensor *f = verbatim(j, ref, t);
    const b2_adapter_entry *x = entry_of(j->add, ref);
    if (stays_quantised(j, ref))
        return b2_st_writer_data(w, p->p, (size_t)p->rows * b2_row_bytes(p->type, p->cols), j->e);
    if (f) return b2_st_writer_data(w, f->data, f->bytes, j->e);
    for (int64_t o = 0; o < p->rows; o++) {
        const int at = (int)(o % TOGETHER), left = (int)(p->rows - o);
        float *row = rows + (size_t)at * (size_t)p->cols;
        if (at == 0) B2_TRY(b2_param_rows(j->q, p, o, left < TOGETHER ? left : TOGETHER, rows, j->e));
        if (x) add_lora(row, x, o, p->cols);
        B2_TRY(write_row(w, t, row, narrow, p->cols, j->e));
    }
    return BLIP2_OK;
}

/* The number that a reader divides by 127 to get this very scale. */
static float scb(float scale)
{
    float v = scale * 127;
    for (int i = 0; i < 4 && v / 127 != scale; i++) v = nextafterf(v, v / 127 < scale ? INFINITY : 0);
    return v;
}

static blip2_status write_scales(const export_job *j, b2_st_writer *w, int ref)
{
    const b2_param *p = j->net->ref[ref].param;
    if (p->type == B2_I4)
        return b2_st_writer_data(w, p->scale, (size_t)p->rows * b2_scale_bytes(B2_I4, p->cols), j->e);
    for (int o = 0; o < p->rows; o++) {
        const float v = scb(((const float *)p->scale)[o]);
        B2_TRY(b2_st_writer_data(w, &v, sizeof v, j->e));
    }
    return BLIP2_OK;
}

/* One tensor of the file: a ref's numbers, or the scales beside them. */
typedef struct piece {
    int ref;
    bool scales;
} piece;

static blip2_status declare(const export_job *j, b2_st_writer *w, piece *list, int *n)
{
    char name[128];
    for (int i = 0; i < j->net->refs; i++) {
        const b2_param_ref *r = &j->net->ref[i];
        const b2_dtype type = r->param->type;
        if (tied_head(j, r)) continue;
        list[(*n)++] = (piece){i, false};
        if (!stays_quantised(j, i)) {
            B2_TRY(b2_st_writer_declare(w, r->name, out_dtype(j, i), r->rank, r->shape, j->e));
            continue;
        }
        const int64_t rows = r->param->rows, cols = r->param->cols;
        const int64_t shape[] = {rows, (int64_t)b2_row_bytes(type, (int)cols)};
        const int64_t scales[] = {rows, cols / B2_I4_GROUP};
        const bool i8 = type == B2_I8;
        list[(*n)++] = (piece){i, true};
        b2_scale_name(r->name, type, name, sizeof name);
        B2_TRY(b2_st_writer_declare(w, r->name, out_dtype(j, i), 2, shape, j->e));
        B2_TRY(b2_st_writer_declare(w, name, i8 ? B2_ST_F32 : B2_ST_BF16, i8 ? 1 : 2, i8 ? shape : scales,
                                    j->e));
    }
    return BLIP2_OK;
}

static blip2_status feed(const export_job *j, b2_st_writer *w, float *rows, uint16_t *narrow, piece *list)
{
    int n = 0;
    B2_TRY(declare(j, w, list, &n));
    B2_TRY(b2_st_writer_begin(w, j->e));
    for (int i = 0; i < n; i++) {
        const piece *x = &list[b2_st_writer_order(w, (size_t)i)];
        if (x->scales)
            B2_TRY(write_scales(j, w, x->ref));
        else
            B2_TRY(write_tensor(j, w, x->ref, rows, narrow));
    }
    return BLIP2_OK;
}

static blip2_status write_weights(const export_job *j, const char *path)
{
    b2_st_writer *w = NULL;
    int widest = 1;
    for (int i = 0; i < j->net->refs; i++)
        widest = j->net->ref[i].param->cols > widest ? j->net->ref[i].param->cols : widest;
    float *rows = malloc(TOGETHER * (size_t)widest * sizeof *rows);
    uint16_t *narrow = malloc((size_t)widest * sizeof *narrow);
    piece *list = malloc(2 * (size_t)j->net->refs * sizeof *list);
    blip2_status s = rows && narrow && list ? b2_st_writer_open(&w, path, j->e) : B2_NOMEM(j->e, "an export");
    if (s == BLIP2_OK) {
        s = feed(j, w, rows, narrow, list);
        if (s == BLIP2_OK)
            s = b2_st_writer_commit(w, j->e);
        else
            b2_st_writer_abort(w);
    }
    free(rows);
    free(narrow);
    free(list);
    return s;
}

/* config.json with its dtype fields changed: the file's own text, so that keys we do not know survive. */
static blip2_status write_config(const export_job *j, const char *from, const char *to)
{
    b2_str out = {0};
    char *text = NULL;
    size_t n = 0;
    static const char *const keys[] = {"\"torch_dtype\"", "\"dtype\""};
    B2_TRY(b2_read_file(from, 1 << 20, &text, &n, j->e));
    const char *want = j->dtype == BLIP2_DTYPE_F32 ? "\"float32\"" : "\"bfloat16\"";
    for (const char *p = text; *p && !out.failed;) {
        const char *hit = NULL;
        for (int k = 0; k < 2 && j->dtype != BLIP2_DTYPE_FILE; k++) {
            if (strncmp(p, keys[k], strlen(keys[k])) == 0) hit = keys[k];
        }
        if (!hit) {
            b2_str_addn(&out, p++, 1);
            continue;
        }
        b2_str_addf(&out, "%s: %s", hit, want);
        p += strlen(hit);
        p += strspn(p, " \t\r\n:");
        if (*p == '"')
            p = strchr(p + 1, '"') ? strchr(p + 1, '"') + 1 : p + 1;
        else
            p += strcspn(p, ",}\r\n");
    }
    free(text);
    const blip2_status s =
        out.failed ? B2_NOMEM(j->e, "config.json") : b2_write_file(to, out.p ? out.p : "", out.n, j->e);
    b2_str_free(&out);
    return s;
}

static blip2_status copy_if_there(const char *from, const char *to, const char *name, blip2_error *e)
{
    char *a = b2_path_join(from, name), *b = b2_path_join(to, name);
    blip2_status s = a && b ? BLIP2_OK : B2_NOMEM(e, "a path");
    if (s == BLIP2_OK && b2_file_exists(a)) s = b2_copy_file(a, b, e);
    free(a);
    free(b);
    return s;
}

static blip2_status run(const export_job *j)
{
    static const char *const files[] = {"preprocessor_config.json", "processor_config.json",
                                        "generation_config.json"};
    char *weights = b2_path_join(j->dir, "model.safetensors"), *config = b2_path_join(j->dir, "config.json"),
         *from = b2_path_join(j->m->dir, "config.json");
    blip2_status s = weights && config && from ? b2_make_dirs(j->dir, j->e) : B2_NOMEM(j->e, "a path");
    if (s == BLIP2_OK) b2_sweep_leftovers(j->dir, NULL);
    if (s == BLIP2_OK) s = write_weights(j, weights);
    if (s == BLIP2_OK) s = write_config(j, from, config);
    for (int i = 0; i < 3 && s == BLIP2_OK; i++) s = copy_if_there(j->m->dir, j->dir, files[i], j->e);
    if (s == BLIP2_OK) s = b2_tokenizer_copy(j->m->dir, j->dir, j->e);
    free(weights);
    free(config);
    free(from);
    return s;
}

blip2_status b2_model_write(const blip2_model *m, const b2_net *net, const blip2_adapter *add,
                            blip2_dtype dtype, const char *dir, blip2_error *e)
{
    b2_host_queue h;
    const export_job j = {m, net, add, dtype, dir, &h.q, e};
    b2_host_queue_init(&h, m->device->pool);
    if (b2_same_folder(m->dir, dir))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "%s: the model's own folder cannot be the output", dir);
    return run(&j);
}

blip2_status blip2_model_export(const blip2_model *m, const blip2_adapter *a, blip2_dtype dtype,
                                const char *out_dir, blip2_error *err)
{
    if (!m || !out_dir)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_model_export: model and out_dir must not be NULL");
    if (a && memcmp(&a->model->config, &m->config, sizeof m->config) != 0)
        return b2_fail(err, BLIP2_ERR_CONFIG, "the adapter was opened for a model of another configuration");
    const b2_dtype narrow = dtype == BLIP2_DTYPE_INT8 ? B2_I8 : dtype == BLIP2_DTYPE_INT4 ? B2_I4 : B2_F32;
    bool any = narrow == B2_F32;
    for (int i = 0; i < m->net->refs; i++) any = any || m->net->ref[i].param->type == narrow;
    if (!any)
        return b2_fail(err, BLIP2_ERR_STATE,
                       "%s: no matrix is %s: open the model with that dtype to write it so", m->dir,
                       narrow == B2_I8 ? "int8" : "int4");
    return b2_model_write(m, m->net, a, dtype, out_dir, err);
}
