/* Memory of the check tool on a GPU: managed, so that the host fills and judges what the kernels get. */
#include <cuda_runtime_api.h>
#include "tests/check/harness.h"

void *ck_shared_take(size_t bytes)
{
    void *p = NULL;
    const cudaError_t code = cudaMallocManaged(&p, bytes ? bytes : 1, cudaMemAttachGlobal);
    if (code == cudaSuccess) return p;
    fprintf(stderr, "%zu bytes that CUDA manages: %s\n", bytes, cudaGetErrorString(code));
    return NULL;
}

void ck_shared_give(void *p) { cudaFree(p); }

/* Only a hint: pages that cannot be moved ahead come when a kernel asks for them. */
void ck_shared_home(void *p, size_t bytes)
{
#if CUDART_VERSION >= 13000
    const struct cudaMemLocation gpu = {.type = cudaMemLocationTypeDevice, .id = 0};
    cudaMemPrefetchAsync(p, bytes, gpu, 0, NULL);
#else
    cudaMemPrefetchAsync(p, bytes, 0, NULL);
#endif
    cudaStreamSynchronize(NULL);
    cudaGetLastError();
}
