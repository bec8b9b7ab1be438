/* T5's tokenizer: added tokens around sentencepiece, as transformers' T5Tokenizer (slow, legacy) does it. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/file.h"
#include "base/json.h"
#include "text/added.h"
#include "text/spm_proto.h"
#include "text/text.h"

#define MAX_TEXT      ((size_t)1 << 20)
#define MAX_EXTRA_IDS 1000
#define CHUNK         8192

struct blip2_tokenizer {
    b2_spm *spm;
    b2_added added;
    int32_t eos, size;
    bool clean_up;
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static blip2_status put_special(b2_added *a, const char *text, int32_t id, bool strip, blip2_error *e)
{
    const b2_added_token t = {
        .text = (char *)text, .n = strlen(text), .id = id, .special = true, .lstrip = strip, .rstrip = strip};
    return id < 0 ? BLIP2_OK : b2_added_put(a, &t, e);
}

/* tokenizer_config.json's extra_ids; else as many as it lists; else T5Tokenizer's 100. */
static blip2_status count_extra_ids(const b2_json *config, int64_t *n, blip2_error *e)
{
    const b2_json *v = b2_json_get(config, "extra_ids");
    *n = 0;
    if (!b2_json_is_null(v)) {
        if (b2_json_int(v, 0, MAX_EXTRA_IDS, n)) return BLIP2_OK;
        return b2_fail(e, BLIP2_ERR_FORMAT, "tokenizer_config.json: extra_ids must be 0 to %d",
                       MAX_EXTRA_IDS);
    }
    for (v = b2_json_first(b2_json_get(config, "additional_special_tokens")); v; v = b2_json_next(v)) {
        const char *text = b2_json_string(b2_json_is_object(v) ? b2_json_get(v, "content") : v);
        if (text && strstr(text, "<extra_id_")) ++*n;
    }
    if (*n == 0) *n = 100;
    if (*n > MAX_EXTRA_IDS) return b2_fail(e, BLIP2_ERR_LIMIT, "more than %d extra ids", MAX_EXTRA_IDS);
    return BLIP2_OK;
}

/* spiece.model knows nothing of the added tokens: </s>, <pad>, <unk>, the extra ids from the end of the
 * pieces downward in their numbers, and what tokenizer_config.json adds. */
static blip2_status add_for_model(blip2_tokenizer *t, const b2_json *config, blip2_error *e)
{
    static const char *const names[] = {"</s>", "<pad>", "<unk>"};
    int64_t extra;
    B2_TRY(count_extra_ids(config, &extra, e));
    for (int i = 0; i < 3; i++)
        B2_TRY(put_special(&t->added, names[i], b2_spm_id(t->spm, names[i]), false, e));
    for (int i = 0; i < (int)extra; i++) {
        b2_str name = {0};
        b2_str_addf(&name, "<extra_id_%d>", i);
        blip2_status s =
            name.failed ? B2_NOMEM(e, "extra ids")
                        : put_special(&t->added, name.p, b2_spm_size(t->spm) - 1 + (int)extra - i, true, e);
        b2_str_free(&name);
        if (s != BLIP2_OK) return s;
    }
    const b2_json *v = b2_json_first(b2_json_get(config, "added_tokens_decoder"));
    for (; v; v = b2_json_next(v)) {
        long long id;
        if (!b2_parse_int(b2_json_key(v) ? b2_json_key(v) : "", 0, B2_ADDED_MAX_ID, &id)) id = -1;
        B2_TRY(b2_added_put_json(&t->added, id, v, "tokenizer_config.json", e));
    }
    return b2_added_finish(&t->added, e);
}

