/* Vectors of 16 floats under the names that the shared kernel bodies use (simd_avx2.h has the same with
 * 8). */
#ifndef B2_KERNELS_CPU_SIMD_AVX512_H
#define B2_KERNELS_CPU_SIMD_AVX512_H
#include <immintrin.h>
#include <stdint.h>

#define B2_ISA_TOKEN avx512
#define VL           16 /* floats in a vector */
#define TILE_MR      8  /* rows and vectors of the largest matrix tile kept in registers */
#define TILE_NV      3

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

static inline vf vzero(void) { return _mm512_setzero_ps(); }
static inline vf vset1(float x) { return _mm512_set1_ps(x); }
static inline vf vload(const float *p) { return _mm512_loadu_ps(p); }
static inline void vstore(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vsqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }   /* a*b + c */
static inline vf vfnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a*b */
static inline vf vabs(vf a) { return _mm512_abs_ps(a); }
static inline vf vround(vf a) { return _mm512_roundscale_ps(a, 8); }    /* to nearest even, no exception */
static inline vf vscale2(vf x, vf n) { return _mm512_scalef_ps(x, n); } /* x * 2^n, n integral */
static inline float vsum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float vhmax(vf a) { return _mm512_reduce_max_ps(a); }
/* sum in double of 16 floats */
typedef struct vd2 {
    __m512d lo, hi;
} vd2;
static inline vd2 vd2_zero(void) { return (vd2){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
static inline vd2 vd2_add(vd2 s, vf a)
{
    return (vd2){_mm512_add_pd(s.lo, _mm512_cvtps_pd(_mm512_castps512_ps256(a))),
                 _mm512_add_pd(s.hi, _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)))};
}
static inline vd2 vd2_addsq(vd2 s, vf a)
{
    __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(a)),
            hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    return (vd2){_mm512_fmadd_pd(lo, lo, s.lo), _mm512_fmadd_pd(hi, hi, s.hi)};
}
static inline double vd2_sum(vd2 s) { return _mm512_reduce_add_pd(_mm512_add_pd(s.lo, s.hi)); }
static inline vd2 vd2_set1(double x) { return (vd2){_mm512_set1_pd(x), _mm512_set1_pd(x)}; }
static inline vd2 vd2_min(vd2 a, vd2 b)
{
    return (vd2){_mm512_min_pd(a.lo, b.lo), _mm512_min_pd(a.hi, b.hi)};
}
static inline vm vd2_lt(vd2 a, vd2 b) /* a < b */
{
    return (vm)(_mm512_cmp_pd_mask(a.lo, b.lo, _CMP_LT_OQ) |
                (unsigned)_mm512_cmp_pd_mask(a.hi, b.hi, _CMP_LT_OQ) << 8);
}

static inline vm vtail(int n) { return (vm)((1u << n) - 1u); } /* the first n lanes, 0 <= n <= 16 */
static inline vf vloadm(const float *p, vm m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void vstorem(float *p, vm m, vf v) { _mm512_mask_storeu_ps(p, m, v); }
static inline vm vgt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline unsigned veqbits(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
} /* a bit for each lane */
static inline unsigned vnanbits(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
static inline vf vsel(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); } /* m ? a : b */

static inline vi viset1(uint32_t x) { return _mm512_set1_epi32((int)x); }
static inline vi viota(void)
{
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
static inline vi viadd(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vixor(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi vimul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi viand(vi a, vi b) { return _mm512_and_si512(a, b); }
#define visrl(a, n) _mm512_srli_epi32((a), (n))
#define visll(a, n) _mm512_slli_epi32((a), (n))
static inline vi vbits(vf a) { return _mm512_castps_si512(a); }
static inline vf vfrom_bits(vi a) { return _mm512_castsi512_ps(a); }
static inline vi vint(vf a) { return _mm512_cvtps_epi32(a); } /* to nearest even */
static inline vm vige(vi a, vi b)
{
    return _mm512_cmp_epu32_mask(a, b, _MM_CMPINT_NLT);
} /* unsigned a >= b */

/* bf16 in memory, float in registers; stores round to nearest even and keep NaN. */
static inline vf vbf_load(const uint16_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf vbf_loadm(const uint16_t *p, int n)
{
    __m256i h = _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline __m256i vbf_round(vf v)
{
    __m512i u = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, odd), _mm512_set1_epi32(0x7FFF)), 16);
    __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), r, quiet));
}
static inline void vbf_store(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)p, vbf_round(v)); }
static inline void vbf_storem(uint16_t *p, vf v, int n)
{
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1u), vbf_round(v));
}

/* 32 bf16 as they lie; elements 0, 2, ... and 1, 3, ... of them as floats. */
static inline vi vraw_load(const uint16_t *p) { return _mm512_loadu_si512(p); }
static inline vi vraw_loadm(const uint16_t *p, int n)
{
    return _mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1u), p);
}
static inline vf vraw_even(vi r) { return _mm512_castsi512_ps(_mm512_slli_epi32(r, 16)); }
static inline vf vraw_odd(vi r)
{
    return _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32((int)0xFFFF0000)));
}

/* 16 quantised numbers as floats: bytes; nibbles `which` (0 to 3) of 16 words. */
static inline vf vi8_load(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf vi4_load(const char *words, int which)
{
    const __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)words));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_sll_epi32(v, _mm_cvtsi32_si128(28 - 4 * which)), 28));
}

/* The other way: n lanes, -128 to 127, as bytes; all lanes, 0 to 65535, as words. */
static inline void vi8_store(int8_t *p, vi a, int n)
{
    if (n == VL)
        _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a));
    else
        _mm512_mask_cvtepi32_storeu_epi8(p, vtail(n), a);
}
static inline void vi16_store(void *p, vi a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a)); }

/* Rows r[0..15] become columns. */
static inline void vtranspose(vf r[VL])
{
    __m512 t[16], u[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
        __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
        u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(u[i], u[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(u[i], u[4 + i], 0xDD);
        t[8 + i] = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0xDD);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xDD);
    }
}
#endif
