/* b2_drop_keep of rng.h for a vector of consecutive elements. Included after a simd header. */
#ifndef B2_KERNELS_CPU_VDROP_H
#define B2_KERNELS_CPU_VDROP_H
#include "base/rng.h"

typedef struct vdrop {
    vi low, high, limit;
    vf scale; /* 1/(1-p) */
} vdrop;

static inline vdrop vdrop_begin(uint64_t key, float p)
{
    return (vdrop){viset1((uint32_t)key), viset1((uint32_t)(key >> 32)), viset1(b2_drop_limit(p)),
                   vset1(1 / (1 - p))};
}

static inline vi vmix32(vi x)
{
    x = vixor(x, visrl(x, 16));
    x = vimul(x, viset1(0x7FEB352Du));
    x = vixor(x, visrl(x, 15));
    x = vimul(x, viset1(0x846CA68Bu));
    return vixor(x, visrl(x, 16));
}

/* What elements e, e+1, ... are multiplied with: 0 or 1/(1-p). */
static inline vf vdrop_factor(const vdrop *d, uint32_t e)
{
    const vi x = vixor(viadd(viset1(e), viota()), d->low);
    return vsel(vige(vmix32(viadd(vmix32(x), d->high)), d->limit), d->scale, vzero());
}

/* A dropped element is 0 whatever it was. */
static inline vf vdrop_apply(vf x, vf factor) { return vsel(vgt(factor, vzero()), vmul(x, factor), vzero()); }
#endif
