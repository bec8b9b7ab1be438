/* What is used of cuDNN 9's backend (cudnn_graph.h: names in comments). The library is opened at run time,
 * and no header of it is needed to build. */
#ifndef B2_KERNELS_CUDA_CUDNN_API_H
#define B2_KERNELS_CUDA_CUDNN_API_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { B2_DNN_F32 = 0, B2_DNN_BF16 = 9 }; /* cudnnDataType_t */
enum { B2_DNN_HEUR_A = 3 };               /* cudnnBackendHeurMode_t */
enum {
    B2_DNN_CONFIG = 3,
    B2_DNN_HEUR = 4,
    B2_DNN_PLAN = 5,
    B2_DNN_GRAPH = 15,
    B2_DNN_PACK = 16,
    B2_DNN_TENSOR = 17,
    B2_DNN_DEVICE = 38,
    B2_DNN_SDPA = 41
}; /* cudnnBackendDescriptorType_t */
enum {
    B2_DNN_IS_HANDLE = 0,
    B2_DNN_IS_DATA_TYPE = 1,
    B2_DNN_IS_BOOLEAN = 2, /* one byte */
    B2_DNN_IS_INT64 = 3,
    B2_DNN_IS_POINTER = 6,
    B2_DNN_IS_HEUR_MODE = 8,
    B2_DNN_IS_DESCRIPTOR = 15,
    B2_DNN_IS_CHAR = 24
}; /* cudnnBackendAttributeType_t */
enum {
    B2_DNN_HEUR_MODE = 200,
    B2_DNN_HEUR_GRAPH = 201,
    B2_DNN_HEUR_RESULTS = 202,
    B2_DNN_HEUR_DEVICE = 204,
    B2_DNN_PLAN_HANDLE = 400,
    B2_DNN_PLAN_CONFIG = 401,
    B2_DNN_PLAN_WORKSPACE = 402,
    B2_DNN_PLAN_DEVICE = 407,
    B2_DNN_GRAPH_HANDLE = 800,
    B2_DNN_GRAPH_OPS = 801,
    B2_DNN_TENSOR_ALIGNMENT = 900,
    B2_DNN_TENSOR_TYPE = 901,
    B2_DNN_TENSOR_DIMS = 902,
    B2_DNN_TENSOR_STRIDES = 903,
    B2_DNN_TENSOR_ID = 906,
    B2_DNN_TENSOR_BY_VALUE = 908,
    B2_DNN_PACK_IDS = 1000,
    B2_DNN_PACK_POINTERS = 1001,
    B2_DNN_PACK_WORKSPACE = 1003,
    B2_DNN_DEVICE_JSON = 2702,
    B2_DNN_SDPA_Q = 2800,
    B2_DNN_SDPA_K = 2801,
    B2_DNN_SDPA_V = 2802,
    B2_DNN_SDPA_O = 2803,
    B2_DNN_SDPA_STATS = 2804,
    B2_DNN_SDPA_SCALE = 2805
}; /* cudnnBackendAttributeName_t */

/* Functions give 0 or a cudnnStatus_t; handles and descriptors are opaque. */
typedef struct b2_dnn_api {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, void *stream);
    int (*desc_create)(int type, void **desc);
    int (*desc_destroy)(void *desc);
    int (*desc_set)(void *desc, int attribute, int type, int64_t n, const void *values);
    int (*desc_get)(void *desc, int attribute, int type, int64_t room, int64_t *n, void *values);
    int (*finalize)(void *desc);
    int (*execute)(void *handle, void *plan, void *pack);
} b2_dnn_api;

/* Opens the library wherever it is ($CUDNN_HOME, $CUDA_HOME among other places: vendor_load.h). It stays
 * open. NULL: there is none, or not the cuBLASLt and NVRTC that it wants. */
const b2_dnn_api *b2_cudnn_open(void);
#ifdef __cplusplus
}
#endif
#endif
