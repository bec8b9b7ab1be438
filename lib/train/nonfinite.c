/* Naming the first bad op of a step whose loss or gradient is not finite: its samples once more, one by one,
 * with every op's result looked at. */
#include <stdlib.h>
#include <string.h>
#include "train/trainer.h"

static blip2_status one_sample(blip2_trainer *t, const b2_micro *x, int r, blip2_error *e)
{
    const b2_config *c = &t->net->c;
    const b2_pass p = b2_trainer_pass(t);
    const size_t features = (size_t)c->qf.queries * (size_t)c->t5.d,
                 pixels = 3 * (size_t)c->vit.image * (size_t)c->vit.image;
    const int tenc = x->b.tenc, tdec = x->b.tdec;
    int32_t *ids = malloc((size_t)tenc * sizeof *ids);
    if (!ids) return B2_NOMEM(e, "a sample");
    for (int i = 0; i < tenc; i++) {
        ids[i] = x->b.enc_ids[(size_t)r * (size_t)tenc + (size_t)i];
        if (ids[i] < 0) ids[i] += r * c->qf.queries;
    }
    b2_batch b = x->b;
    b.batch = 1;
    if (b.features) b.features += (size_t)r * features;
    if (b.pixels) b.pixels += (size_t)r * pixels;
    b.enc_ids = ids;
    b.enc_len += r;
    b.dec_ids += (size_t)r * (size_t)tdec;
    b.labels += (size_t)r * (size_t)tdec;
    b2_trainer_lay_out(t, 0, x->sample + r, 0);
    b2_trainer_send(t, &t->q, 0, &b, x->sample + r);
    b = b2_trainer_arrived(t, 0, &b);
    b2_train_pass(&p, t->net, &b, t->run.sums, false);
    const blip2_status s = b2_queue_finish(&t->q, e);
    free(ids);
    return s;
}

static blip2_status one_micro(blip2_trainer *t, const b2_micro *x, blip2_error *e)
{
    for (int r = 0; r < x->b.batch; r++) {
        const blip2_row *row = &t->data->row[x->row[r]];
        blip2_error found = BLIP2_ERROR_INIT;
        /* What the failed step left there would be found first. */
        b2_clear(&t->q, t->flat.g, ((size_t)t->flat.total + 1) * sizeof *t->flat.g);
        b2_clear(&t->q, t->run.sums, 2 * sizeof *t->run.sums);
        const blip2_status s = one_sample(t, x, r, &found);
        if (s == BLIP2_ERR_NONFINITE)
            return b2_fail(e, s, "step %lld, row \"%s\" (%s, line %zu): %s", (long long)t->done + 1, row->id,
                           t->data->name, row->line, found.text);
        if (s != BLIP2_OK) return b2_fail(e, s, "%s", found.text);
    }
    return BLIP2_OK;
}

blip2_status b2_trainer_find_nonfinite(blip2_trainer *t, blip2_error *e)
{
    blip2_status s = BLIP2_OK;
    b2_trainer_seek(t, t->done * t->o.accumulate);
    t->q.check_finite = 1;
    for (int i = 0; i < t->o.accumulate && s == BLIP2_OK; i++) {
        const b2_micro *x = b2_loader_next(t->loader);
        s = x->status != BLIP2_OK ? b2_fail(e, x->status, "%s", x->error.text) : one_micro(t, x, e);
    }
    t->q.check_finite = 0;
    if (s != BLIP2_OK) return s;
    return b2_fail(e, BLIP2_ERR_NONFINITE,
                   "step %lld: the sum of its samples' gradients is not finite, though every sample alone is",
                   (long long)t->done + 1);
}
