/* Greedy answers for a ragged batch. The host chooses and stops; the steps are decode.c's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "infer/session_core.h"

/* One row while it is being answered. */
typedef struct row {
    const blip2_request *r;
    blip2_answer *a;
    int32_t *tokens; /* in the answer store */
    b2_str *text;
    size_t told; /* bytes of text the callback has seen */
    int index;   /* of the request */
    int max_new;
    bool done;
} row;

void b2_answers_free(b2_answer_store *a)
{
    for (int i = 0; i < a->n; i++) b2_str_free(&a->text[i]);
    free(a->text);
    free(a->tokens);
    memset(a, 0, sizeof *a);
}

static blip2_status answers_new(blip2_session *s, int n, blip2_error *e)
{
    b2_answers_free(&s->answers);
    s->answers.tokens = calloc((size_t)n * (size_t)s->tdec + 1, sizeof(int32_t));
    s->answers.text = calloc((size_t)n + 1, sizeof(b2_str));
    if (!s->answers.tokens || !s->answers.text) return B2_NOMEM(e, "answers");
    s->answers.n = n;
    return BLIP2_OK;
}

blip2_status b2_session_check_request(const blip2_session *s, const blip2_request *r, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    if (r->size != sizeof *r)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_request.size: expected %zu, found %zu", sizeof *r,
                       r->size);
    if (r->adapter < -1 || r->adapter >= s->n_adapters)
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "adapter: expected -1 to %d (adapters bound to the session), found %d",
                       s->n_adapters - 1, r->adapter);
    if (r->max_new_tokens < 0 || r->max_new_tokens > s->tdec)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "max_new_tokens: expected 0 to %d (the session's), found %d",
                       s->tdec, r->max_new_tokens);
    if (r->min_new_tokens < 0 || r->min_new_tokens > s->tdec)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "min_new_tokens: expected 0 to %d, found %d", s->tdec,
                       r->min_new_tokens);
    if (r->prompt_ids && (r->prompt_count < 0 || r->prompt_count > s->tenc))
        return b2_fail(e, BLIP2_ERR_LIMIT, "prompt: %d ids, the session holds %d", r->prompt_count,
                       s->tenc - c->qf.queries);
    if (r->features && (r->features->tokens != c->qf.queries || r->features->hidden != c->t5.d))
        return b2_fail(e, BLIP2_ERR_SHAPE, "features: expected %d x %d, found %d x %d (another model's?)",
                       c->qf.queries, c->t5.d, r->features->tokens, r->features->hidden);
    return BLIP2_OK;
}

/* Text ids of a request into `ids` (room for s->tenc); captioning is the single bos id (model.md 3.3). */
static blip2_status prompt_ids(const blip2_session *s, const blip2_request *r, int32_t *ids, int *count,
                               blip2_error *e)
{
    const b2_config *c = &s->net->c;
    size_t n = 0;
    if (r->prompt_ids) {
        n = (size_t)r->prompt_count;
        memcpy(ids, r->prompt_ids, n * sizeof *ids);
    } else if (!r->prompt || !*r->prompt) {
        ids[n++] = c->t5.bos;
    } else if (!s->model->tok) {
        return b2_fail(e, BLIP2_ERR_STATE,
                       "%s: the model has no tokenizer (spiece.model or tokenizer.json): give prompt_ids",
                       s->model->dir);
    } else {
        const blip2_status st =
            blip2_tokenizer_encode(s->model->tok, r->prompt, strlen(r->prompt), ids, (size_t)s->tenc, &n, e);
        if (st == BLIP2_ERR_LIMIT)
            return b2_fail(e, st, "prompt: %zu tokens, the session holds %d (max_prompt_tokens)", n,
                           s->tenc - c->qf.queries);
        B2_TRY(st);
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= c->t5.vocab)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "prompt: id %d at %zu: expected 0 to %d", (int)ids[i], i,
                           c->t5.vocab - 1);
    }
    *count = (int)n;
    return BLIP2_OK;
}

