/* exp and the functions built on it, for the vectors of the simd header included before. NaN stays NaN. */
#ifndef B2_KERNELS_CPU_VMATH_H
#define B2_KERNELS_CPU_VMATH_H

/* Largest error found: 0.997 ulp (every 37th float of [-87, 88]); 0 below -104, +inf above 88.73.
 * e^x = 2^n e^r, r in +-ln(2)/2; the polynomial of (e^r - 1 - r)/r^2 was fitted for this file (minimax by
 * reweighted least squares). */
static inline vf vexp(vf x)
{
    x = vmax(vset1(-104.0f), vmin(vset1(89.0f), x)); /* in this order: NaN is the second operand */
    const vf n = vround(vmul(x, vset1(0x1.715476p+0f)));
    vf r = vfnma(n, vset1(0x1.62e4p-1f), x); /* ln 2 in two parts, the first short: the product is exact */
    r = vfnma(n, vset1(0x1.7f7d1cp-20f), r);
    vf p = vset1(0x1.6a2446p-10f);
    p = vfma(p, r, vset1(0x1.1239d8p-7f));
    p = vfma(p, r, vset1(0x1.5558f2p-5f));
    p = vfma(p, r, vset1(0x1.555492p-3f));
    p = vfma(p, r, vset1(0x1.fffffcp-2f));
    p = vadd(vfma(vmul(r, r), p, r), vset1(1));
    return vscale2(p, n);
}

/* 1/(1+e) and, in *rest, what is left to 1: the sigmoid of t from e = exp(-t). */
static inline vf vlogistic(vf e, vf *rest)
{
    e = vmin(vset1(1e38f), e); /* NaN is the second operand */
    const vf s = vdiv(vset1(1), vadd(vset1(1), e));
    *rest = vmul(e, s);
    return s;
}

/* Normal distribution function and, in *e, exp(-x^2/2). The left tail keeps its digits, to 4e-7 of the
 * value: below 0 it is R(-x) e, R(u) = erfcx(u/sqrt 2)/2 as a polynomial in 1/(1 + 0.44 u), fitted for this
 * file on [0, 13.5]. */
static inline vf vnormal_cdf(vf x, vf *e)
{
    const vf u = vmin(vset1(14.0f), vabs(x)); /* NaN is the second operand */
    const vf s = vdiv(vset1(1), vfma(u, vset1(0.44f), vset1(1)));
    vf p = vset1(0.0318903811f);
    p = vfma(p, s, vset1(-0.198243558f));
    p = vfma(p, s, vset1(0.499152005f));
    p = vfma(p, s, vset1(-0.605440855f));
    p = vfma(p, s, vset1(0.290399104f));
    p = vfma(p, s, vset1(-0.0306597073f));
    p = vfma(p, s, vset1(0.164806783f));
    p = vfma(p, s, vset1(0.172319472f));
    p = vfma(p, s, vset1(0.175784677f));
    p = vfma(p, s, vset1(-8.33449394e-6f));
    const vf square = vmul(u, u), lost = vfma(u, u, vsub(vzero(), square)); /* u^2 = square + lost, exactly */
    *e = vmul(vexp(vmul(vset1(-0.5f), square)), vfma(vset1(-0.5f), lost, vset1(1)));
    const vf tail = vmul(p, *e);
    return vsel(vgt(vzero(), x), tail, vsub(vset1(1), tail));
}
#endif
