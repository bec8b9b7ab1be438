/* Opening cuDNN 9. What it opens by itself it looks for in the linker's folders only: cuBLASLt, without which
 * it ends the process, and NVRTC, without which no engine takes attention. Both are opened here first. */
#include <pthread.h>
#include <stdio.h>
#include "kernels/cuda/cudnn_api.h"
#include "kernels/cuda/vendor_load.h"

static const char *const files[] = {"libcudnn.so.9", "libcudnn_graph.so.9", NULL};
static const char *const homes[] = {"CUDNN_HOME", "CUDA_HOME", NULL};
static const char *const wheels[] = {"cudnn", NULL};

/* The module's own, filled once. */
typedef struct library {
    b2_dnn_api api;         /* first: its places are offsets here too */
    size_t (*cudart)(void); /* CUDA's release that it was built with: 13000 */
} library;
static library loaded;
static const b2_dnn_api *opened;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const b2_vendor_symbol symbols[] = {
    {"cudnnGetCudartVersion", offsetof(library, cudart)},
    {"cudnnGetVersion", offsetof(b2_dnn_api, version)},
    {"cudnnCreate", offsetof(b2_dnn_api, create)},
    {"cudnnDestroy", offsetof(b2_dnn_api, destroy)},
    {"cudnnSetStream", offsetof(b2_dnn_api, set_stream)},
    {"cudnnBackendCreateDescriptor", offsetof(b2_dnn_api, desc_create)},
    {"cudnnBackendDestroyDescriptor", offsetof(b2_dnn_api, desc_destroy)},
    {"cudnnBackendSetAttribute", offsetof(b2_dnn_api, desc_set)},
    {"cudnnBackendGetAttribute", offsetof(b2_dnn_api, desc_get)},
    {"cudnnBackendFinalize", offsetof(b2_dnn_api, finalize)},
    {"cudnnBackendExecute", offsetof(b2_dnn_api, execute)},
};

static const char *const cuda_homes[] = {"CUDA_HOME", NULL};
static const char *const cuda_wheels[] = {"cu13", "cublas", "cuda_nvrtc", NULL};

/* The compiler, and the library that it opens by name. */
static bool open_nvrtc(int release)
{
    char file[64];
    const char *const names[] = {file, NULL};
    const b2_vendor nvrtc = {names, cuda_homes, cuda_wheels};
    int (*version)(int *major, int *minor) = NULL;
    const b2_vendor_symbol symbol = {"nvrtcVersion", 0};
    int major = 0, minor = 0;
    snprintf(file, sizeof file, "libnvrtc.so.%d", release);
    if (!b2_vendor_open(&nvrtc, &symbol, 1, &version) || version(&major, &minor)) return false;
    snprintf(file, sizeof file, "libnvrtc-builtins.so.%d.%d", major, minor);
    return b2_vendor_open(&nvrtc, NULL, 0, NULL);
}

/* All of cuDNN's own release of CUDA: 13. */
static bool open_needed(int release)
{
    char file[64];
    const char *const names[] = {file, NULL};
    const b2_vendor lt = {names, cuda_homes, cuda_wheels};
    snprintf(file, sizeof file, "libcublasLt.so.%d", release);
    return b2_vendor_open(&lt, NULL, 0, NULL) && open_nvrtc(release);
}

static void open_once(void)
{
    static const b2_vendor dnn = {files, homes, wheels};
    if (b2_vendor_open(&dnn, symbols, sizeof symbols / sizeof *symbols, &loaded) &&
        open_needed((int)(loaded.cudart() / 1000)))
        opened = &loaded.api;
}

const b2_dnn_api *b2_cudnn_open(void)
{
    pthread_once(&once, open_once);
    return opened;
}
