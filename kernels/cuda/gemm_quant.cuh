/* Quantised weight rows as the products read them (b2_rows, b2_i4_get): int8 as bytes, whose scale meets the
 * sum of a row (x w^T) or dy (dy w); int4 as words of 16 bits, multiplied by their scales on the way, which
 * is exact in bf16 for scales of five significant bits. */
#ifndef B2_KERNELS_CUDA_GEMM_QUANT_CUH
#define B2_KERNELS_CUDA_GEMM_QUANT_CUH
#include "kernels/cuda/gemm_view.cuh"

/* May its elements be bf16? */
template <class V> struct view_narrow {
    enum { VALUE = 1 };
};
template <> struct view_narrow<gemm_view<float>> {
    enum { VALUE = 0 };
};
/* Are they? */
template <class V> struct view_bf16 {
    enum { VALUE = 0 };
};
template <> struct view_bf16<gemm_view<bf16>> {
    enum { VALUE = 1 };
};

/* Elements of v are bytes or words; cols are columns. scale: f32 [rows] or bf16 [rows, cols/64] of a
 * block. */
template <class Q> struct quant_view {
    gemm_view<Q> v;
    const void *scale[3];
    int rows, cols;
};
typedef quant_view<int8_t> i8_view;
typedef quant_view<uint16_t> i4_view;

template <class Q> static inline quant_view<Q> quant_view_blocks(const b2_rows *w, int nw, int cols)
{
    quant_view<Q> q = {
        gemm_view_blocks<Q>(w, nw, sizeof(Q) == 1 ? cols : cols / 4), {NULL, NULL, NULL}, 0, 0};
    for (int i = 0; i < nw; i++) q.scale[i] = w[i].scale;
    q.rows = q.v.rows;
    q.cols = cols;
    return q;
}
template <class Q> static inline bool gemm_view_fits(const quant_view<Q> &q) { return gemm_view_fits(q.v); }

/* The scales of the block that row r is in, and r within it. */
template <class Q> __device__ static inline const void *quant_block(const quant_view<Q> &q, int &r)
{
    const int b = r < q.v.end[0] ? 0 : r < q.v.end[1] ? 1 : 2;
    const void *scale = b == 0 ? q.scale[0] : b == 1 ? q.scale[1] : q.scale[2];
    r -= b == 0 ? 0 : b == 1 ? q.v.end[0] : q.v.end[1];
    return scale;
}
/* There are fewer than 2^32 of them: an index of 64 bits would cost the loops registers. */
__device__ static inline float i4_scale(const i4_view &q, int r, int group)
{
    const bf16 *scale = (const bf16 *)quant_block(q, r);
    return k_load(scale[(unsigned)r * (unsigned)(q.cols / B2_I4_GROUP) + (unsigned)group]);
}

/* Four bytes as two pairs of bf16, exact. */
__device__ static inline uint2 i8_pairs(uint32_t bytes)
{
    float f[4];
#pragma unroll
    for (int i = 0; i < 4; i++) /* 2^23 + 128 + q as a float's bits */
        f[i] = __uint_as_float(0x4B000000u | ((bytes ^ 0x80808080u) >> 8 * i & 0xFFu)) - 8388736.0f;
    return make_uint2(k_pack_bf16(f[0], f[1]), k_pack_bf16(f[2], f[3]));
}
/* Nibbles `which` of two words as a pair of bf16, times a pair of scales. */
__device__ static inline uint32_t i4_pair(uint32_t words, int which, uint32_t scales)
{
    const uint32_t pair = ((words ^ 0x88888888u) >> 4 * which & 0x000F000Fu) | 0x43004300u; /* 136 + q */
    return k_fma_bf16x2(k_fma_bf16x2(pair, 0x3F803F80u, 0xC308C308u), scales, 0x80008000u);
}

