/* Memory of the check tool on a GPU: managed, so that the host fills and judges what the kernels get. */
#include <cuda_runtime_api.h>
#include "tests/check/harness.h"

void *ck_shared_take(size_t bytes)
{
    void *p = NULL;
    return cudaMallocManaged(&p, bytes ? bytes : 1, cudaMemAttachGlobal) == cudaSuccess ? p : NULL;
}

void ck_shared_give(void *p) { cudaFree(p); }
