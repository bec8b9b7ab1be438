/* GPUs: finding the CUDA module, and opening a device of it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "device/device.h"

#define MODULE_FILE "libblip2-cuda.so"

/* Where the library itself lies, without its name; "" when unknown. */
static void own_folder(char *out, size_t room)
{
    Dl_info info;
    static const char here[] = ""; /* an address inside the library */
    out[0] = 0;
    if (!dladdr(here, &info) || !info.dli_fname) return;
    snprintf(out, room, "%s", info.dli_fname);
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
    else
        snprintf(out, room, ".");
}

/* BLIP2_MODULE_DIR alone when it is set; else beside where the library lies: its own folder's blip2, and
 * for a program in bin that holds the library lib/blip2 next to it. */
static void *find_module(b2_str *tried)
{
    static const char *const beside[] = {"%s/blip2/" MODULE_FILE, "%s/../lib/blip2/" MODULE_FILE};
    const char *only = getenv("BLIP2_MODULE_DIR");
    char own[3072], path[2][4096];
    int n = 0;
    if (only && *only) {
        snprintf(path[n++], sizeof path[0], "%s/" MODULE_FILE, only);
    } else {
        own_folder(own, sizeof own);
        for (int i = 0; i < 2; i++) snprintf(path[n++], sizeof path[0], beside[i], own);
    }
    for (int i = 0; i < n; i++) {
        /* Never unloaded: the driver wants its callers to stay. */
        void *so = dlopen(path[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (so) return so;
        const char *why = dlerror();
        b2_str_addf(tried, "%s%s", i ? "; " : "", why ? why : path[i]);
    }
    return NULL;
}

static blip2_status check_module(void *so, const char *name, const b2_cuda_module **out, blip2_error *e)
{
    const b2_cuda_module *(*get)(void) = NULL;
    void *symbol = dlsym(so, B2_CUDA_MODULE_SYMBOL);
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object's address to a function's */
    const b2_cuda_module *m = symbol ? get() : NULL;
    if (!m)
        return b2_fail(e, BLIP2_ERR_DEVICE, "device \"%s\": %s is no module of this library", name,
                       MODULE_FILE);
    if (m->hash != b2_module_hash())
        return b2_fail(
            e, BLIP2_ERR_DEVICE,
            "device \"%s\": %s was built for another libblip2 (interface %016llx, this library's is "
            "%016llx): build both from the same sources",
            name, MODULE_FILE, (unsigned long long)m->hash, (unsigned long long)b2_module_hash());
    *out = m;
    return BLIP2_OK;
}

/* Opened anew for each device: the system counts, and opens it once. */
static blip2_status get_module(const char *name, const b2_cuda_module **out, blip2_error *e)
{
    b2_str tried = {0};
    void *so = find_module(&tried);
    blip2_status s = BLIP2_OK;
    if (!so)
        s = b2_fail(
            e, BLIP2_ERR_DEVICE,
            "device \"%s\": the CUDA module cannot be opened (`make cuda` builds it, BLIP2_MODULE_DIR says "
            "where it is): %s",
            name, tried.p ? tried.p : "out of memory");
    else
        s = check_module(so, name, out, e);
    if (so) dlclose(so);
    b2_str_free(&tried);
    return s;
}

/* "cuda" → 0, "cuda:7" → 7; -1: neither. */
static int index_of(const char *name)
{
    char *end = NULL;
    if (!name[4]) return 0;
    const long n = strtol(name + 5, &end, 10);
    return name[5] < '0' || name[5] > '9' || *end || n > 1023 ? -1 : (int)n;
}

static void *take_device(void *d, size_t bytes)
{
    return ((blip2_device *)d)->cuda->take(((blip2_device *)d)->gpu, bytes);
}
static void give_device(void *d, void *p) { ((blip2_device *)d)->cuda->give(((blip2_device *)d)->gpu, p); }
static void *take_pinned(void *d, size_t bytes)
{
    return ((blip2_device *)d)->cuda->take_host(((blip2_device *)d)->gpu, bytes);
}
static void give_pinned(void *d, void *p)
{
    ((blip2_device *)d)->cuda->give_host(((blip2_device *)d)->gpu, p);
}

blip2_status b2_device_open_cuda(blip2_device *d, const char *name, blip2_error *e)
{
    const b2_cuda_module *m = NULL;
    char why[512] = "";
    const int index = index_of(name);
    if (index < 0)
        return b2_fail(e, BLIP2_ERR_DEVICE, "device \"%s\": expected cuda or cuda: and the number of a GPU",
                       name);
    B2_TRY(get_module(name, &m, e));
    if (m->open(index, &d->gpu, why, sizeof why))
        return b2_fail(e, BLIP2_ERR_DEVICE, "device \"%s\": %s", name, why);
    d->cuda = m;
    m->tables(d->tables);
    m->describe(d->gpu, d->description, sizeof d->description);
    d->memory.take = take_device;
    d->memory.give = give_device;
    d->pinned.take = take_pinned;
    d->pinned.give = give_pinned;
    d->memory.owner = d->pinned.owner = d;
    return BLIP2_OK;
}

void b2_device_close_cuda(blip2_device *d)
{
    if (d->gpu) d->cuda->close(d->gpu);
    d->gpu = NULL;
}

blip2_status b2_device_room(blip2_device *d, size_t bytes, const char *what, blip2_error *e)
{
    size_t available = 0, total = 0;
    if (!d->gpu) return BLIP2_OK;
    const int code = d->cuda->memory(d->gpu, &available, &total);
    if (code) return b2_fail(e, BLIP2_ERR_DEVICE, "%s: %s", what, d->cuda->error(code));
    if (bytes <= available) return BLIP2_OK;
    return b2_fail(e, BLIP2_ERR_MEMORY, "%s: %.1f MiB are wanted, %.1f of %.1f MiB are free (%s)", what,
                   (double)bytes / 0x1p20, (double)available / 0x1p20, (double)total / 0x1p20,
                   d->description);
}
