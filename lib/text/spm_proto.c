/* Protobuf writing, and a walk over sentencepiece model files that refuses what could hurt the library that
 * parses them: long pieces (stack overflow), NULs in pieces (short keys), character maps that point outside
 * (reads out of bounds). */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "text/spm_proto.h"

#define MAX_REPLACEMENT 256  /* bytes that a character can become */
#define MAX_SCORE       1e9f /* real ones are log probabilities; sums over a text must stay finite */

static void varint(b2_str *s, uint64_t v)
{
    char bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) bytes[n++] = (char)(v | 0x80);
    bytes[n++] = (char)v;
    b2_str_addn(s, bytes, n);
}

void b2_pb_int(b2_str *s, int field, int64_t v)
{
    varint(s, (uint64_t)field << 3);
    varint(s, (uint64_t)v);
}

void b2_pb_bytes(b2_str *s, int field, const void *p, size_t n)
{
    varint(s, (uint64_t)field << 3 | 2);
    varint(s, n);
    b2_str_addn(s, p, n);
}

void b2_pb_float(b2_str *s, int field, float v)
{
    varint(s, (uint64_t)field << 3 | 5);
    b2_str_addn(s, (const char *)&v, sizeof v); /* little-endian, as the machine */
}

typedef struct field {
    uint64_t number, wire, value; /* value: of wire types 0, 1 and 5 */
    const uint8_t *p;             /* of wire type 2 */
    size_t n;
} field;

typedef struct cursor {
    const uint8_t *p, *end;
} cursor;

static bool take_varint(cursor *c, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 70 && c->p < c->end; shift += 7) {
        uint8_t b = *c->p++;
        if (shift < 64) *v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) return true;
    }
    return false;
}

static bool take(cursor *c, void *out, size_t n)
{
    if ((size_t)(c->end - c->p) < n) return false;
    memcpy(out, c->p, n);
    c->p += n;
    return true;
}

static bool take_field(cursor *c, field *f)
{
    uint64_t key, n;
    *f = (field){0};
    if (!take_varint(c, &key)) return false;
    f->number = key >> 3;
    f->wire = key & 7;
    switch (f->wire) {
    case 0: return take_varint(c, &f->value);
    case 1: return take(c, &f->value, 8);
    case 5: return take(c, &f->value, 4);
    case 2:
        if (!take_varint(c, &n) || n > (size_t)(c->end - c->p)) return false;
        f->p = c->p;
        f->n = (size_t)n;
        c->p += n;
        return true;
    default: return false;
    }
}

static blip2_status cut(blip2_error *e)
{
    return b2_fail(e, BLIP2_ERR_FORMAT, "not a sentencepiece model, or a damaged one");
}

static blip2_status check_string(const field *f, const char *what, blip2_error *e)
{
    if (f->n > B2_SPM_MAX_PIECE)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%s of %zu bytes, the limit is %d", what, f->n, B2_SPM_MAX_PIECE);
    if (memchr(f->p, 0, f->n) || !b2_utf8_valid((const char *)f->p, f->n))
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s that is not UTF-8 text", what);
    return BLIP2_OK;
}

static blip2_status check_piece(const field *piece, blip2_error *e)
{
    cursor c = {piece->p, piece->p + piece->n};
    field f;
    while (c.p < c.end) {
        if (!take_field(&c, &f)) return cut(e);
        if (f.number == 1 && f.wire == 2) B2_TRY(check_string(&f, "a piece", e));
        if (f.number == 2 && f.wire == 5) {
            float score;
            memcpy(&score, &f.value, sizeof score);
            if (!(fabsf(score) <= MAX_SCORE))
                return b2_fail(e, BLIP2_ERR_FORMAT, "a piece with the score %g", (double)score);
        }
        if (f.number == 3 && f.wire == 0 && (f.value < B2_SPM_NORMAL || f.value > B2_SPM_BYTE))
            return b2_fail(e, BLIP2_ERR_FORMAT, "a piece of unknown type %" PRIu64, f.value);
    }
    return BLIP2_OK;
}