/* Encoder ids of every row, padded to the longest; feats filled. */
static blip2_status fill_rows(blip2_session *s, row *rows, int n, int *t, blip2_error *e)
{
    const b2_config *c = &s->net->c;
    const size_t each = (size_t)c->qf.queries * (size_t)c->t5.d;
    int32_t *text = malloc(2 * (size_t)s->tenc * sizeof *text),
            *all = malloc((size_t)n * (size_t)s->tenc * sizeof *all);
    blip2_status st = text && all ? BLIP2_OK : B2_NOMEM(e, "prompts");
    *t = 1;
    for (int b = 0; b < n && st == BLIP2_OK; b++) {
        int count = 0, len = 0;
        st = prompt_ids(s, rows[b].r, text, &count, e);
        if (st != BLIP2_OK) break;
        int placeholders = 0;
        for (int i = 0; i < count; i++) placeholders += c->image_token >= 0 && text[i] == c->image_token;
        if (count - placeholders + c->qf.queries > s->tenc) {
            st = b2_fail(e, BLIP2_ERR_LIMIT, "prompt: %d tokens, the session holds %d (max_prompt_tokens)",
                         count - placeholders, s->tenc - c->qf.queries);
            break;
        }
        len = b2_encoder_ids(c, text, count, b * c->qf.queries, all + (size_t)b * (size_t)s->tenc);
        if (len < 0)
            st = b2_fail(e, BLIP2_ERR_ARGUMENT,
                         "prompt: expected 0 or %d image placeholders (id %d), found %d", c->qf.queries,
                         c->image_token, placeholders);
        s->enc_len[b] = len;
        *t = len > *t ? len : *t;
        s->which[b] = s->trained_net ? 0 : rows[b].r->adapter;
        float *to = s->feats + (size_t)b * each;
        if (rows[b].r->features)
            memcpy(to, rows[b].r->features->data, each * sizeof(float));
        else
            memset(to, 0, each * sizeof(float));
    }
    for (int b = 0; b < n && st == BLIP2_OK; b++) {
        for (int i = 0; i < *t; i++)
            s->enc_ids[b * *t + i] =
                i < s->enc_len[b] ? all[(size_t)b * (size_t)s->tenc + (size_t)i] : c->t5.pad;
    }
    free(text);
    free(all);
    return st;
}

/* The row's text from all its tokens. */
static blip2_status decode_text(const blip2_session *s, row *r, blip2_error *e)
{
    size_t n = 0;
    if (!s->model->tok) return BLIP2_OK;
    B2_TRY(blip2_tokenizer_decode(s->model->tok, r->tokens, (size_t)r->a->count, NULL, 0, &n, e));
    char *text = malloc(n + 1);
    if (!text) return B2_NOMEM(e, "an answer");
    blip2_status st =
        blip2_tokenizer_decode(s->model->tok, r->tokens, (size_t)r->a->count, text, n + 1, &n, e);
    if (st == BLIP2_OK) {
        b2_str_clear(r->text);
        b2_str_addn(r->text, text, n);
        if (r->text->failed) st = B2_NOMEM(e, "an answer");
    }
    free(text);
    return st;
}

/* Hands new whole characters to the callback. */
static void tell(row *r, bool last)
{
    if (!r->r->on_token || !r->text->p || r->text->n <= r->told) return;
    const size_t upto = last ? r->text->n : b2_utf8_complete(r->text->p, r->text->n);
    if (upto <= r->told) return;
    if (r->r->on_token(r->r->user, r->text->p + r->told, upto - r->told)) r->done = true;
    r->told = upto;
}

/* Takes the chosen token of row b in; ends the row at </s> or its limit. */
static blip2_status take_token(blip2_session *s, row *r, int b, blip2_error *e)
{
    blip2_answer *a = r->a;
    const int32_t id = s->chosen[b];
    if (isnan(s->logp[b]))
        return b2_fail(e, BLIP2_ERR_NONFINITE,
                       "answer %d: the logits of token %d are not numbers: weights, adapter or picture hold "
                       "values that are not finite, or overflow",
                       r->index, a->count + 1);
    r->tokens[a->count++] = id;
    a->logprob += s->logp[b];
    a->finished = id == s->net->c.t5.eos;
    if (a->finished || a->count >= r->max_new) r->done = true;
    if (r->r->on_token || r->done) B2_TRY(decode_text(s, r, e));
    tell(r, r->done);
    if (r->done && !a->finished && r->told < r->text->n) B2_TRY(decode_text(s, r, e));
    return BLIP2_OK;
}

static void start_rows(blip2_session *s, row *rows, const blip2_request *r, blip2_answer *a, int first, int n)
{
    for (int b = 0; b < n; b++) {
        rows[b] = (row){.r = &r[first + b],
                        .a = &a[first + b],
                        .tokens = s->answers.tokens + (size_t)(first + b) * (size_t)s->tdec,
                        .text = &s->answers.text[first + b],
                        .index = first + b};
        rows[b].max_new = rows[b].r->max_new_tokens ? rows[b].r->max_new_tokens : s->tdec;
        *rows[b].a = (blip2_answer){0};
        s->ids[b] = s->net->c.t5.start;
    }
}

