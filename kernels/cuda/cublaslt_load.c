/* Opening libcublasLt: the newest that the driver runs. */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/vendor_load.h"

static const char *const files[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL}; /* of CUDA 13, 12 */
static const char *const homes[] = {"CUDA_HOME", NULL};
static const char *const wheels[] = {"cu13", "cublas", NULL};

static const b2_vendor_symbol symbols[] = {
    {"cublasLtGetVersion", offsetof(b2_lt_api, version)},
    {"cublasLtCreate", offsetof(b2_lt_api, create)},
    {"cublasLtDestroy", offsetof(b2_lt_api, destroy)},
    {"cublasLtMatmulDescCreate", offsetof(b2_lt_api, desc_create)},
    {"cublasLtMatmulDescSetAttribute", offsetof(b2_lt_api, desc_set)},
    {"cublasLtMatmulDescDestroy", offsetof(b2_lt_api, desc_destroy)},
    {"cublasLtMatrixLayoutCreate", offsetof(b2_lt_api, layout_create)},
    {"cublasLtMatrixLayoutDestroy", offsetof(b2_lt_api, layout_destroy)},
    {"cublasLtMatmulPreferenceCreate", offsetof(b2_lt_api, preference_create)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(b2_lt_api, preference_set)},
    {"cublasLtMatmulPreferenceDestroy", offsetof(b2_lt_api, preference_destroy)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(b2_lt_api, heuristic)},
    {"cublasLtMatmul", offsetof(b2_lt_api, matmul)},
};

/* The module's own, filled once. */
static b2_lt_api api;
static const b2_lt_api *opened;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_once(void)
{
    b2_vendor lt = {files, homes, wheels};
    const char *wanted = getenv("BLIP2_CUBLAS");
    int driver = 0;
    if (wanted && !strcmp(wanted, "0")) return;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver < 13000) lt.files = files + 1;
    if (b2_vendor_open(&lt, symbols, sizeof symbols / sizeof *symbols, &api)) opened = &api;
}

const b2_lt_api *b2_cublaslt_open(void)
{
    pthread_once(&once, open_once);
    return opened;
}
