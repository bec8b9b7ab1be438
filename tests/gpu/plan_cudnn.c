/* Does the cuDNN that is found here plan BLIP-2's attention for an H100? No GPU is needed: the library plans
 * for the one that is described below, as far as its compiled kernels; tests/gpu/no_driver.c stands in for
 * the driver. Exit status 77: no cuDNN here, or one that is too old. */
#include <stdio.h>
#include <string.h>
#include "kernels/cuda/cudnn_plan.h"

enum { SKIPPED = 77 };

static const char h100[] =
    "{\"deviceName\": \"NVIDIA H100 80GB HBM3\", \"cudaDeviceId\": 0, \"deviceVer\": 900, \"driverVer\": "
    "13000, "
    "\"totalGlobalMem\": 85017493504, \"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, "
    "1024, 64], \"regsPerBlock\": 65536, \"multiProcessorCount\": 132, \"warpSize\": 32, "
    "\"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": 232448, "
    "\"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, \"maxCtasPerSM\": 32, "
    "\"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, \"pciDeviceId\": 0, \"isTccDriver\": 0, "
    "\"supportCoopLaunch\": 1, \"smClockRateKHz\": 1980000, \"memClockRateKHz\": 2619000, \"l2CacheSize\": "
    "52428800}";

/* ViT, the Q-Former's own rows and its look at a picture, for one and for 64 pictures; the smallest one that
 * is asked for; one that no engine takes (heads of 12). */
static const struct {
    b2_dnn_shape s;
    int none;
} cases[] = {
    {{1, 16, 88, 257, 257, 4224, 4224, 4224, 0}, 0},  {{64, 16, 88, 257, 257, 4224, 4224, 4224, 0}, 0},
    {{64, 16, 88, 257, 257, 4224, 4224, 4224, 1}, 0}, {{1, 12, 64, 32, 32, 2304, 2304, 2304, 0}, 0},
    {{64, 12, 64, 32, 32, 2304, 2304, 2304, 1}, 0},   {{64, 12, 64, 32, 257, 768, 1536, 1536, 0}, 0},
    {{64, 12, 64, 32, 257, 768, 1536, 1536, 1}, 0},   {{1, 1, 8, 2, 1, 8, 16, 16, 1}, 0},
    {{1, 2, 12, 32, 32, 24, 24, 24, 0}, 1},
};
#define CASES (int)(sizeof cases / sizeof cases[0])

static void *describe(const b2_dnn_api *api)
{
    void *device = NULL;
    if (api->desc_create(B2_DNN_DEVICE, &device) ||
        api->desc_set(device, B2_DNN_DEVICE_JSON, B2_DNN_IS_CHAR, (int64_t)strlen(h100), h100) ||
        api->finalize(device))
        return NULL;
    return device;
}

static int plan(const b2_dnn_api *api, void *device, int i)
{
    const b2_dnn_shape *s = &cases[i].s;
    b2_dnn_plan p;
    b2_dnn_plan_make(api, &p, s, NULL, device, B2_DNN_WORKSPACE);
    const int right = (p.plan == NULL) == cases[i].none;
    printf("%d x %d heads x %d, %d queries, %d keys%s: ", (int)s->batch, (int)s->heads, (int)s->dim,
           (int)s->tq, (int)s->tk, s->stats ? ", lse" : "");
    if (p.plan)
        printf("planned, %zu bytes of workspace", p.workspace);
    else
        printf("no plan: %s, status %d", p.failed, p.code);
    printf("%s\n", right ? "" : "  FAILED");
    b2_dnn_plan_free(api, &p);
    return right;
}

int main(void)
{
    const b2_dnn_api *api = b2_cudnn_open();
    int passed = 0;
    if (!api || api->version() < B2_DNN_LEAST_VERSION) {
        printf("no cuDNN from 9.13 on (with cuBLASLt and NVRTC of its CUDA) is found: CUDNN_HOME names its "
               "folder\n");
        return SKIPPED;
    }
    printf("cuDNN %zu\n", api->version());
    void *device = describe(api);
    for (int i = 0; device && i < CASES; i++) passed += plan(api, device, i);
    if (device) api->desc_destroy(device);
    if (!device) printf("the H100's description is not taken\n");
    printf("%d passed, %d failed, 0 skipped\n", passed, CASES - passed);
    return passed != CASES;
}
