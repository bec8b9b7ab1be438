/* Random streams: value i of a stream is a function of (key, i) alone. */
#include <math.h>
#include "base/rng.h"

/* A splitmix64 sequence whose start is the mixed key, so that near keys give unrelated streams. */
uint64_t b2_rng_next(b2_rng *r) { return b2_mix64(b2_mix64(r->key) + 0x9E3779B97F4A7C15u * r->counter++); }

/* Multiply and reject (D. Lemire, "Fast random integer generation in an interval", 2019). */
uint64_t b2_rng_below(b2_rng *r, uint64_t n)
{
    __extension__ typedef unsigned __int128 u128;
    u128 m = (u128)b2_rng_next(r) * n;
    if ((uint64_t)m < n) {
        uint64_t reject = (0 - n) % n;
        while ((uint64_t)m < reject) m = (u128)b2_rng_next(r) * n;
    }
    return (uint64_t)(m >> 64);
}

double b2_rng_uniform(b2_rng *r) { return (double)(b2_rng_next(r) >> 11) * 0x1p-53; }

double b2_rng_normal(b2_rng *r)
{
    double u = 1.0 - b2_rng_uniform(r); /* (0,1]: the logarithm is finite */
    double v = b2_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}
