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
 * columns. */
struct gemm_out {
    float *y;
    int ld;
    float alpha, beta;
    const float *bias[3], *scale[3];
    int end[3];
};

__device__ static inline void gemm_store(const gemm_out &c, int i, int o, float sum)
{
    float *y = c.y + (int64_t)i * c.ld + o;
    const float *block = o < c.end[0] ? c.bias[0] : o < c.end[1] ? c.bias[1] : c.bias[2];
    const int first = o < c.end[0] ? 0 : o < c.end[1] ? c.end[0] : c.end[1];
    const float *factor = o < c.end[0] ? c.scale[0] : o < c.end[1] ? c.scale[1] : c.scale[2];
    const float bias = block ? block[o - first] : 0.0f;
    if (factor) sum *= factor[o - first];
    const float old = c.beta == 0.0f ? 0.0f : c.beta * *y;
    *y = old + c.alpha * sum + bias;
}

static inline gemm_out gemm_plain_out(float *y, int ld, float alpha, float beta)
{
    const gemm_out c = {
        y, ld, alpha, beta, {NULL, NULL, NULL}, {NULL, NULL, NULL}, {INT32_MAX, INT32_MAX, INT32_MAX}};
    return c;
}

static inline gemm_out gemm_biased_out(float *y, int ld, float alpha, float beta, const b2_rows *w, int nw)
{
    gemm_out c = gemm_plain_out(y, ld, alpha, beta);
    for (int i = 0, n = 0; i < nw; i++) {
        n += w[i].n;
        c.bias[i] = w[i].bias;
        c.end[i] = i + 1 < nw ? n : INT32_MAX;
    }
    return c;
}

/* The same for rows of bytes, whose scales are still to come. */
static inline gemm_out gemm_scaled_out(float *y, int ld, float alpha, float beta, const b2_rows *w, int nw)
{
    gemm_out c = gemm_biased_out(y, ld, alpha, beta, w, nw);
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
