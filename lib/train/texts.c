/* Tokenising a data set: every distinct prompt, answer and caption once. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "model/forward.h"
#include "text/text.h"
#include "train/texts.h"

/* Distinct texts by content: open addressing, filled to at most a half. */
typedef struct slot {
    const char *text; /* NULL: free */
    bool prompt;
    b2_span span;
} slot;

typedef struct work {
    b2_texts *t;
    const blip2_dataset *d;
    const blip2_model *m;
    const b2_texts_options *o;
    slot *slots;
    size_t cap, used;
    size_t n, room; /* of t->ids */
    int32_t *rows;  /* room for one row of encoder ids */
    b2_str formatted;
} work;

static size_t place(const slot *s, size_t cap, const char *text, bool prompt)
{
    size_t at = (size_t)b2_hash64(prompt, text, strlen(text)) & (cap - 1);
    while (s[at].text && (s[at].prompt != prompt || strcmp(s[at].text, text) != 0)) at = (at + 1) & (cap - 1);
    return at;
}

static blip2_status grow_slots(work *w, blip2_error *e)
{
    if (w->slots && 2 * w->used < w->cap) return BLIP2_OK;
    const size_t cap = w->cap ? 2 * w->cap : 256;
    slot *s = calloc(cap, sizeof *s);
    if (!s) return B2_NOMEM(e, "tokenised texts");
    for (size_t i = 0; i < w->cap; i++) {
        if (w->slots[i].text) s[place(s, cap, w->slots[i].text, w->slots[i].prompt)] = w->slots[i];
    }
    free(w->slots);
    w->slots = s;
    w->cap = cap;
    return BLIP2_OK;
}

static blip2_status append_ids(work *w, const char *text, const blip2_row *r, b2_span *out, blip2_error *e)
{
    size_t count = 0;
    const size_t n = strlen(text);
    B2_TRY(b2_fail_context(e, blip2_tokenizer_encode(w->m->tok, text, n, NULL, 0, &count, e), "%s: line %zu",
                           w->d->name, r->line));
    if (w->n + count > w->room) {
        const size_t room = 2 * w->room + count + 1024;
        int32_t *ids = realloc(w->t->ids, room * sizeof *ids);
        if (!ids) return B2_NOMEM(e, "token ids");
        w->t->ids = ids;
        w->room = room;
    }
    B2_TRY(blip2_tokenizer_encode(w->m->tok, text, n, w->t->ids + w->n, w->room - w->n, &count, e));
    *out = (b2_span){w->n, (int32_t)count};
    w->n += count;
    return BLIP2_OK;
}

static blip2_status check_span(work *w, const b2_span *s, bool prompt, const blip2_row *r, blip2_error *e)
{
    const int limit = prompt ? w->o->max_prompt : w->o->max_answer;
    const int vocab = w->m->config.t5.vocab;
    const char *what = prompt ? "prompt" : r->question ? "answer" : "caption";
    if (s->n > limit)
        return b2_fail(e, BLIP2_ERR_DATA, "%s: line %zu: the %s has %d tokens, at most %d are allowed",
                       w->d->name, r->line, what, s->n, limit);
    for (int i = 0; i < s->n; i++) {
        const int32_t id = w->t->ids[s->at + (size_t)i];
        if (id < 0 || id >= vocab)
            return b2_fail(e, BLIP2_ERR_CONFIG,
                           "%s: line %zu: the tokenizer gives id %d for the %s, the model knows 0 to %d",
                           w->d->name, r->line, id, what, vocab - 1);
    }
    if (!prompt) return BLIP2_OK;
    const int len = b2_encoder_ids(&w->m->config, w->t->ids + s->at, s->n, 0, w->rows);
    if (len < 0)
        return b2_fail(e, BLIP2_ERR_DATA,
                       "%s: line %zu: the prompt holds image placeholders, but not %d of them", w->d->name,
                       r->line, w->m->config.qf.queries);
    if (len > w->t->max_in) w->t->max_in = len;
    return BLIP2_OK;
}

static blip2_status intern(work *w, const char *text, bool prompt, const blip2_row *r, b2_span *out,
                           blip2_error *e)
{
    B2_TRY(grow_slots(w, e));
    slot *s = &w->slots[place(w->slots, w->cap, text, prompt)];
    if (!s->text) {
        const char *whole = text;
        b2_str_clear(&w->formatted);
        if (prompt) {
            B2_TRY(b2_prompt_format(&w->formatted, w->o->prompt_template, text, e));
            whole = w->formatted.p ? w->formatted.p : "";
        }
        B2_TRY(append_ids(w, whole, r, &s->span, e));
        B2_TRY(check_span(w, &s->span, prompt, r, e));
        s->text = text;
        s->prompt = prompt;
        w->used++;
    }
    *out = s->span;
    return BLIP2_OK;
}

static int min_int(int a, int b) { return a < b ? a : b; }
static int max_int(int a, int b) { return a > b ? a : b; }

static blip2_status read_row(work *w, int64_t i, blip2_error *e)
{
    const blip2_row *r = &w->d->row[i];
    b2_texts *t = w->t;
    B2_TRY(intern(w, r->answer, false, r, &t->out[i], e));
    t->max_out = max_int(t->max_out, t->out[i].n);
    if (r->question) return intern(w, r->question, true, r, &t->in[i], e);
    /* The longest prefix leaves one token for the label, and ends with </s> itself. */
    t->max_in =
        max_int(t->max_in, w->m->config.qf.queries + max_int(1, min_int(t->out[i].n - 1, w->o->max_prompt)));
    return BLIP2_OK;
}

static blip2_status read_all(work *w, blip2_error *e)
{
    const size_t rows = (size_t)w->d->rows;
    w->rows = malloc(((size_t)w->o->max_prompt + (size_t)w->m->config.qf.queries) * sizeof *w->rows);
    w->t->in = calloc(rows, sizeof *w->t->in);
    w->t->out = calloc(rows, sizeof *w->t->out);
    if (!w->rows || !w->t->in || !w->t->out) return B2_NOMEM(e, "token ids");
    for (int64_t i = 0; i < w->d->rows; i++) B2_TRY(read_row(w, i, e));
    int32_t *fit = realloc(w->t->ids, (w->n ? w->n : 1) * sizeof *fit);
    if (fit) w->t->ids = fit;
    return BLIP2_OK;
}

blip2_status b2_texts_open(b2_texts *t, const blip2_dataset *d, const blip2_model *m,
                           const b2_texts_options *o, b2_account *account, blip2_error *e)
{
    *t = (b2_texts){.max_prompt = o->max_prompt};
    if (!m->tok)
        return b2_fail(e, BLIP2_ERR_CONFIG, "%s: the model has no tokenizer, training needs one", m->dir);
    if (o->max_prompt < 1 || o->max_answer < 1)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_prompt_tokens and max_answer_tokens must be at least 1");
    work w = {.t = t, .d = d, .m = m, .o = o};
    const blip2_status s = read_all(&w, e);
    free(w.slots);
    free(w.rows);
    b2_str_free(&w.formatted);
    if (s != BLIP2_OK) {
        b2_texts_close(t);
        return s;
    }
    t->bytes = w.n * sizeof *t->ids + 2 * (size_t)d->rows * sizeof *t->in;
    t->account = account;
    b2_account_add(account, t->bytes);
    return BLIP2_OK;
}

void b2_texts_close(b2_texts *t)
{
    if (t->bytes) b2_account_sub(t->account, t->bytes);
    free(t->ids);
    free(t->in);
    free(t->out);
    *t = (b2_texts){0};
}
