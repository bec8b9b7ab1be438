/* Counter-based random numbers: the same value for the same (key, counter) everywhere. */
#ifndef B2_BASE_RNG_H
#define B2_BASE_RNG_H
#include <stdint.h>

/* CUDA kernels draw the same masks as the host. */
#ifdef __CUDACC__
#define B2_BOTH __host__ __device__
#else
#define B2_BOTH
#endif

/* splitmix64 finaliser (Steele, Lea, Flood 2014). */
B2_BOTH static inline uint64_t b2_mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
/* 32-bit finaliser "lowbias32" (C. Wellons, hash-prospector). */
B2_BOTH static inline uint32_t b2_mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    return x;
}
/* Key of one dropout site for one sample at one step. */
B2_BOTH static inline uint64_t b2_drop_key(uint64_t seed, uint64_t step, uint64_t sample, uint32_t site)
{
    return b2_mix64(b2_mix64(b2_mix64(seed ^ 0xD80FULL) ^ step) + b2_mix64(sample) + ((uint64_t)site << 40));
}
/* Is element e kept?  limit = (uint32_t)(p * 2^32): kept with probability 1-p. */
B2_BOTH static inline int b2_drop_keep(uint64_t key, uint32_t e, uint32_t limit)
{
    return b2_mix32(b2_mix32(e ^ (uint32_t)key) + (uint32_t)(key >> 32)) >= limit;
}
B2_BOTH static inline uint32_t b2_drop_limit(float p)
{
    double l = (double)p * 4294967296.0;
    return l >= 4294967295.0 ? 4294967295u : (uint32_t)l;
}

typedef struct b2_rng {
    uint64_t key, counter;
} b2_rng;
uint64_t b2_rng_next(b2_rng *r);
uint64_t b2_rng_below(b2_rng *r, uint64_t n); /* uniform in 0..n-1, unbiased; n > 0 */
double b2_rng_uniform(b2_rng *r);             /* [0,1) with 53 bits */
double b2_rng_normal(b2_rng *r);              /* Box-Muller, no cached half: state is the counter alone */
#endif
