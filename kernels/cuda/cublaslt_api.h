/* What is used of cuBLASLt (cublasLt.h of CUDA 12 and 13: names in comments). The library is opened at run
 * time, and no header of it is needed to build. */
#ifndef B2_KERNELS_CUDA_CUBLASLT_API_H
#define B2_KERNELS_CUDA_CUBLASLT_API_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct b2_lt_algo { /* cublasLtMatmulAlgo_t */
    uint64_t data[8];
} b2_lt_algo;
typedef struct b2_lt_choice { /* cublasLtMatmulHeuristicResult_t */
    b2_lt_algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} b2_lt_choice;

enum { B2_LT_R_32F = 0, B2_LT_R_16BF = 14 }; /* cudaDataType_t */
enum { B2_LT_COMPUTE_32F = 68 };             /* cublasComputeType_t */
enum {
    B2_LT_TRANSA = 3,
    B2_LT_TRANSB = 4,
    B2_LT_EPILOGUE = 7, /* cublasLtMatmulDescAttributes_t */
    B2_LT_BIAS_POINTER = 8,
    B2_LT_BIAS_TYPE = 26
};
enum { B2_LT_EPILOGUE_BIAS = 4 }; /* cublasLtEpilogue_t */
enum {
    B2_LT_MAX_WORKSPACE = 1,
    B2_LT_REDUCTIONS = 3,
    B2_LT_ALIGNMENT_A = 5,
    B2_LT_ALIGNMENT_B = 6,
    B2_LT_ALIGNMENT_C = 7,
    B2_LT_ALIGNMENT_D = 8
};                                                       /* cublasLtMatmulPreferenceAttributes_t */
enum { B2_LT_REDUCE_COMPUTE = 2, B2_LT_REDUCE_ANY = 7 }; /* cublasLtReductionScheme_t */

/* Functions give 0 or a cublasStatus_t; handles and descriptors are opaque. */
typedef struct b2_lt_api {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*desc_create)(void **desc, int compute, int scale_type);
    int (*desc_set)(void *desc, int attribute, const void *value, size_t size);
    int (*desc_destroy)(void *desc);
    int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
    int (*layout_destroy)(void *layout);
    int (*preference_create)(void **preference);
    int (*preference_set)(void *preference, int attribute, const void *value, size_t size);
    int (*preference_destroy)(void *preference);
    int (*heuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,
                     int wanted, b2_lt_choice *choices, int *found);
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *la, const void *b,
                  void *lb, const void *beta, const void *c, void *lc, void *d, void *ld,
                  const b2_lt_algo *algo, void *workspace, size_t bytes, void *stream);
} b2_lt_api;

/* Opens the library wherever it is ($CUDA_HOME among other places: vendor_load.h), 13 before 12. It stays
 * open. NULL: there is none, or BLIP2_CUBLAS is 0. */
const b2_lt_api *b2_cublaslt_open(void);
#ifdef __cplusplus
}
#endif
#endif
