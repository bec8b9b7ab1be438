/* libcuda.so.1 for a machine without a GPU, so that cuDNN plans there (plan_cudnn.c): it compiles its kernels
 * only where it can hand them to a driver. Code is taken and never run; all else fails. */

enum { SUCCESS = 0, NO_DEVICE = 100 }; /* CUresult */
static int something;                  /* what every handle points to */

/* What cuDNN calls of these, it calls with their own arguments, which nobody looks at. */
int b2_no_device(void);
int b2_no_device(void) { return NO_DEVICE; }
int b2_done(void);
int b2_done(void) { return SUCCESS; }
#define FAILS(name)    int name(void) __attribute__((alias("b2_no_device")));
#define SUCCEEDS(name) int name(void) __attribute__((alias("b2_done")));
SUCCEEDS(cuKernelSetAttribute)
SUCCEEDS(cuLibraryUnload)
FAILS(cuInit)
FAILS(cuCtxGetCurrent)
FAILS(cuCtxGetLimit)
FAILS(cuCtxPopCurrent)
FAILS(cuCtxPushCurrent)
FAILS(cuDeviceGet)
FAILS(cuDeviceGetCount)
FAILS(cuLaunchCooperativeKernel)
FAILS(cuLaunchKernel)
FAILS(cuLaunchKernelEx)
FAILS(cuLibraryLoadFromFile)
FAILS(cuLinkAddData)
FAILS(cuLinkComplete)
FAILS(cuLinkCreate)
FAILS(cuLinkDestroy)
FAILS(cuOccupancyMaxPotentialClusterSize)
FAILS(cuStreamGetCtx)

int cuLibraryLoadData(void **library, const void *code);
int cuLibraryLoadData(void **library, const void *code)
{
    *library = code ? &something : 0;
    return code ? SUCCESS : NO_DEVICE;
}
int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    *kernel = library && name ? &something : 0;
    return library && name ? SUCCESS : NO_DEVICE;
}
int cuKernelGetAttribute(int *value);
int cuKernelGetAttribute(int *value)
{
    *value = 0;
    return SUCCESS;
}
int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}
int cuGetErrorString(int code, const char **text);
int cuGetErrorString(int code, const char **text)
{
    *text = code ? "no GPU here" : "no error";
    return SUCCESS;
}
int cuGetErrorName(int code, const char **text);
int cuGetErrorName(int code, const char **text) { return cuGetErrorString(code, text); }
