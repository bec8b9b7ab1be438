/* Learning rates. */
#include <math.h>
#include "train/schedule.h"

double b2_schedule_lr(const b2_schedule *s, int64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)s->warmup;
    if (s->kind == BLIP2_CONSTANT) return s->lr;
    const int64_t falling = s->steps - s->warmup;
    double done = falling > 0 ? (double)(step - s->warmup) / (double)falling : 1.0;
    if (done > 1.0) done = 1.0;
    return s->kind == BLIP2_LINEAR ? s->lr * (1.0 - done) : s->lr * 0.5 * (1.0 + cos(pi * done));
}
