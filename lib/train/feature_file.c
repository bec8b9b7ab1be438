/* The file of a feature cache: looked at, reused photo by photo, written whole. */
#include <stdlib.h>
#include <string.h>
#include "device/device.h"
#include "train/feature_file.h"

#define MAGIC "B2FEAT02"

static size_t each_of(const blip2_model *m) { return (size_t)m->config.qf.queries * (size_t)m->config.t5.d; }

size_t b2_feature_file_bytes(const blip2_model *m, int64_t images)
{
    return sizeof(b2_feature_header) + (size_t)images * (sizeof(uint64_t) + each_of(m) * sizeof(float)) +
           sizeof(uint32_t);
}

static b2_feature_header header_for(const blip2_model *m, int64_t images)
{
    b2_feature_header h = {.model = b2_model_hash(m),
                           .preprocess = b2_preprocess_hash(&m->prep),
                           .act = (uint32_t)m->act,
                           .queries = (uint32_t)m->config.qf.queries,
                           .d = (uint32_t)m->config.t5.d,
                           .images = (uint64_t)images};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

static const uint64_t *hashes_in(const b2_map *map)
{
    return (const uint64_t *)(const void *)(map->p + sizeof(b2_feature_header));
}
static const float *tokens_in(const b2_map *map, int64_t images)
{
    return (const float *)(const void *)(map->p + sizeof(b2_feature_header) +
                                         (size_t)images * sizeof(uint64_t));
}

/* Maps PATH when it is whole and made by this model; *images = how many photos it holds. */
static bool map_whole(b2_map *map, int64_t *images, const char *path, const blip2_model *m, const b2_log *log)
{
    b2_feature_header h = {0}, want;
    uint32_t crc;
    blip2_error err = BLIP2_ERROR_INIT;
    if (!b2_file_exists(path) || b2_map_open(map, path, &err) != BLIP2_OK) return false;
    bool ok = map->size > sizeof h + sizeof crc;
    if (ok) memcpy(&h, map->p, sizeof h);
    ok = ok &&
         h.images <= (map->size - sizeof h - sizeof crc) / (sizeof(uint64_t) + each_of(m) * sizeof(float));
    ok = ok && map->size == b2_feature_file_bytes(m, (int64_t)h.images);
    if (ok) {
        want = header_for(m, (int64_t)h.images);
        ok = memcmp(&h, &want, sizeof h) == 0;
    }
    if (!ok) b2_logf(log, B2_LOG_INFO, "%s: of another model or preprocessing; it is made anew", path);
    if (ok) {
        memcpy(&crc, map->p + map->size - sizeof crc, sizeof crc);
        ok = crc == b2_crc32(0, map->p, map->size - sizeof crc);
        if (!ok) b2_logf(log, B2_LOG_WARN, "%s: its checksum is wrong; it is made anew", path);
    }
    if (ok)
        *images = (int64_t)h.images;
    else
        b2_map_close(map);
    return ok;
}

static blip2_status hash_photos(const blip2_dataset *d, uint64_t *hash, blip2_error *e)
{
    for (int64_t i = 0; i < d->images; i++) {
        b2_map map;
        B2_TRY(b2_map_open(&map, d->path[i], e));
        hash[i] = b2_hash64(0, map.p, map.size);
        b2_map_close(&map);
    }
    return BLIP2_OK;
}

/* Photos of an older file by their hash. */
typedef struct known {
    uint64_t hash;
    int64_t at;
} known;

static int by_hash(const void *a, const void *b)
{
    const known *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

typedef struct old_file {
    b2_map map;
    int64_t images;
    known *index; /* sorted, NULL when there is no old file */
} old_file;

static const float *old_tokens(const old_file *o, uint64_t hash, size_t each)
{
    int64_t lo = 0, hi = o->index ? o->images : 0;
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (o->index[mid].hash < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!o->index || lo >= o->images || o->index[lo].hash != hash) return NULL;
    return tokens_in(&o->map, o->images) + (size_t)o->index[lo].at * each;
}

/* Photos i0..i0+n-1 into buf: taken from the old file, or computed. */
static blip2_status window(const b2_encoder_work *w, const old_file *old, const uint64_t *hash, int64_t i0,
                           int n, float *buf, float *fresh, blip2_error *e)
{
    const size_t each = each_of(w->model);
    int64_t image[B2_ENCODE_BATCH];
    int place[B2_ENCODE_BATCH], missing = 0;
    for (int i = 0; i < n; i++) {
        const float *have = old_tokens(old, hash[i0 + i], each);
        if (have) {
            memcpy(buf + (size_t)i * each, have, each * sizeof *buf);
        } else {
            place[missing] = i;
            image[missing++] = i0 + i;
        }
    }
    if (!missing) return BLIP2_OK;
    B2_TRY(b2_features_chunk(w, image, missing, fresh, e));
    for (int i = 0; i < missing; i++)
        memcpy(buf + (size_t)place[i] * each, fresh + (size_t)i * each, each * sizeof *buf);
    return BLIP2_OK;
}

static blip2_status write_tokens(b2_writer *out, const b2_encoder_work *w, const old_file *old,
                                 const uint64_t *hash, float *buf, blip2_error *e)
{
    const size_t each = each_of(w->model);
    const int64_t images = w->pictures->d->images;
    for (int64_t i = 0; i < images; i += B2_ENCODE_BATCH) {
        const int n = images - i < B2_ENCODE_BATCH ? (int)(images - i) : B2_ENCODE_BATCH;
        B2_TRY(window(w, old, hash, i, n, buf, buf + B2_ENCODE_BATCH * each, e));
        B2_TRY(b2_writer_put(out, buf, (size_t)n * each * sizeof *buf, e));
    }
    return BLIP2_OK;
}

/* What a killed run left of this cache. */
static void sweep_beside(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? b2_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : b2_strdup(".");
    if (dir) b2_sweep_leftovers(dir, slash ? slash + 1 : path);
    free(dir);
}

static blip2_status write_file(const char *path, const b2_encoder_work *w, const old_file *old,
                               const uint64_t *hash, blip2_error *e)
{
    const int64_t images = w->pictures->d->images;
    const b2_feature_header h = header_for(w->model, images);
    const size_t mark = b2_arena_mark(w->q->scratch);
    const b2_tensor room =
        b2_scratch(w->q, B2_F32, 2 * B2_ENCODE_BATCH * w->model->config.qf.queries, w->model->config.t5.d);
    b2_writer out = {0};
    blip2_status s = b2_queue_finish(w->q, e);
    float *own = NULL, *buf = room.p; /* the host's: scratch, where that is */
    if (!b2_device_is_host(w->model->device)) {
        buf = own = malloc((size_t)room.rows * (size_t)room.cols * sizeof *own);
        if (s == BLIP2_OK && !own) s = B2_NOMEM(e, "image tokens");
    }
    sweep_beside(path);
    if (s == BLIP2_OK) s = b2_writer_open(&out, path, e);
    if (s == BLIP2_OK) s = b2_writer_put(&out, &h, sizeof h, e);
    if (s == BLIP2_OK) s = b2_writer_put(&out, hash, (size_t)images * sizeof *hash, e);
    if (s == BLIP2_OK) s = write_tokens(&out, w, old, hash, buf, e);
    const uint32_t crc = out.crc;
    if (s == BLIP2_OK) s = b2_writer_put(&out, &crc, sizeof crc, e);
    if (s == BLIP2_OK)
        s = b2_writer_commit(&out, e);
    else
        b2_writer_abort(&out);
    free(own);
    b2_arena_release(w->q->scratch, mark);
    return s;
}

static blip2_status index_old(old_file *o, blip2_error *e)
{
    const uint64_t *hash = hashes_in(&o->map);
    o->index = malloc((size_t)(o->images ? o->images : 1) * sizeof *o->index);
    if (!o->index) return B2_NOMEM(e, "a feature cache's index");
    for (int64_t i = 0; i < o->images; i++) o->index[i] = (known){hash[i], i};
    qsort(o->index, (size_t)o->images, sizeof *o->index, by_hash);
    return BLIP2_OK;
}

/* Writes the file unless `old` already is what is wanted; old stays mapped then. */
static blip2_status make_file(old_file *old, bool have, const char *path, const b2_encoder_work *w,
                              uint64_t *hash, blip2_error *e)
{
    const blip2_dataset *d = w->pictures->d;
    const size_t bytes = (size_t)d->images * sizeof *hash;
    B2_TRY(hash_photos(d, hash, e));
    if (have && old->images == d->images && memcmp(hashes_in(&old->map), hash, bytes) == 0) return BLIP2_OK;
    if (have) B2_TRY(index_old(old, e));
    B2_TRY(write_file(path, w, old, hash, e));
    b2_map_close(&old->map);
    if (!map_whole(&old->map, &old->images, path, w->model, &w->model->device->log) ||
        old->images != d->images)
        return b2_fail(e, BLIP2_ERR_IO, "%s: changed while it was being written", path);
    return BLIP2_OK;
}

blip2_status b2_feature_file_open(b2_feature_file *f, const char *path, const b2_encoder_work *w,
                                  blip2_error *e)
{
    old_file old = {0};
    *f = (b2_feature_file){0};
    uint64_t *hash = malloc((size_t)w->pictures->d->images * sizeof *hash);
    if (!hash) return B2_NOMEM(e, "photos' hashes");
    const bool have = map_whole(&old.map, &old.images, path, w->model, &w->model->device->log);
    const blip2_status s = make_file(&old, have, path, w, hash, e);
    free(hash);
    free(old.index);
    if (s != BLIP2_OK) {
        b2_map_close(&old.map);
        return s;
    }
    *f = (b2_feature_file){old.map, tokens_in(&old.map, old.images), b2_device_host(w->model->device)};
    b2_account_add(f->account, f->map.size);
    return BLIP2_OK;
}

void b2_feature_file_close(b2_feature_file *f)
{
    if (f->map.p) b2_account_sub(f->account, f->map.size);
    b2_map_close(&f->map);
    *f = (b2_feature_file){0};
}
