/* Dropout with the mask that rng.h defines, a vector of elements at a time; body of dropout_tmpl_<isa>.c. */
#include "kernels/act.h"
#include "kernels/cpu/sweep.h"
#include "kernels/cpu/vdrop.h"

typedef struct drop_job {
    const b2_step *step;
    act_t *y;
    const act_t *x;
    float *sum;
    const float *add;
    int64_t per_sample;
    uint32_t site;
    float p, beta;
} drop_job;

static vdrop mask_of(const drop_job *j, int64_t sample)
{
    return vdrop_begin(b2_drop_key(j->step->seed, j->step->step, j->step->sample[sample], j->site), j->p);
}

static void drop_task(void *ctx, int64_t chunk, int worker)
{
    const drop_job *j = ctx;
    const int64_t sample = chunk / spans(j->per_sample), span = chunk % spans(j->per_sample);
    const int64_t at = sample * j->per_sample + span * SPAN;
    const vdrop d = mask_of(j, sample);
    (void)worker;
    SWEEP(span_len(j->per_sample, span), {
        const vf k = vdrop_factor(&d, (uint32_t)(span * SPAN + i));
        aput(j->y + at + i, vdrop_apply(aget(j->x + at + i, len), k), len);
    });
}

static void drop_add_task(void *ctx, int64_t chunk, int worker)
{
    const drop_job *j = ctx;
    const int64_t sample = chunk / spans(j->per_sample), span = chunk % spans(j->per_sample);
    const int64_t at = sample * j->per_sample + span * SPAN;
    const vdrop d = mask_of(j, sample);
    (void)worker;
    SWEEP(span_len(j->per_sample, span), {
        const vf k = vdrop_factor(&d, (uint32_t)(span * SPAN + i));
        float *y = j->sum + at + i;
        vput(y, vkeep(y, j->beta, vdrop_apply(vget(j->add + at + i, len), k), len), len);
    });
}

void TIER_FN(dropout)(b2_queue *q, void *y, const void *x, int64_t per_sample, int samples, float p,
                      uint32_t site)
{
    drop_job j = {.step = q->step, .y = y, .x = x, .per_sample = per_sample, .site = site, .p = p};
    b2_pool_run(q->pool, spans(per_sample) * samples, drop_task, &j);
}

void TIER_FN(dropout_add)(b2_queue *q, float *y, const float *x, int64_t per_sample, int samples, float p,
                          uint32_t site, float beta)
{
    drop_job j = {
        .step = q->step, .sum = y, .add = x, .per_sample = per_sample, .site = site, .p = p, .beta = beta};
    b2_pool_run(q->pool, spans(per_sample) * samples, drop_add_task, &j);
}
