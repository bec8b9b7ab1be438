/* Several neighbouring elements at a time: 16-byte accesses where pointers allow, one element at a time
 * where not. A kernel takes V, its elements an access; its launcher asks k_fits<V>. */
#ifndef B2_KERNELS_CUDA_VECTORS_CUH
#define B2_KERNELS_CUDA_VECTORS_CUH
#include "kernels/cuda/common.cuh"

template <class T, int V> struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) k_vec {
    T v[V];
};

/* May all of these be read V elements at a time? NULL may. */
template <int V, class... T> static inline bool k_fits(const T *...p)
{
    return ((((uintptr_t)p) % alignof(k_vec<T, V>) == 0) && ...);
}

template <int V, class T> __device__ static inline void k_get(float *to, const T *from)
{
    const k_vec<T, V> t = *(const k_vec<T, V> *)from;
#pragma unroll
    for (int j = 0; j < V; j++) to[j] = k_load(t.v[j]);
}
template <int V, class T> __device__ static inline void k_put(T *to, const float *from)
{
    k_vec<T, V> t;
#pragma unroll
    for (int j = 0; j < V; j++) t.v[j] = k_store<T>(from[j]);
    *(k_vec<T, V> *)to = t;
}
/* The same where a buffer may end before: `left` elements are there (1 or more). What is not there reads
 * as 0. */
template <int V, class T> __device__ static inline void k_get_some(float *to, const T *from, int64_t left)
{
    if (left >= V) {
        k_get<V>(to, from);
        return;
    }
#pragma unroll
    for (int j = 0; j < V; j++) to[j] = j < left ? k_load(from[j]) : 0.0f;
}
template <int V, class T> __device__ static inline void k_put_some(T *to, const float *from, int64_t left)
{
    if (left >= V) {
        k_put<V>(to, from);
        return;
    }
#pragma unroll
    for (int j = 0; j < V; j++) {
        if (j < left) to[j] = k_store<T>(from[j]);
    }
}

/* A row shared by W threads, V elements at a time. P > 0: rows of up to SPAN elements, of which a thread
 * keeps HELD in registers from pass to pass; P = 0: rows of any length, read anew in each pass. V > 1: the
 * length is a multiple of it. */
template <int W, int V, int P> struct k_span {
    enum { HELD = P ? P * V : V, SPAN = W * P * V };
    /* Calls f(c, at) for each vector of this thread: c its first element in the row, at the first of its
     * registers. */
    template <class F> __device__ static inline void each(int lane, int length, F f)
    {
        if (P) {
#pragma unroll
            for (int k = 0; k < P; k++) {
                const int c = (lane + k * W) * V;
                if (c < length) f(c, k * V);
            }
        } else {
            for (int c = lane * V; c < length; c += W * V) f(c, 0);
        }
    }
};
#endif
