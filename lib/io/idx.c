/* IDX files through zlib (the only file that includes it). */
#include <stdlib.h>
#include <zlib.h>
#include "io/idx.h"

struct source {
    gzFile f;
    const char *path;
    blip2_error *e;
};

/* The reason why zlib gave fewer bytes than wanted: its own, or the plain end of the data. */
static blip2_status short_read(const struct source *s, const char *what)
{
    int code = Z_OK;
    const char *why = gzerror(s->f, &code);
    if (code == Z_ERRNO) return b2_fail_errno(s->e, BLIP2_ERR_IO, "%s: %s cannot be read", s->path, what);
    if (code != Z_OK && code != Z_STREAM_END)
        return b2_fail(s->e, BLIP2_ERR_FORMAT, "%s: %s: damaged or truncated gzip data (%s)", s->path, what,
                       why);
    return b2_fail(s->e, BLIP2_ERR_FORMAT, "%s: the file ends within %s", s->path, what);
}

static blip2_status read_exactly(const struct source *s, uint8_t *p, size_t n, const char *what)
{
    while (n) {
        unsigned piece = n < (1u << 30) ? (unsigned)n : 1u << 30;
        int got = gzread(s->f, p, piece);
        if (got <= 0) return short_read(s, what);
        p += got;
        n -= (size_t)got;
    }
    return BLIP2_OK;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Reads magic and sizes; the data's size must fit `limit`. */
static blip2_status read_header(b2_idx *x, const struct source *s, size_t limit)
{
    uint8_t b[16];
    B2_TRY(read_exactly(s, b, 4, "the IDX header"));
    if (b[0] || b[1] || b[2] != 8 || b[3] < 1 || b[3] > 4)
        return b2_fail(
            s->e, BLIP2_ERR_FORMAT,
            "%s: begins with %02x%02x%02x%02x, expected 0000 08 and 1 to 4 dimensions (IDX of bytes)",
            s->path, b[0], b[1], b[2], b[3]);
    x->dims = b[3];
    B2_TRY(read_exactly(s, b, 4 * (size_t)x->dims, "the IDX header"));
    x->bytes = 1;
    for (int i = 0; i < x->dims; i++) {
        x->size[i] = big_endian(b + 4 * i);
        if (__builtin_mul_overflow(x->bytes, (size_t)x->size[i], &x->bytes))
            return b2_fail(s->e, BLIP2_ERR_FORMAT, "%s: the sizes in its header overflow", s->path);
    }
    if (x->bytes > limit)
        return b2_fail(s->e, BLIP2_ERR_LIMIT, "%s: %zu bytes of data, the limit is %zu", s->path, x->bytes,
                       limit);
    return BLIP2_OK;
}

/* Data, then nothing. The memory grows with what really arrives: a header alone cannot claim it. */
static blip2_status read_data(b2_idx *x, const struct source *s)
{
    size_t have = 0, cap = 0;
    do {
        cap = cap < ((size_t)16 << 20) ? (size_t)16 << 20 : 2 * cap;
        if (cap > x->bytes) cap = x->bytes;
        uint8_t *p = realloc(x->data, cap ? cap : 1);
        if (!p) return B2_NOMEM(s->e, s->path);
        x->data = p;
        B2_TRY(read_exactly(s, p + have, cap - have, "the data that its header announces"));
        have = cap;
    } while (have < x->bytes);
    uint8_t extra;
    int got = gzread(s->f, &extra, 1); /* also makes zlib check the CRC at the end */
    if (got < 0) return short_read(s, "its end");
    if (got) return b2_fail(s->e, BLIP2_ERR_FORMAT, "%s: more data than its header announces", s->path);
    return BLIP2_OK;
}

blip2_status b2_idx_load(b2_idx *out, const char *path, size_t limit, blip2_error *e)
{
    *out = (b2_idx){0};
    struct source s = {.f = gzopen(path, "rbe"), .path = path, .e = e};
    if (!s.f) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be opened", path);
    gzbuffer(s.f, 128 * 1024);
    b2_idx x = {0};
    blip2_status status = read_header(&x, &s, limit);
    if (status == BLIP2_OK) status = read_data(&x, &s);
    int closed = gzclose_r(s.f); /* Z_BUF_ERROR: the stream was cut off */
    if (status == BLIP2_OK && closed != Z_OK)
        status = b2_fail(e, BLIP2_ERR_FORMAT, "%s: truncated gzip data", path);
    if (status != BLIP2_OK)
        b2_idx_free(&x);
    else
        *out = x;
    return status;
}

void b2_idx_free(b2_idx *x)
{
    free(x->data);
    *x = (b2_idx){0};
}
