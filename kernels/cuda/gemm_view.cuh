/* Operands of a matrix product as it reads them: up to three blocks of rows that follow each other,
 * columns contiguous. Whether the product runs along the columns or along the rows is the reader's
 * business. */
#ifndef B2_KERNELS_CUDA_GEMM_VIEW_CUH
#define B2_KERNELS_CUDA_GEMM_VIEW_CUH
#include "kernels/cuda/vectors.cuh"

template <class T> struct gemm_view {
    const T *block[3];
    int end[3]; /* rows up to the end of each block; empty ones behind the last: the same number */
    int rows, cols, ld;
};

/* One row; NULL: there is none. */
template <class T> __device__ static inline const T *gemm_row(const gemm_view<T> &v, int r)
{
    if (r >= v.rows) return NULL;
    /* No index but a constant one: the view stays where arguments are, and is not copied to memory. */
    const T *block = r < v.end[0] ? v.block[0] : r < v.end[1] ? v.block[1] : v.block[2];
    const int first = r < v.end[0] ? 0 : r < v.end[1] ? v.end[0] : v.end[1];
    return block + (int64_t)(r - first) * v.ld;
}

/* One element of a row that is there; V from column c on. */
template <class T> __device__ static inline float view_element(const gemm_view<T> &v, int r, int c)
{
    return k_load(gemm_row(v, r)[c]);
}
template <int V, class T>
__device__ static inline void view_get(float *to, const gemm_view<T> &v, int r, int c)
{
    k_get<V>(to, gemm_row(v, r) + c);
}

template <class T> static inline gemm_view<T> gemm_view_of(const void *p, int rows, int cols, int ld)
{
    const gemm_view<T> v = {{(const T *)p, NULL, NULL}, {rows, rows, rows}, rows, cols, ld};
    return v;
}

template <class T> static inline gemm_view<T> gemm_view_blocks(const b2_rows *w, int nw, int cols)
{
    gemm_view<T> v = {{NULL, NULL, NULL}, {0, 0, 0}, 0, cols, cols};
    for (int i = 0; i < 3; i++) {
        if (i < nw) {
            v.block[i] = (const T *)w[i].w;
            v.rows += w[i].n;
        }
        v.end[i] = v.rows;
    }
    return v;
}

/* May every row be read 8 elements (16 or 32 bytes) at a time, from any multiple of 8 on? */
template <class T> static inline bool gemm_view_fits(const gemm_view<T> &v)
{
    return v.ld % 8 == 0 && k_fits<8>(v.block[0], v.block[1], v.block[2]);
}

/* The result: y[i, o] = beta*y[i, o] + alpha*scale[o]*sum + bias[o], scale (NULL: 1) and bias by block of
 * columns; y is f32 or, where narrow, bf16, rounded once. */
struct gemm_out {
    void *y;
    int ld;
    bool narrow, pairs; /* pairs: columns 2i and 2i+1 of a row may be written in one piece */
    float alpha, beta;
    const float *bias[3], *scale[3];
    int end[3];
};

/* What column o's sums meet. */
struct gemm_column {
    float scale, bias;
};
__device__ static inline gemm_column gemm_column_of(const gemm_out &c, int o)
{
    const float *bias = o < c.end[0] ? c.bias[0] : o < c.end[1] ? c.bias[1] : c.bias[2];
    const int first = o < c.end[0] ? 0 : o < c.end[1] ? c.end[0] : c.end[1];
    const float *scale = o < c.end[0] ? c.scale[0] : o < c.end[1] ? c.scale[1] : c.scale[2];
    return {scale ? scale[o - first] : 1.0f, bias ? bias[o - first] : 0.0f};
}
__device__ static inline float gemm_value(const gemm_out &c, const gemm_column &f, float old, float sum)
{
    return (c.beta == 0.0f ? 0.0f : c.beta * old) + c.alpha * (sum * f.scale) + f.bias;
}

