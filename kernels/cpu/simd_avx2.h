/* Vectors of 8 floats under the names that the shared kernel bodies use (simd_avx512.h has the same with
 * 16). */
#ifndef B2_KERNELS_CPU_SIMD_AVX2_H
#define B2_KERNELS_CPU_SIMD_AVX2_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define B2_ISA_TOKEN avx2
#define VL           8 /* floats in a vector */
#define TILE_MR      6 /* rows and vectors of the largest matrix tile kept in registers */
#define TILE_NV      2

typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vm; /* all ones or all zeros per lane */

static inline vf vzero(void) { return _mm256_setzero_ps(); }
static inline vf vset1(float x) { return _mm256_set1_ps(x); }
static inline vf vload(const float *p) { return _mm256_loadu_ps(p); }
static inline void vstore(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf vadd(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vsub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vmul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vdiv(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vsqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }   /* a*b + c */
static inline vf vfnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); } /* c - a*b */
static inline vf vabs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vround(vf a) { return _mm256_round_ps(a, 8); } /* to nearest even, no exception */
/* x * 2^n, n integral, -252..254: in two halves, so that results below the normal range come out right */
static inline vf vscale2(vf x, vf n)
{
    __m256i e = _mm256_cvtps_epi32(n), h = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, bias), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, h), bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}
static inline float vsum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vhmax(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* sum in double of 8 floats */
typedef struct vd2 {
    __m256d lo, hi;
} vd2;
static inline vd2 vd2_zero(void) { return (vd2){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
static inline vd2 vd2_add(vd2 s, vf a)
{
    return (vd2){_mm256_add_pd(s.lo, _mm256_cvtps_pd(_mm256_castps256_ps128(a))),
                 _mm256_add_pd(s.hi, _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)))};
}
static inline vd2 vd2_addsq(vd2 s, vf a)
{
    __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
            hi = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    return (vd2){_mm256_fmadd_pd(lo, lo, s.lo), _mm256_fmadd_pd(hi, hi, s.hi)};
}
static inline double vd2_sum(vd2 s)
{
    __m256d t = _mm256_add_pd(s.lo, s.hi);
    __m128d u = _mm_add_pd(_mm256_castpd256_pd128(t), _mm256_extractf128_pd(t, 1));
    return _mm_cvtsd_f64(_mm_add_sd(u, _mm_unpackhi_pd(u, u)));
}

static inline vd2 vd2_set1(double x) { return (vd2){_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
static inline vd2 vd2_min(vd2 a, vd2 b)
{
    return (vd2){_mm256_min_pd(a.lo, b.lo), _mm256_min_pd(a.hi, b.hi)};
}
static inline vm vd2_lt(vd2 a, vd2 b) /* a < b */
{
    const __m256 lo = _mm256_castpd_ps(_mm256_cmp_pd(a.lo, b.lo, _CMP_LT_OQ)),
                 hi = _mm256_castpd_ps(_mm256_cmp_pd(a.hi, b.hi, _CMP_LT_OQ));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(lo, hi, 0x88)), 0xD8);
}

/* the first n lanes, 0 <= n <= 8 */
static inline vm vtail(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
static inline vf vloadm(const float *p, vm m) { return _mm256_maskload_ps(p, m); }
static inline void vstorem(float *p, vm m, vf v) { _mm256_maskstore_ps(p, m, v); }
static inline vm vgt(vf a, vf b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
static inline unsigned veqbits(vf a, vf b) /* a bit for each lane */
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
static inline unsigned vnanbits(vf a)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline vf vsel(vm m, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m));
} /* m ? a : b */

static inline vi viset1(uint32_t x) { return _mm256_set1_epi32((int)x); }
static inline vi viota(void) { return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0); }
static inline vi viadd(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vixor(vi a, vi b) { return _mm256_xor_si256(a, b); }
static inline vi vimul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi viand(vi a, vi b) { return _mm256_and_si256(a, b); }
#define visrl(a, n) _mm256_srli_epi32((a), (n))
#define visll(a, n) _mm256_slli_epi32((a), (n))
static inline vi vbits(vf a) { return _mm256_castps_si256(a); }
static inline vf vfrom_bits(vi a) { return _mm256_castsi256_ps(a); }
static inline vi vint(vf a) { return _mm256_cvtps_epi32(a); } /* to nearest even */
static inline vm vige(vi a, vi b)
{
    return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a);
} /* unsigned a >= b */

/* bf16 in memory, float in registers; stores round to nearest even and keep NaN. */
static inline vf vbf_load(const uint16_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline vf vbf_loadm(const uint16_t *p, int n)
{
    uint16_t t[8] = {0};
    memcpy(t, p, (size_t)n * 2);
    return vbf_load(t);
}
static inline __m128i vbf_round(vf v)
{
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7FFF)), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
static inline void vbf_store(uint16_t *p, vf v) { _mm_storeu_si128((__m128i *)p, vbf_round(v)); }
static inline void vbf_storem(uint16_t *p, vf v, int n)
{
    uint16_t t[8];
    vbf_store(t, v);
    memcpy(p, t, (size_t)n * 2);
}

/* 16 bf16 as they lie; elements 0, 2, ... and 1, 3, ... of them as floats. */
static inline vi vraw_load(const uint16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline vi vraw_loadm(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * 2);
    return vraw_load(t);
}
static inline vf vraw_even(vi r) { return _mm256_castsi256_ps(_mm256_slli_epi32(r, 16)); }
static inline vf vraw_odd(vi r)
{
    return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32((int)0xFFFF0000)));
}

/* 8 quantised numbers as floats: bytes; nibbles `which` (0 to 3) of 8 words. */
static inline vf vi8_load(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vf vi4_load(const char *words, int which)
{
    const __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)words));
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_sll_epi32(v, _mm_cvtsi32_si128(28 - 4 * which)), 28));
}

/* The other way: n lanes, -128 to 127, as bytes; all lanes, 0 to 65535, as words. */
static inline void vi8_store(int8_t *p, vi a, int n)
{
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    int8_t some[16];
    if (n == VL) {
        _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
        return;
    }
    _mm_storeu_si128((__m128i *)some, _mm_packs_epi16(words, words));
    memcpy(p, some, (size_t)n);
}
static inline void vi16_store(void *p, vi a)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

/* Rows r[0..7] become columns. */
static inline void vtranspose(vf r[VL])
{
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}
#endif
