/* New model folders with random weights at a realistic scale, streamed to disk. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"
#include "image/image.h"
#include "io/safetensors.h"
#include "model/net.h"
#include "text/text.h"
#include "blip2/model.h"

/* How a tensor is drawn: N(mean, std). Matrices 1/sqrt(fan-in); queries, positions and embeddings wide
 * enough to be seen beside them; norm weights 1, biases 0. */
typedef struct draw {
    double mean, std;
} draw;

static draw draw_of(const b2_net *n, const b2_param_ref *r)
{
    const size_t k = strlen(r->name);
    if (r->param == &n->qf.query) return (draw){0, 0.5};
    if (r->param == &n->vit.pos || r->param == &n->vit.cls) return (draw){0, 0.1};
    if (r->param == &n->shared) return (draw){0, 1.0};
    if (r->param == &n->enc.relbias || r->param == &n->dec.relbias) return (draw){0, 0.1};
    if (r->linear && strstr(r->name, "Attention.q."))
        return (draw){0, 1.0 / sqrt((double)r->param->cols * n->c.t5.dkv)}; /* T5 does not scale scores */
    if (r->linear) return (draw){0, 1.0 / sqrt((double)r->param->cols)};
    return k > 5 && strcmp(r->name + k - 5, ".bias") == 0 ? (draw){0, 0} : (draw){1, 0};
}

enum { PIECE = 1 << 20, CHUNK = 1 << 13 };

/* What is being written: a piece of a tensor at a time, its chunks drawn by all threads. Element i depends
 * on (seed, tensor, i) only. */
typedef struct filler {
    b2_pool *pool;
    float *wide;     /* [PIECE] */
    b2_bf16 *narrow; /* [PIECE] */
    b2_st_dtype type;
    uint64_t seed, key; /* key: of the tensor */
    draw d;
    int64_t first, n; /* of the piece */
} filler;

