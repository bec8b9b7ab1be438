/* tokenizer.json (Hugging Face tokenizers) of a unigram model, written again as the ModelProto that
 * libsentencepiece reads: pieces and scores from model.vocab, the character map from the normalizer, T5's
 * white space rules. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "text/added.h"
#include "text/spm_proto.h"

#define MAX_FILE   ((size_t)64 << 20)
#define MAX_VALUES (4u << 20)

typedef struct reader {
    const char *path;
    const b2_json *root, *model;
    b2_added *added;
    int64_t unk;
    bool bytes; /* byte_fallback */
    b2_str *out;
    b2_str charsmap;
    blip2_error *e;
} reader;

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool base64_decode(b2_str *out, const char *s)
{
    size_t n = strlen(s);
    unsigned bits = 0, have = 0;
    while (n && s[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        int d = base64_digit(s[i]);
        if (d < 0) return false;
        bits = (bits << 6 | (unsigned)d) & 0xFFFF;
        if ((have += 6) < 8) continue;
        have -= 8;
        b2_str_addn(out, (const char[]){(char)(bits >> have)}, 1);
    }
    return have < 6 && !out->failed;
}

static bool is_type(const b2_json *v, const char *name)
{
    const char *type = b2_json_string(b2_json_get(v, "type"));
    return type && strcmp(type, name) == 0;
}

/* Sequences hold the character map and rules about blanks, which sentencepiece has built in. */
static blip2_status read_normalizer(reader *r, const b2_json *v, int depth)
{
    const char *type = b2_json_string(b2_json_get(v, "type"));
    if (b2_json_is_null(v) || is_type(v, "Strip") || is_type(v, "Replace")) return BLIP2_OK;
    if (is_type(v, "Sequence") && depth < 4) {
        for (v = b2_json_first(b2_json_get(v, "normalizers")); v; v = b2_json_next(v))
            B2_TRY(read_normalizer(r, v, depth + 1));
        return BLIP2_OK;
    }
    if (!is_type(v, "Precompiled") || r->charsmap.n)
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED, "%s: normalizer %s, expected one Precompiled", r->path,
                       type ? type : "without type");
    const char *map = b2_json_string(b2_json_get(v, "precompiled_charsmap"));
    if (!map) return BLIP2_OK; /* null: nothing is replaced */
    if (!base64_decode(&r->charsmap, map))
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: precompiled_charsmap is not base64", r->path);
    return BLIP2_OK;
}

static blip2_status read_added(reader *r)
{
    const b2_json *v = b2_json_first(b2_json_get(r->root, "added_tokens"));
    for (; v; v = b2_json_next(v)) {
        int64_t id = -1;
        b2_json_int(b2_json_get(v, "id"), 0, B2_ADDED_MAX_ID, &id);
        B2_TRY(b2_added_put_json(r->added, id, v, r->path, r->e));
    }
    return b2_added_finish(r->added, r->e);
}

static bool is_byte_piece(const char *s)
{
    return strlen(s) == 6 && strncmp(s, "<0x", 3) == 0 && s[5] == '>';
}

static bool is_control(const b2_added_token *added, const char *text)
{
    return added || strcmp(text, "</s>") == 0 || strcmp(text, "<pad>") == 0;
}

static blip2_status write_piece(reader *r, int64_t id, const b2_json *pair, b2_str *piece)
{
    const b2_json *name = b2_json_first(pair), *score = b2_json_next(name);
    const char *text = b2_json_is_array(pair) ? b2_json_string(name) : NULL;
    if (!text || !b2_json_is_number(score))
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: vocab entry %lld is not [text, score]", r->path,
                       (long long)id);
    const b2_added_token *added = b2_added_by_id(r->added, (int32_t)id);
    if (added && strcmp(added->text, text) != 0)
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: id %lld is %s in vocab and %s in added_tokens", r->path,
                       (long long)id, text, added->text);
    int type = id == r->unk                      ? B2_SPM_UNKNOWN
               : is_control(added, text)         ? B2_SPM_CONTROL
               : r->bytes && is_byte_piece(text) ? B2_SPM_BYTE
                                                 : B2_SPM_NORMAL;
    b2_str_clear(piece);
    b2_pb_bytes(piece, 1, text, strlen(text));
    b2_pb_float(piece, 2, (float)b2_json_number(score, 0));
    b2_pb_int(piece, 3, type);
    b2_pb_bytes(r->out, 1, piece->p, piece->n);
    return BLIP2_OK;
}

static blip2_status write_pieces(reader *r)
{
    const b2_json *vocab = b2_json_get(r->model, "vocab");
    const size_t n = b2_json_size(vocab);
    if (!b2_json_is_array(vocab) || n == 0 || n > B2_SPM_MAX_PIECES)
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: model.vocab must be an array of 1 to %d pieces", r->path,
                       B2_SPM_MAX_PIECES);
    if (!b2_json_int(b2_json_get(r->model, "unk_id"), 0, (int64_t)n - 1, &r->unk))
        return b2_fail(r->e, BLIP2_ERR_FORMAT, "%s: no model.unk_id within the vocabulary", r->path);
    b2_str piece = {0};
    blip2_status s = BLIP2_OK;
    int64_t id = 0;
    for (const b2_json *v = b2_json_first(vocab); v && s == BLIP2_OK; v = b2_json_next(v))
        s = write_piece(r, id++, v, &piece);
    r->out->failed |= piece.failed;
    b2_str_free(&piece);
    return s;
}

/* trainer_spec: unigram, no bos; normalizer_spec: what T5's models say. */
static void write_specs(reader *r)
{
    b2_str s = {0};
    b2_pb_int(&s, 3, 1);
    b2_pb_int(&s, 35, r->bytes);
    b2_pb_int(&s, 40, r->unk);
    b2_pb_int(&s, 41, -1);
    b2_pb_bytes(r->out, 2, s.p, s.n);
    b2_str_clear(&s);
    b2_pb_bytes(&s, 2, r->charsmap.p, r->charsmap.n);
    for (int field = 3; field <= 5; field++)
        b2_pb_int(&s, field, 1); /* dummy prefix, extra blanks, escaped blanks */
    b2_pb_bytes(r->out, 3, s.p, s.n);
    r->out->failed |= s.failed;
    b2_str_free(&s);
}

static blip2_status convert(reader *r)
{
    r->model = b2_json_get(r->root, "model");
    if (!is_type(r->model, "Unigram"))
        return b2_fail(r->e, BLIP2_ERR_UNSUPPORTED, "%s: model.type must be Unigram", r->path);
    r->bytes = b2_json_bool(b2_json_get(r->model, "byte_fallback"), false);
    B2_TRY(read_normalizer(r, b2_json_get(r->root, "normalizer"), 0));
    B2_TRY(read_added(r));
    B2_TRY(write_pieces(r));
    write_specs(r);
    return r->out->failed || r->charsmap.failed ? B2_NOMEM(r->e, r->path) : BLIP2_OK;
}

blip2_status b2_tokenizer_json_read(const char *path, b2_str *model, b2_added *added, blip2_error *e)
{
    b2_json *root;
    B2_TRY(b2_json_load(&root, path, MAX_FILE, MAX_VALUES, e));
    reader r = {.path = path, .root = root, .added = added, .out = model, .e = e};
    blip2_status s = convert(&r);
    b2_str_free(&r.charsmap);
    b2_json_free(root);
    return s;
}
