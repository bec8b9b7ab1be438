/* One optimizer step: micro-batches, clipping, AdamW. */
#include <math.h>
#include <string.h>
#include "train/trainer.h"

static bool row_left(const blip2_trainer *t) { return t->done < t->lo.steps; }

static void begin_step(blip2_trainer *t)
{
    const double n = (double)t->done + 1.0;
    t->step = (b2_step){.seed = t->o.seed,
                        .step = (uint64_t)t->done,
                        .lr = (float)b2_schedule_lr(&t->schedule, t->done),
                        .beta1 = (float)t->o.beta1,
                        .beta2 = (float)t->o.beta2,
                        .eps = (float)t->o.eps,
                        .weight_decay = (float)t->o.weight_decay,
                        .c1 = (float)(1.0 / (1.0 - pow(t->o.beta1, n))),
                        .c2 = (float)(1.0 / (1.0 - pow(t->o.beta2, n)))};
}

/* Mean gradient, clipped by its global norm as torch.nn.utils.clip_grad_norm_ does it, then AdamW, which does
 * nothing when a sum is not finite. The host sees the sums afterwards. */
static void launch_update(blip2_trainer *t)
{
    b2_flat *f = &t->flat;
    b2_exchange *x = t->run.exchange;
    b2_upload(&t->q, f->g + f->total, &x->count, sizeof x->count);
    b2_sumsq(&t->q, t->run.sums + 1, f->g, f->total);
    b2_step_scale(&t->q, t->run.step, t->run.sums, f->g + f->total, t->o.clip);
    b2_adamw(&t->q, f->w, f->g, f->m, f->v, f->decayed, 1.0f);
    b2_adamw(&t->q, f->w + f->decayed, f->g + f->decayed, f->m + f->decayed, f->v + f->decayed,
             f->total - f->decayed, 0.0f);
    b2_download(&t->q, x->sums, t->run.sums, sizeof x->sums);
}

/* One micro-batch of a step, its first and last with what comes before and after all. */
typedef struct micro_work {
    blip2_trainer *t;
    const b2_micro *x;
    int set; /* where it is */
    bool first, last;
} micro_work;

static void launch_micro(void *ctx)
{
    const micro_work *w = ctx;
    blip2_trainer *t = w->t;
    const b2_pass p = b2_trainer_pass(t);
    if (w->first) {
        b2_clear(&t->q, t->flat.g, ((size_t)t->flat.total + 1) * sizeof *t->flat.g);
        b2_clear(&t->q, t->run.sums, 2 * sizeof *t->run.sums);
    }
    if (w->x->b.batch) {
        const b2_batch b = b2_trainer_arrived(t, w->set, &w->x->b);
        b2_train_pass(&p, t->net, &b, t->run.sums, false);
    }
    if (w->last) launch_update(t);
}

/* What of a micro-batch decides about its launches: where it is, its shape, its place in the step. */
static b2_record_key key_of(const micro_work *w)
{
    const b2_batch *b = &w->x->b;
    const b2_record_key k = {{(uint64_t)w->set, (uint64_t)b->batch << 2 | (uint64_t)w->first << 1 | w->last,
                              (uint64_t)b->tenc << 32 | (uint64_t)b->tdec}};
    return k;
}

static blip2_status micro_pass(blip2_trainer *t, int i, blip2_step_report *r, blip2_error *e)
{
    micro_work w = {t, NULL, 0, i == 0, i == t->o.accumulate - 1};
    B2_TRY(b2_trainer_next(t, &w.x, &w.set, e));
    const b2_record_key key = key_of(&w);
    if (w.x->status != BLIP2_OK) return b2_fail(e, w.x->status, "%s", w.x->error.text);
    r->samples += w.x->b.batch;
    r->tokens += w.x->b.batch ? w.x->tokens : 0;
    b2_trainer_lay_out(t, w.set, w.x->sample, r->tokens);
    b2_run_recorded(&t->q, &t->graphs, &key, launch_micro, &w);
    b2_trainer_look_ahead(t, t->done * t->o.accumulate + i);
    return b2_queue_finish(&t->q, e);
}

static void finish_step(blip2_trainer *t, double loss, double norm, blip2_step_report *r)
{
    const int64_t per_epoch = b2_loader_steps_per_epoch(t->data->rows, &t->lo);
    if (t->done % per_epoch == 0) {
        t->epoch_loss = 0;
        t->epoch_tokens = 0;
    }
    t->epoch_loss += loss;
    t->epoch_tokens += r->tokens;
    r->epoch = (int)(t->done / per_epoch);
    t->done++;
    r->step = t->done;
    r->done = !row_left(t);
    r->epoch_ended = r->done || t->done % per_epoch == 0;
    r->loss = loss / (double)r->tokens;
    r->epoch_loss = t->epoch_loss / (double)t->epoch_tokens;
    r->lr = t->step.lr;
    r->grad_norm = norm;
}

static blip2_status run_step(blip2_trainer *t, blip2_step_report *r, blip2_error *e)
{
    const double *sums = t->run.exchange->sums;
    begin_step(t);
    for (int i = 0; i < t->o.accumulate; i++) B2_TRY(micro_pass(t, i, r, e));
    if (!isfinite(sums[0]) || !isfinite(sums[1])) return b2_trainer_find_nonfinite(t, e);
    finish_step(t, sums[0], sqrt(sums[1]) / (double)r->tokens, r);
    return BLIP2_OK;
}

blip2_status blip2_trainer_step(blip2_trainer *t, blip2_step_report *report, blip2_error *e)
{
    if (!t || !report || report->size != sizeof *report)
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "blip2_trainer_step: a trainer and a report of size %zu are needed", sizeof *report);
    *report = (blip2_step_report){
        .size = sizeof *report, .step = t->done, .steps = t->lo.steps, .done = !row_left(t)};
    if (!row_left(t)) return b2_fail(e, BLIP2_ERR_STATE, "all %lld steps are done", (long long)t->lo.steps);
    const blip2_status s = run_step(t, report, e);
    if (s == BLIP2_OK) return s;
    /* Nothing of this step counts: weights and moments are untouched, and the data begin again where it
     * began. */
    b2_trainer_seek(t, t->done * t->o.accumulate);
    if (s == BLIP2_ERR_CANCELLED) t->cancel = 0;
    return s;
}
