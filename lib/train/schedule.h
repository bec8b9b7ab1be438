/* Learning rates: a pure function of the step. */
#ifndef B2_TRAIN_SCHEDULE_H
#define B2_TRAIN_SCHEDULE_H
#include "blip2/train.h"

typedef struct b2_schedule {
    blip2_schedule kind;
    double lr;
    int64_t warmup, steps;
} b2_schedule;
/* The rate of step number `step` (from 0): lr*(step+1)/warmup while warming up, then lr itself, or falling to
 * 0 at `steps` in a line or half a cosine. */
double b2_schedule_lr(const b2_schedule *s, int64_t step);
#endif