/* 8 elements of row r from column c on, of which `cols` exist, as bf16; int8 without its scale. */
template <bool WIDE> __device__ static inline uint4 view_piece(const i8_view &q, int r, int c, int cols)
{
    const int8_t *row = gemm_row(q.v, r);
    uint32_t bytes[2] = {0, 0};
    if (!row || c >= cols) return make_uint4(0, 0, 0, 0);
    if (WIDE && c + 8 <= cols) {
        const uint2 two = *(const uint2 *)(const void *)(row + c);
        bytes[0] = two.x, bytes[1] = two.y;
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            bytes[j / 4] |= c + j < cols ? (uint32_t)(uint8_t)row[c + j] << j % 4 * 8 : 0u;
    }
    const uint2 low = i8_pairs(bytes[0]), high = i8_pairs(bytes[1]);
    return make_uint4(low.x, low.y, high.x, high.y);
}
template <bool WIDE> __device__ static inline uint4 view_piece(const i4_view &q, int r, int c, int cols)
{
    const uint16_t *row = gemm_row(q.v, r);
    if (!row || c >= cols) return make_uint4(0, 0, 0, 0);
    const float s = i4_scale(q, r, c / B2_I4_GROUP);
    if constexpr (WIDE) { /* whole groups: 8 words, one nibble of each */
        const uint4 w = *(const uint4 *)(const void *)(row + c / B2_I4_GROUP * 16 + c % 16);
        const int n = c % B2_I4_GROUP / 16;
        const uint32_t ss = k_pack_bf16(s, s);
        return make_uint4(i4_pair(w.x, n, ss), i4_pair(w.y, n, ss), i4_pair(w.z, n, ss), i4_pair(w.w, n, ss));
    } else {
        float f[8];
#pragma unroll
        for (int j = 0; j < 8; j++) f[j] = (float)b2_i4_get(row, c + j) * s;
        return make_uint4(k_pack_bf16(f[0], f[1]), k_pack_bf16(f[2], f[3]), k_pack_bf16(f[4], f[5]),
                          k_pack_bf16(f[6], f[7]));
    }
}

/* One element of a row that is there, exactly. */
__device__ static inline float view_element(const i8_view &q, int r, int c)
{
    const float w = (float)gemm_row(q.v, r)[c];
    const float *scale = (const float *)quant_block(q, r);
    return w * scale[r];
}
__device__ static inline float view_element(const i4_view &q, int r, int c)
{
    return (float)b2_i4_get(gemm_row(q.v, r), c) * i4_scale(q, r, c / B2_I4_GROUP);
}
template <int V, class Q>
__device__ static inline void view_get(float *to, const quant_view<Q> &q, int r, int c)
{
#pragma unroll
    for (int j = 0; j < V; j++) to[j] = view_element(q, r, c + j);
}

/* dy, T, of a product with int8 rows: a column meets its row's scale, and then is rounded. */
template <class T> struct scaled_view {
    gemm_view<T> v;
    const float *scale[3];
    int end[3], rows, cols;
};
template <class T> static inline scaled_view<T> scaled_view_of(const b2_in &dy, int m, const i8_view &w)
{
    const scaled_view<T> s = {
        gemm_view_of<T>(dy.p, m, w.rows, dy.ld),
        {(const float *)w.scale[0], (const float *)w.scale[1], (const float *)w.scale[2]},
        {w.v.end[0], w.v.end[1], w.v.end[2]},
        m,
        w.rows};
    return s;
}
template <class T> static inline bool gemm_view_fits(const scaled_view<T> &s) { return gemm_view_fits(s.v); }
template <class T> __device__ static inline float column_scale(const scaled_view<T> &s, int o)
{
    const float *scale = o < s.end[0] ? s.scale[0] : o < s.end[1] ? s.scale[1] : s.scale[2];
    return scale[o - (o < s.end[0] ? 0 : o < s.end[1] ? s.end[0] : s.end[1])];
}
template <bool WIDE, class T>
__device__ static inline uint4 view_piece(const scaled_view<T> &s, int r, int c, int cols)
{
    const T *row = gemm_row(s.v, r);
    float x[8] = {};
    if (!row || c >= cols) return make_uint4(0, 0, 0, 0);
    if (WIDE && c + 8 <= cols) k_get<8>(x, row + c);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        if (c + j < cols) x[j] = (WIDE && c + 8 <= cols ? x[j] : k_load(row[c + j])) * column_scale(s, c + j);
    }
    return make_uint4(k_pack_bf16(x[0], x[1]), k_pack_bf16(x[2], x[3]), k_pack_bf16(x[4], x[5]),
                      k_pack_bf16(x[6], x[7]));
}
#endif
