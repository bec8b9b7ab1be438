/* Finding and opening libcublasLt. */
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cublaslt_api.h"

static const char *const files[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
enum { FILES = sizeof files / sizeof *files };

static void *open_in(const char *folder)
{
    char path[1024];
    for (int i = 0; i < FILES; i++) {
        if (snprintf(path, sizeof path, "%s/%s", folder, files[i]) >= (int)sizeof path) continue;
        void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (so) return so;
    }
    return NULL;
}

/* Where NVIDIA's wheels put it, below a folder of Python versions. */
static void *open_in_python(const char *root)
{
    static const char *const below[] = {"site-packages", "dist-packages"};
    static const char *const wheel[] = {"cu13", "cublas"};
    char pattern[1024];
    void *so = NULL;
    for (int i = 0; i < 4 && !so; i++) {
        glob_t g;
        snprintf(pattern, sizeof pattern, "%s/lib/python3*/%s/nvidia/%s/lib", root, below[i / 2],
                 wheel[i % 2]);
        if (glob(pattern, 0, NULL, &g)) continue;
        for (size_t k = 0; k < g.gl_pathc && !so; k++) so = open_in(g.gl_pathv[k]);
        globfree(&g);
    }
    return so;
}

static void *find(void)
{
    static const char *const roots[] = {"/usr", "/usr/local", "/opt/conda"};
    const char *home = getenv("CUDA_HOME"), *venv = getenv("VIRTUAL_ENV");
    char folder[1024];
    void *so = NULL;
    for (int i = 0; i < FILES && !so; i++) so = dlopen(files[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    for (int i = 0; i < 2 && home && !so; i++) {
        snprintf(folder, sizeof folder, "%s/%s", home, i ? "lib" : "lib64");
        so = open_in(folder);
    }
    for (int i = 0; i < FILES && !so; i++) so = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
    if (!so) so = open_in("/usr/local/cuda/lib64");
    if (!so && venv) so = open_in_python(venv);
    for (size_t i = 0; i < sizeof roots / sizeof *roots && !so; i++) so = open_in_python(roots[i]);
    return so;
}

typedef struct symbol {
    const char *name;
    size_t at; /* in b2_lt_api */
} symbol;

static const symbol symbols[] = {
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
    const char *wanted = getenv("BLIP2_CUBLAS");
    void *so = wanted && !strcmp(wanted, "0") ? NULL : find();
    for (size_t i = 0; so && i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(so, symbols[i].name);
        if (!f) {
            dlclose(so);
            return;
        }
        memcpy((char *)&api + symbols[i].at, &f, sizeof f);
    }
    if (so) opened = &api;
}

const b2_lt_api *b2_cublaslt_open(void)
{
    pthread_once(&once, open_once);
    return opened;
}