/* One decoder step for all rows and the choice of their next tokens. */
static blip2_status step(blip2_session *s, row *rows, int n, int t, int at, b2_trace_sink *sink,
                         blip2_error *e)
{
    for (int b = 0; b < n; b++) {
        s->pos[b] = at;
        s->seen[b] = at + 1;
        s->forbid[b] = at < rows[b].r->min_new_tokens ? s->net->c.t5.eos : -1;
    }
    b2_session_next(s, n, t, at);
    const size_t vocab = (size_t)s->logits.cols;
    if (sink && sink->logits)
        b2_download(&s->q, sink->logits + (size_t)at * vocab, s->logits.p, vocab * sizeof(float));
    B2_TRY(b2_queue_finish(&s->q, e));
    if (sink && sink->led && at < sink->n_led) s->chosen[0] = sink->led[at];
    for (int b = 0; b < n; b++) {
        s->ids[b] = rows[b].done ? s->net->c.t5.pad : s->chosen[b];
        if (!rows[b].done) B2_TRY(take_token(s, &rows[b], b, e));
    }
    return BLIP2_OK;
}

static bool all_done(const row *rows, int n)
{
    for (int b = 0; b < n; b++) {
        if (!rows[b].done) return false;
    }
    return true;
}

static blip2_status keep_encoder(blip2_session *s, int t, b2_trace_sink *sink, blip2_error *e)
{
    if (!sink || !sink->encoder) return BLIP2_OK;
    const size_t n = (size_t)t * (size_t)s->net->c.t5.d;
    float *to = sink->encoder;
    sink->t = t;
    b2_download(&s->q, to, s->enc.p, n * b2_dtype_size(s->enc.type));
    B2_TRY(b2_queue_finish(&s->q, e));
    for (size_t i = n; s->enc.type == B2_BF16 && i-- > 0;) { /* in place: the narrow ones lie in front */
        b2_bf16 h;
        memcpy(&h, (const char *)to + i * sizeof h, sizeof h);
        to[i] = b2_bf16_to_f32(h);
    }
    return BLIP2_OK;
}

static blip2_status turn(blip2_session *s, row *rows, int n, b2_trace_sink *sink, blip2_error *e)
{
    int t = 0;
    B2_TRY(fill_rows(s, rows, n, &t, e));
    b2_session_prefill(s, n, t);
    B2_TRY(b2_queue_finish(&s->q, e));
    B2_TRY(keep_encoder(s, t, sink, e));
    for (int at = 0; at < s->tdec && !all_done(rows, n); at++) B2_TRY(step(s, rows, n, t, at, sink, e));
    for (int b = 0; b < n; b++) {
        rows[b].a->tokens = rows[b].tokens;
        rows[b].a->text = s->model->tok ? (rows[b].text->p ? rows[b].text->p : "") : NULL;
    }
    s->q.where[0] = 0;
    return BLIP2_OK;
}

blip2_status b2_session_generate_traced(blip2_session *s, const blip2_request *r, int n, blip2_answer *a,
                                        b2_trace_sink *sink, blip2_error *e)
{
    if (!s || n < 0 || (n > 0 && (!r || !a)))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "generate: session, requests and answers must not be NULL");
    for (int i = 0; i < n; i++) B2_TRY(b2_session_check_request(s, &r[i], e));
    for (int i = 0; i < n; i++) {
        if (!r[i].features)
            return b2_fail(e, BLIP2_ERR_ARGUMENT, "request %d: features is NULL: encode a picture first", i);
    }
    s->cancel = 0;
    B2_TRY(answers_new(s, n, e));
    row *rows = calloc((size_t)s->batch, sizeof *rows);
    if (!rows) return B2_NOMEM(e, "requests");
    blip2_status st = BLIP2_OK;
    for (int i = 0; i < n && st == BLIP2_OK; i += s->batch) {
        const int k = n - i < s->batch ? n - i : s->batch;
        start_rows(s, rows, r, a, i, k);
        st = turn(s, rows, k, sink, e);
    }
    free(rows);
    return st;
}

blip2_status blip2_session_generate(blip2_session *s, const blip2_request *requests, int n,
                                    blip2_answer *answers, blip2_error *err)
{
    return b2_session_generate_traced(s, requests, n, answers, NULL, err);
}