static float value(draw d, uint64_t key, int64_t i)
{
    if (d.std == 0) return (float)d.mean;
    const uint64_t h = b2_mix64(key + (uint64_t)i);
    const double u = ((double)(h >> 40) + 0.5) / 16777216.0, v = (double)(h & 0xFFFFFF) / 16777216.0;
    return (float)(d.mean + d.std * sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static void fill_chunk(void *ctx, int64_t chunk, int worker)
{
    const filler *f = ctx;
    const int64_t lo = chunk * CHUNK, hi = lo + CHUNK < f->n ? lo + CHUNK : f->n;
    (void)worker;
    for (int64_t i = lo; i < hi; i++) f->wide[i] = value(f->d, f->key, f->first + i);
    for (int64_t i = lo; i < hi && f->type == B2_ST_BF16; i++) f->narrow[i] = b2_f32_to_bf16(f->wide[i]);
}

static blip2_status write_tensor(b2_st_writer *w, const b2_net *n, int ref, filler *f, blip2_error *e)
{
    const b2_param_ref *r = &n->ref[ref];
    const int64_t count = (int64_t)r->param->rows * r->param->cols;
    const bool bf16 = f->type == B2_ST_BF16;
    f->key = b2_mix64(f->seed ^ b2_mix64((uint64_t)ref + 1));
    f->d = draw_of(n, r);
    for (f->first = 0; f->first < count; f->first += PIECE) {
        f->n = count - f->first < PIECE ? count - f->first : PIECE;
        b2_pool_run(f->pool, (f->n + CHUNK - 1) / CHUNK, fill_chunk, f);
        B2_TRY(b2_st_writer_data(w, bf16 ? (const void *)f->narrow : f->wide,
                                 (size_t)f->n * b2_st_dtype_size(f->type), e));
    }
    return BLIP2_OK;
}

static blip2_status feed(b2_st_writer *w, const b2_net *n, filler *f, blip2_error *e)
{
    for (int i = 0; i < n->refs; i++)
        B2_TRY(b2_st_writer_declare(w, n->ref[i].name, f->type, n->ref[i].rank, n->ref[i].shape, e));
    B2_TRY(b2_st_writer_begin(w, e));
    for (int i = 0; i < n->refs; i++) B2_TRY(write_tensor(w, n, (int)b2_st_writer_order(w, (size_t)i), f, e));
    return BLIP2_OK;
}

static blip2_status filler_open(filler *f, b2_st_dtype t, const blip2_init_options *o, blip2_error *e)
{
    *f = (filler){.type = t, .seed = o->seed};
    f->wide = malloc(PIECE * sizeof *f->wide);
    f->narrow = malloc(PIECE * sizeof *f->narrow);
    if (!f->wide || !f->narrow) return B2_NOMEM(e, "a piece of a tensor");
    return b2_pool_open(&f->pool, o->threads, e);
}

static void filler_close(filler *f)
{
    b2_pool_close(f->pool);
    free(f->narrow);
    free(f->wide);
}

static blip2_status write_weights(const char *dir, const b2_config *c, b2_st_dtype t,
                                  const blip2_init_options *o, blip2_error *e)
{
    b2_net *n = NULL;
    b2_st_writer *w = NULL;
    filler f;
    char *path = b2_path_join(dir, "model.safetensors");
    blip2_status s = filler_open(&f, t, o, e);
    if (s == BLIP2_OK && !path) s = B2_NOMEM(e, "a path");
    if (s == BLIP2_OK) s = b2_net_new(&n, c, e);
    if (s == BLIP2_OK) s = b2_st_writer_open(&w, path, e);
    if (s == BLIP2_OK) {
        s = feed(w, n, &f, e);
        if (s == BLIP2_OK)
            s = b2_st_writer_commit(w, e);
        else
            b2_st_writer_abort(w);
    }
    filler_close(&f);
    b2_net_free(n);
    free(path);
    return s;
}

static blip2_status write_config(const char *dir, const b2_config *c, b2_st_dtype t, blip2_error *e)
{
    b2_str s = {0};
    char *path = b2_path_join(dir, "config.json");
    b2_config_write(c, t == B2_ST_BF16 ? "bfloat16" : "float32", &s);
    const blip2_status st = !path || s.failed ? B2_NOMEM(e, "config.json") : b2_write_file(path, s.p, s.n, e);
    b2_str_free(&s);
    free(path);
    return st;
}

/* The tokenizer file, and a vocabulary that has a row for each of its ids. */
static blip2_status place_tokenizer(const char *dir, const char *path, b2_config *c, blip2_error *e)
{
    blip2_tokenizer *t = NULL;
    if (!path) return BLIP2_OK;
    B2_TRY(blip2_tokenizer_open(path, &t, e));
    const int32_t size = blip2_tokenizer_size(t);
    blip2_tokenizer_close(t);
    if (size > c->t5.vocab)
        return b2_fail(e, BLIP2_ERR_CONFIG,
                       "%s: the tokenizer has %d ids, the configuration a vocabulary of %d", path, (int)size,
                       c->t5.vocab);
    char *to = b2_path_join(dir, b2_str_ends(path, ".json") ? "tokenizer.json" : "spiece.model");
    const blip2_status s = to ? b2_copy_file(path, to, e) : B2_NOMEM(e, "a path");
    free(to);
    return s;
}

blip2_status blip2_model_init(const char *dir, const blip2_init_options *o, blip2_error *err)
{
    b2_config c;
    b2_preprocess prep;
    if (!dir || !o || o->size != sizeof *o)
        return b2_fail(err, BLIP2_ERR_ARGUMENT,
                       "blip2_model_init: dir and options (with their size) are needed");
    if (!o->preset == !o->config_path)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_model_init: give either a preset or a config.json");
    if (o->threads < 0 || o->threads > 1024)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "threads: expected 0 to 1024, found %d", o->threads);
    if (o->preset)
        B2_TRY(b2_config_preset(&c, o->preset, err));
    else
        B2_TRY(b2_config_load(&c, o->config_path, err));
    if (o->dtype > BLIP2_DTYPE_BF16)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_init_options.dtype: expected f32, bf16 or file");
    const b2_st_dtype t = o->dtype == BLIP2_DTYPE_F32 ? B2_ST_F32 : B2_ST_BF16;
    B2_TRY(b2_make_dirs(dir, err));
    b2_sweep_leftovers(dir, NULL);
    B2_TRY(place_tokenizer(dir, o->tokenizer_path, &c, err));
    b2_preprocess_default(&prep, c.vit.image);
    B2_TRY(b2_preprocess_save(&prep, dir, err));
    B2_TRY(write_config(dir, &c, t, err));
    return write_weights(dir, &c, t, o, err);
}
