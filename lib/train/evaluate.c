/* Asking a session every question of a data set, each photo encoded once. */
#include <stdlib.h>
#include <string.h>
#include "text/text.h"
#include "train/dataset.h"
#include "train/evaluation.h"

enum { IMAGES = 16, QUESTIONS = 256 }; /* photos encoded, questions asked in one call */

typedef struct asking {
    blip2_evaluation *e;
    blip2_session *s;
    const blip2_dataset *d;
    const blip2_evaluate_options *o;
    int64_t *order; /* rows by photo */
    int64_t done;
    blip2_features *features[IMAGES];
    blip2_request request[QUESTIONS];
    blip2_answer answer[QUESTIONS];
    int64_t row[QUESTIONS];
    b2_str prompt[QUESTIONS];
    int questions;
} asking;

static blip2_status order_rows(asking *a, blip2_error *err)
{
    const blip2_dataset *d = a->d;
    int64_t *at = calloc((size_t)d->images + 1, sizeof *at);
    a->order = malloc((size_t)d->rows * sizeof *a->order);
    if (!at || !a->order) {
        free(at);
        return B2_NOMEM(err, "an evaluation");
    }
    for (int64_t i = 0; i < d->rows; i++) at[d->row[i].image + 1]++;
    for (int64_t i = 0; i < d->images; i++) at[i + 1] += at[i];
    for (int64_t i = 0; i < d->rows; i++) a->order[at[d->row[i].image]++] = i;
    free(at);
    return BLIP2_OK;
}

static blip2_status keep_answer(b2_result *r, const blip2_row *row, const blip2_answer *a, blip2_error *err)
{
    r->id = b2_strdup(row->id);
    r->image_path = b2_strdup(row->image_path);
    r->question = b2_strdup(row->question ? row->question : "");
    r->truth = b2_strdup(row->answer);
    r->answer = b2_strdup(a->text ? a->text : "");
    r->logprob = a->logprob;
    return r->id && r->image_path && r->question && r->truth && r->answer ? BLIP2_OK
                                                                          : B2_NOMEM(err, "an evaluation");
}

static blip2_status ask(asking *a, blip2_error *err)
{
    if (!a->questions) return BLIP2_OK;
    B2_TRY(blip2_session_generate(a->s, a->request, a->questions, a->answer, err));
    for (int i = 0; i < a->questions; i++) {
        B2_TRY(keep_answer(&a->e->result[a->row[i]], &a->d->row[a->row[i]], &a->answer[i], err));
    }
    a->done += a->questions;
    a->questions = 0;
    if (a->o->progress) a->o->progress(a->o->user, a->done, a->d->rows);
    return BLIP2_OK;
}

static blip2_status add_question(asking *a, int64_t row, const blip2_features *f, blip2_error *err)
{
    const blip2_row *r = &a->d->row[row];
    const char *tmpl = a->o->prompt_template ? a->o->prompt_template : B2_DEFAULT_TEMPLATE;
    if (a->questions == QUESTIONS) B2_TRY(ask(a, err));
    const int i = a->questions++;
    b2_str_clear(&a->prompt[i]);
    if (r->question) B2_TRY(b2_prompt_format(&a->prompt[i], tmpl, r->question, err));
    a->request[i] = (blip2_request)BLIP2_REQUEST_INIT;
    a->request[i].features = f;
    a->request[i].prompt = r->question ? a->prompt[i].p : NULL;
    a->request[i].adapter = a->o->adapter;
    a->request[i].max_new_tokens = a->o->max_new_tokens;
    a->row[i] = row;
    return BLIP2_OK;
}

static blip2_status load(blip2_image *img, const asking *a, int64_t image, blip2_error *err)
{
    const blip2_status s = blip2_image_load(img, a->d->path[image], err);
    if (s == BLIP2_OK) return s;
    return b2_fail_context(err, s == BLIP2_ERR_MEMORY ? s : BLIP2_ERR_DATA, "%s: line %zu", a->d->name,
                           a->d->row[a->d->first[image]].line);
}

/* Photos i0..i0+n-1, whose rows begin at *at in the order. */
static blip2_status ask_photos(asking *a, int64_t i0, int n, int64_t *at, blip2_error *err)
{
    blip2_image img[IMAGES] = {{0}};
    blip2_status s = BLIP2_OK;
    for (int i = 0; i < n && s == BLIP2_OK; i++) s = load(&img[i], a, i0 + i, err);
    if (s == BLIP2_OK) s = blip2_session_encode(a->s, img, n, a->o->adapter, a->features, err);
    for (int i = 0; i < n; i++) blip2_image_free(&img[i]);
    if (s != BLIP2_OK) return s;
    for (int i = 0; i < n && s == BLIP2_OK; i++) {
        for (; *at < a->d->rows && a->d->row[a->order[*at]].image == i0 + i && s == BLIP2_OK; (*at)++)
            s = add_question(a, a->order[*at], a->features[i], err);
    }
    if (s == BLIP2_OK) s = ask(a, err);
    for (int i = 0; i < n; i++) {
        blip2_features_close(a->features[i]);
        a->features[i] = NULL;
    }
    return s;
}

blip2_status b2_evaluation_ask(blip2_evaluation *e, blip2_session *session, const blip2_dataset *d,
                               const blip2_evaluate_options *o, blip2_error *err)
{
    asking *a = calloc(1, sizeof *a);
    int64_t at = 0;
    if (!a) return B2_NOMEM(err, "an evaluation");
    a->e = e;
    a->s = session;
    a->d = d;
    a->o = o;
    blip2_status s = order_rows(a, err);
    for (int64_t i = 0; i < d->images && s == BLIP2_OK; i += IMAGES)
        s = ask_photos(a, i, d->images - i < IMAGES ? (int)(d->images - i) : IMAGES, &at, err);
    for (int i = 0; i < QUESTIONS; i++) b2_str_free(&a->prompt[i]);
    free(a->order);
    free(a);
    return s;
}

static blip2_status evaluate(blip2_evaluation *v, blip2_session *s, const blip2_dataset *d,
                             const blip2_evaluate_options *o, blip2_error *e)
{
    v->result = calloc((size_t)d->rows, sizeof *v->result);
    if (!v->result) return B2_NOMEM(e, "an evaluation");
    v->n = d->rows;
    B2_TRY(b2_evaluation_ask(v, s, d, o, e));
    return b2_evaluation_score(v, e);
}

blip2_status blip2_evaluate(blip2_session *s, const blip2_dataset *d, const blip2_evaluate_options *o,
                            blip2_evaluation **out, blip2_error *e)
{
    const blip2_evaluate_options defaults = BLIP2_EVALUATE_OPTIONS_INIT;
    if (!s || !d || !out || (o && o->size != sizeof *o))
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "blip2_evaluate: a session, a data set and options of size %zu (or NULL) are needed",
                       sizeof *o);
    *out = NULL;
    if (!o) o = &defaults;
    if (o->prompt_template) B2_TRY(b2_prompt_check(o->prompt_template, e));
    blip2_evaluation *v = calloc(1, sizeof *v);
    if (!v) return B2_NOMEM(e, "an evaluation");
    const blip2_status st = evaluate(v, s, d, o, e);
    if (st != BLIP2_OK) {
        blip2_evaluation_close(v);
        return st;
    }
    *out = v;
    return BLIP2_OK;
}