static blip2_status check_trainer(const field *trainer, blip2_error *e)
{
    cursor c = {trainer->p, trainer->p + trainer->n};
    field f;
    while (c.p < c.end) {
        if (!take_field(&c, &f)) return cut(e);
        if (f.number == 3 && f.wire == 0 && f.value != 1)
            return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "model type %" PRIu64 ", expected 1 (unigram)", f.value);
        if (f.number >= 44 && f.number <= 48 && f.wire == 2) B2_TRY(check_string(&f, "a special piece", e));
    }
    return BLIP2_OK;
}

static uint32_t unit_at(const uint8_t *array, size_t i)
{
    uint32_t u;
    memcpy(&u, array + 4 * i, 4);
    return u;
}

/* Darts' array: from unit i, byte b leads to unit i ^ offset(i) ^ b, and a leaf's value lies at i ^
 * offset(i). Units with the highest bit are values and lead nowhere, but unit 0, the root, is followed
 * whatever it is. */
static bool array_is_closed(const uint8_t *array, size_t units, size_t strings)
{
    for (size_t i = 0; i < units; i++) {
        uint32_t u = unit_at(array, i);
        if (i && (u & 0x80000000u)) continue;
        size_t next = i ^ ((size_t)(u >> 10) << ((u & 0x200u) >> 6));
        if ((next | 255) >= units) return false;
        if ((u & 0x100u) && (unit_at(array, next) & 0x7FFFFFFFu) >= strings) return false;
    }
    return true;
}

/* u32 size of the array, the array, strings that end with NUL. */
static bool charsmap_is_sound(const uint8_t *p, size_t n)
{
    uint32_t bytes;
    if (n == 0) return true;
    if (n < 5) return false;
    memcpy(&bytes, p, 4);
    if (bytes > n - 5 || bytes % 4) return false;
    const uint8_t *strings = p + 4 + bytes, *end = p + n;
    if (end[-1] != 0) return false;
    for (const uint8_t *s = strings, *nul; s < end; s = nul + 1) {
        nul = memchr(s, 0, (size_t)(end - s));
        if (!nul || nul - s > MAX_REPLACEMENT) return false;
    }
    return bytes > 0 && array_is_closed(p + 4, bytes / 4, (size_t)(end - strings));
}

static blip2_status check_normalizer(const field *normalizer, blip2_error *e)
{
    cursor c = {normalizer->p, normalizer->p + normalizer->n};
    field f;
    while (c.p < c.end) {
        if (!take_field(&c, &f)) return cut(e);
        if (f.number == 2 && f.wire == 2 && !charsmap_is_sound(f.p, f.n))
            return b2_fail(e, BLIP2_ERR_FORMAT, "a damaged precompiled_charsmap");
    }
    return BLIP2_OK;
}

blip2_status b2_spm_check(const void *model, size_t n, blip2_error *e)
{
    cursor c = {model, (const uint8_t *)model + n};
    field f;
    size_t pieces = 0;
    if (n == 0) return b2_fail(e, BLIP2_ERR_FORMAT, "empty");
    if (n > B2_SPM_MAX_BYTES)
        return b2_fail(e, BLIP2_ERR_LIMIT, "%zu bytes, the limit is %zu", n, B2_SPM_MAX_BYTES);
    while (c.p < c.end) {
        if (!take_field(&c, &f)) return cut(e);
        if (f.number < 1 || f.wire != 2) continue;
        if (f.number == 1) B2_TRY(check_piece(&f, e));
        if (f.number == 2) B2_TRY(check_trainer(&f, e));
        if (f.number == 3 || f.number == 5) B2_TRY(check_normalizer(&f, e));
        if (f.number == 1 && ++pieces > B2_SPM_MAX_PIECES)
            return b2_fail(e, BLIP2_ERR_LIMIT, "more than %d pieces", B2_SPM_MAX_PIECES);
    }
    if (pieces == 0) return b2_fail(e, BLIP2_ERR_FORMAT, "no pieces");
    return BLIP2_OK;
}