static blip2_status open_files(blip2_tokenizer *t, const char *path, const b2_json *config, blip2_error *e)
{
    b2_str model = {0};
    const bool json = b2_str_ends(path, ".json");
    blip2_status s = json ? b2_tokenizer_json_read(path, &model, &t->added, e)
                          : b2_read_file(path, B2_SPM_MAX_BYTES, &model.p, &model.n, e);
    if (s == BLIP2_OK) s = b2_fail_context(e, b2_spm_open(&t->spm, model.p, model.n, e), "%s", path);
    b2_str_free(&model);
    if (s == BLIP2_OK && !json) s = b2_fail_context(e, add_for_model(t, config, e), "%s", path);
    if (s != BLIP2_OK) return s;
    t->eos = b2_spm_id(t->spm, "</s>");
    if (t->eos < 0) return b2_fail(e, BLIP2_ERR_FORMAT, "%s: no piece </s>: not a T5 tokenizer", path);
    t->size = b2_spm_size(t->spm);
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.list[i].id >= t->size) t->size = t->added.list[i].id + 1;
    /* transformers 4.46 and later: false when the file does not say */
    t->clean_up = b2_json_bool(b2_json_get(config, "clean_up_tokenization_spaces"), false);
    return BLIP2_OK;
}

/* The file and, beside it, tokenizer_config.json. */
static blip2_status open_at(blip2_tokenizer *t, const char *dir, const char *path, blip2_error *e)
{
    char *config_path = b2_path_join(dir, "tokenizer_config.json");
    b2_json *config = NULL;
    blip2_status s = config_path ? BLIP2_OK : B2_NOMEM(e, path);
    if (s == BLIP2_OK && b2_file_exists(config_path))
        s = b2_json_load(&config, config_path, 4 << 20, 200000, e);
    if (s == BLIP2_OK) s = open_files(t, path, config, e);
    b2_json_free(config);
    free(config_path);
    return s;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static blip2_status open_folder(blip2_tokenizer *t, const char *dir, blip2_error *e)
{
    static const char *const names[] = {"spiece.model", "tokenizer.json"};
    for (int i = 0; i < 2; i++) {
        char *path = b2_path_join(dir, names[i]);
        if (!path) return B2_NOMEM(e, dir);
        const bool there = b2_file_exists(path);
        blip2_status s = there ? open_at(t, dir, path, e) : BLIP2_OK;
        free(path);
        if (there) return s;
    }
    return b2_fail(e, BLIP2_ERR_IO, "%s: neither spiece.model nor tokenizer.json", dir);
}

blip2_status blip2_tokenizer_open(const char *path, blip2_tokenizer **out, blip2_error *err)
{
    if (!path || !out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "tokenizer: path and out must not be NULL");
    *out = NULL;
    blip2_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return B2_NOMEM(err, "a tokenizer");
    const char *slash = strrchr(path, '/');
    char *dir = slash ? b2_strndup(path, (size_t)(slash - path) + 1) : b2_strdup(".");
    blip2_status s = !dir              ? B2_NOMEM(err, path)
                     : is_folder(path) ? open_folder(t, path, err)
                                       : open_at(t, dir, path, err);
    free(dir);
    if (s == BLIP2_OK)
        *out = t;
    else
        blip2_tokenizer_close(t);
    return s;
}

void blip2_tokenizer_close(blip2_tokenizer *t)
{
    if (!t) return;
    b2_spm_close(t->spm);
    b2_added_free(&t->added);
    free(t);
}

int32_t blip2_tokenizer_size(const blip2_tokenizer *t) { return t ? t->size : 0; }

blip2_status b2_tokenizer_copy(const char *from_dir, const char *to_dir, blip2_error *e)
{
    static const char *const names[] = {"spiece.model", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    blip2_status s = BLIP2_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && s == BLIP2_OK; i++) {
        char *from = b2_path_join(from_dir, names[i]), *to = b2_path_join(to_dir, names[i]);
        if (!from || !to)
            s = B2_NOMEM(e, names[i]);
        else if (b2_file_exists(from))
            s = b2_copy_file(from, to, e);
        free(from);
        free(to);
    }
    return s;
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

typedef struct id_list {
    int32_t *p;
    size_t n, cap;
} id_list;

static blip2_status add_ids(id_list *l, const int32_t *ids, size_t n, blip2_error *e)
{
    if (n > l->cap - l->n) {
        size_t cap = l->n + n + l->cap / 2 + 16;
        int32_t *p = realloc(l->p, cap * sizeof *p);
        if (!p) return B2_NOMEM(e, "token ids");
        l->p = p;
        l->cap = cap;
    }
    if (n) memcpy(l->p + l->n, ids, n * sizeof *ids);
    l->n += n;
    return BLIP2_OK;
}

static bool blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* How much of a long text is encoded at once: sentencepiece's time grows with the square of a run of unknown
 * characters. T5's pieces do not reach over a blank, so that a cut there changes nothing; a word of CHUNK
 * bytes becomes two. */
static size_t chunk_of(const char *text, size_t n)
{
    if (n <= CHUNK) return n;
    size_t cut = CHUNK;
    while (cut > 0 && !blank(text[cut])) cut--;
    if (cut == 0) cut = b2_utf8_complete(text, CHUNK);
    return cut ? cut : CHUNK;
}

static blip2_status encode_plain(const blip2_tokenizer *t, const char *text, size_t n, id_list *l,
                                 blip2_error *e)
{
    blip2_status s = BLIP2_OK;
    while (n && s == BLIP2_OK) {
        int32_t *ids = NULL;
        size_t count = 0, step = chunk_of(text, n);
        s = b2_spm_encode(t->spm, text, step, &ids, &count, e);
        if (s == BLIP2_OK) s = add_ids(l, ids, count, e);
        free(ids);
        text += step;
        n -= step;
    }
    return s;
}

static blip2_status encode(const blip2_tokenizer *t, const char *text, size_t n, id_list *l, blip2_error *e)
{
    for (size_t from = 0; from < n;) {
        size_t at = n;
        const b2_added_token *token = b2_added_find(&t->added, text, n, from, &at);
        size_t end = token ? at : n, next = token ? at + token->n : n;
        while (token && token->lstrip && end > from && blank(text[end - 1])) end--;
        while (token && token->rstrip && next < n && blank(text[next])) next++;
        B2_TRY(encode_plain(t, text + from, end - from, l, e));
        if (token) B2_TRY(add_ids(l, &token->id, 1, e));
        from = next;
    }
    if (l->n && l->p[l->n - 1] == t->eos) return BLIP2_OK;
    return add_ids(l, &t->eos, 1, e);
}

blip2_status blip2_tokenizer_encode(const blip2_tokenizer *t, const char *text, size_t size, int32_t *ids,
                                    size_t capacity, size_t *count, blip2_error *err)
{
    if (!t || (!text && size) || !count)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "encode: tokenizer, text and count must not be NULL");
    *count = 0;
    if (size > MAX_TEXT)
        return b2_fail(err, BLIP2_ERR_LIMIT, "encode: a text of %zu bytes, the limit is %zu", size, MAX_TEXT);
    id_list l = {0};
    blip2_status s = encode(t, text, size, &l, err);
    if (s == BLIP2_OK) {
        *count = l.n;
        if (ids && l.n > capacity)
            s = b2_fail(err, BLIP2_ERR_LIMIT, "encode: %zu ids, there is room for %zu", l.n, capacity);
        else if (ids)
            memcpy(ids, l.p, l.n * sizeof *ids);
    }
    free(l.p);
    return s;
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

/* One more part, a blank between it and what is there already. */
static void add_part(b2_str *out, const char *p, size_t n)
{
    while (n && blank(p[0])) p++, n--;
    while (n && blank(p[n - 1])) n--;
    if (n == 0) return;
    if (out->n) b2_str_addn(out, " ", 1);
    b2_str_addn(out, p, n);
}

static blip2_status decode_run(const blip2_tokenizer *t, id_list *run, b2_str *out, blip2_error *e)
{
    char *text;
    size_t n;
    if (run->n == 0) return BLIP2_OK;
    B2_TRY(b2_spm_decode(t->spm, run->p, run->n, &text, &n, e));
    add_part(out, text, n);
    free(text);
    run->n = 0;
    return BLIP2_OK;
}

static blip2_status decode(const blip2_tokenizer *t, const int32_t *ids, size_t n, id_list *run, b2_str *out,
                           blip2_error *e)
{
    for (size_t i = 0; i < n; i++) {
        const b2_added_token *added = b2_added_by_id(&t->added, ids[i]);
        if (added && !added->special) {
            B2_TRY(decode_run(t, run, out, e));
            add_part(out, added->text, added->n);
        } else if (!added && b2_spm_is_text(t->spm, ids[i])) {
            B2_TRY(add_ids(run, &ids[i], 1, e));
        }
    }
    B2_TRY(decode_run(t, run, out, e));
    return out->failed ? B2_NOMEM(e, "a text") : BLIP2_OK;
}

static void replace_all(b2_str *s, const char *from, const char *to)
{
    const size_t n = strlen(from), m = strlen(to); /* m < n */
    size_t out = 0;
    for (size_t i = 0; i < s->n;)
        if (s->n - i >= n && memcmp(s->p + i, from, n) == 0) {
            memcpy(s->p + out, to, m);
            out += m;
            i += n;
        } else {
            s->p[out++] = s->p[i++];
        }
    if (s->p) s->p[out] = 0;
    s->n = out;
}

/* clean_up_tokenization of transformers' tokenizers. */
static void clean_up(b2_str *s)
{
    static const char *const rules[][2] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                           {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) replace_all(s, rules[i][0], rules[i][1]);
}

blip2_status blip2_tokenizer_decode(const blip2_tokenizer *t, const int32_t *ids, size_t count, char *text,
                                    size_t capacity, size_t *size, blip2_error *err)
{
    if (!t || (!ids && count) || !size)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "decode: tokenizer, ids and size must not be NULL");
    *size = 0;
    b2_str out = {0};
    id_list run = {0};
    blip2_status s = decode(t, ids, count, &run, &out, err);
    if (s == BLIP2_OK) {
        if (t->clean_up) clean_up(&out);
        *size = out.n;
        if (text && capacity <= out.n)
            s = b2_fail(err, BLIP2_ERR_LIMIT, "decode: a text of %zu bytes, there is room for %zu", out.n + 1,
                        capacity);
        else if (text)
            memcpy(text, out.n ? out.p : "", out.n + 1);
    }
    free(run.p);
    b2_str_free(&out);
    return s;
}

#if !B2_WITH_TEXT
/* sentencepiece.cc is left out: nothing can be opened. */
blip2_status b2_spm_open(b2_spm **out, const void *model, size_t n, blip2_error *e)
{
    (void)model, (void)n;
    *out = NULL;
    return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "the tokenizer: the library was built with WITH_TEXT=0");
}
void b2_spm_close(b2_spm *s) { (void)s; }
int32_t b2_spm_size(const b2_spm *s) { return (void)s, 0; }
blip2_status b2_spm_encode(const b2_spm *s, const char *text, size_t n, int32_t **ids, size_t *count,
                           blip2_error *e)
{
    (void)s, (void)text, (void)n, (void)ids, (void)count;
    return b2_spm_open(&(b2_spm *){NULL}, NULL, 0, e);
}
blip2_status b2_spm_decode(const b2_spm *s, const int32_t *ids, size_t count, char **text, size_t *n,
                           blip2_error *e)
{
    (void)s, (void)ids, (void)count, (void)text, (void)n;
    return b2_spm_open(&(b2_spm *){NULL}, NULL, 0, e);
}
int32_t b2_spm_id(const b2_spm *s, const char *piece) { return (void)s, (void)piece, -1; }
bool b2_spm_is_text(const b2_spm *s, int32_t id) { return (void)s, (void)id, false; }
#endif
