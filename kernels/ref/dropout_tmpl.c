/* Reference of dropout: the mask is a function of seed, step, global sample, site and element, nothing else.
 */
#include "base/rng.h"
#include "kernels/act.h"

static uint64_t sample_key(const b2_step *s, int sample, uint32_t site)
{
    return b2_drop_key(s->seed, s->step, s->sample[sample], site);
}

void B2_REF(dropout)(b2_queue *q, void *y, const void *x, int64_t per_sample, int samples, float p,
                     uint32_t site)
{
    const uint32_t limit = b2_drop_limit(p);
    const float scale = 1 / (1 - p);
    for (int s = 0; s < samples; s++) {
        const uint64_t key = sample_key(q->step, s, site);
        const act_t *in = (const act_t *)x + s * per_sample;
        act_t *out = (act_t *)y + s * per_sample;
        for (int64_t e = 0; e < per_sample; e++) {
            out[e] = act_store(b2_drop_keep(key, (uint32_t)e, limit) ? act_load(in[e]) * scale : 0);
        }
    }
}

void B2_REF(dropout_add)(b2_queue *q, float *y, const float *x, int64_t per_sample, int samples, float p,
                         uint32_t site, float beta)
{
    const uint32_t limit = b2_drop_limit(p);
    const float scale = 1 / (1 - p);
    for (int s = 0; s < samples; s++) {
        const uint64_t key = sample_key(q->step, s, site);
        const float *in = x + s * per_sample;
        float *out = y + s * per_sample;
        for (int64_t e = 0; e < per_sample; e++) {
            const float old = beta == 0 ? 0 : beta * out[e];
            out[e] = old + (b2_drop_keep(key, (uint32_t)e, limit) ? in[e] * scale : 0);
        }
    }
}
