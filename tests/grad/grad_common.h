/* Finite differences: a function of some tensors, its gradient by hand, and directions to try. */
#ifndef B2_TESTS_GRAD_COMMON_H
#define B2_TESTS_GRAD_COMMON_H
#include <stdint.h>
#include "base/rng.h"
#include "device/device.h"

typedef double (*grad_loss_fn)(void *ctx);

/* Compares <g, d> with (f(w + eps d) - f(w - eps d)) / (2 eps) along the gradient itself and along
 * `random` random directions; returns the worst relative error. w is restored. */
double grad_check(grad_loss_fn f, void *ctx, float *w, const float *g, int64_t n, int random, b2_rng *r);

float *grad_random(b2_rng *r, int64_t n, double scale); /* malloc'ed, N(0, scale) */
uint64_t grad_seed(void);                               /* SEED, or from the clock; printed */
#endif