template <class T>
__device__ static inline void gemm_store_as(T *y, const gemm_out &c, const gemm_column &f, float sum)
{
    *y = k_store<T>(gemm_value(c, f, c.beta == 0.0f ? 0.0f : k_load(*y), sum));
}
__device__ static inline void gemm_store(const gemm_out &c, int i, int o, float sum)
{
    const int64_t at = (int64_t)i * c.ld + o;
    const gemm_column f = gemm_column_of(c, o);
    if (c.narrow)
        gemm_store_as((bf16 *)c.y + at, c, f, sum);
    else
        gemm_store_as((float *)c.y + at, c, f, sum);
}

/* Two sums of neighbouring columns, of which the second may not be there. */
template <class T>
__device__ static inline void gemm_store_two_as(T *y, bool there, const gemm_out &c, const gemm_column *f,
                                                const float *sum)
{
    if (there && c.pairs) {
        float v[2] = {};
        if (c.beta != 0.0f) k_get<2>(v, y);
        v[0] = gemm_value(c, f[0], v[0], sum[0]);
        v[1] = gemm_value(c, f[1], v[1], sum[1]);
        k_put<2>(y, v);
    } else {
        gemm_store_as(y, c, f[0], sum[0]);
        if (there) gemm_store_as(y + 1, c, f[1], sum[1]);
    }
}

/* ROWS times two sums of columns o, an even one, and o + 1: row(k) is the number of the k-th row, sum(k) its
 * sums. y is [m, n], and bf16 only where the kernel may NARROW. */
template <bool NARROW, int ROWS, class R, class S>
__device__ static inline void gemm_store_twos(const gemm_out &c, int o, int m, int n, R row, S sum)
{
    if (o >= n) return;
    const bool there = o + 1 < n;
    const gemm_column f[2] = {gemm_column_of(c, o), there ? gemm_column_of(c, o + 1) : gemm_column()};
#pragma unroll
    for (int k = 0; k < ROWS; k++) {
        const int64_t at = (int64_t)row(k) * c.ld + o;
        if (row(k) >= m) continue;
        if (NARROW && c.narrow)
            gemm_store_two_as((bf16 *)c.y + at, there, c, f, sum(k));
        else
            gemm_store_two_as((float *)c.y + at, there, c, f, sum(k));
    }
}

static inline gemm_out gemm_plain_out(b2_out y, float alpha, float beta)
{
    const bool narrow = y.type == B2_BF16;
    const bool fits = narrow ? k_fits<2>((const bf16 *)y.p) : k_fits<2>((const float *)y.p);
    return {y.p,
            y.ld,
            narrow,
            fits && y.ld % 2 == 0,
            alpha,
            beta,
            {NULL, NULL, NULL},
            {NULL, NULL, NULL},
            {INT32_MAX, INT32_MAX, INT32_MAX}};
}

static inline gemm_out gemm_biased_out(b2_out y, float alpha, float beta, const b2_rows *w, int nw)
{
    gemm_out c = gemm_plain_out(y, alpha, beta);
    for (int i = 0, n = 0; i < nw; i++) {
        n += w[i].n;
        c.bias[i] = w[i].bias;
        c.end[i] = i + 1 < nw ? n : INT32_MAX;
    }
    return c;
}

/* The same for rows of bytes, whose scales are still to come. */
static inline gemm_out gemm_scaled_out(b2_out y, float alpha, float beta, const b2_rows *w, int nw)
{
    gemm_out c = gemm_biased_out(y, alpha, beta, w, nw);
    for (int i = 0; i < nw; i++) c.scale[i] = (const float *)w[i].scale;
    return c;
}

/* How long sums are cut into parts, each a partial result in the workspace: by the shape alone, so that
 * every GPU adds in the same order. Enough blocks for a large GPU, at least 512 terms each. */
static inline int gemm_parts(int tiles, int length)
{
    const int want = tiles < 1 ? 1 : (264 + tiles - 1) / tiles, most = (length + 511) / 512;
    const int n = want < most ? want : most;
    return n < 1 ? 1 : n;
}
#endif
