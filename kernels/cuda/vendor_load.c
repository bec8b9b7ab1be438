/* Finding and opening vendors' libraries. */
#include "kernels/cuda/vendor_load.h"
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *open_in(const b2_vendor *v, const char *folder)
{
    char path[1024];
    void *so = NULL;
    for (int i = 0; v->files[i] && !so; i++) {
        if (snprintf(path, sizeof path, "%s/%s", folder, v->files[i]) < (int)sizeof path)
            so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return so;
}

/* Where NVIDIA's wheels put it, below a folder of Python versions. */
static void *open_in_python(const b2_vendor *v, const char *root)
{
    static const char *const below[] = {"site-packages", "dist-packages"};
    char pattern[1024];
    void *so = NULL;
    for (int i = 0; v->wheels[i / 2] && !so; i++) {
        glob_t g;
        snprintf(pattern, sizeof pattern, "%s/lib/python3*/%s/nvidia/%s/lib", root, below[i % 2],
                 v->wheels[i / 2]);
        if (glob(pattern, 0, NULL, &g)) continue;
        for (size_t k = 0; k < g.gl_pathc && !so; k++) so = open_in(v, g.gl_pathv[k]);
        globfree(&g);
    }
    return so;
}

static void *open_in_homes(const b2_vendor *v)
{
    char folder[1024];
    void *so = NULL;
    for (int i = 0; v->homes[i / 2] && !so; i++) {
        const char *home = getenv(v->homes[i / 2]);
        if (home && snprintf(folder, sizeof folder, "%s/%s", home, i % 2 ? "lib" : "lib64") < 1024)
            so = open_in(v, folder);
    }
    return so;
}

static void *find(const b2_vendor *v)
{
    static const char *const roots[] = {"/usr", "/usr/local", "/opt/conda"};
    const char *venv = getenv("VIRTUAL_ENV");
    void *so = NULL;
    for (int i = 0; v->files[i] && !so; i++) so = dlopen(v->files[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (!so) so = open_in_homes(v);
    for (int i = 0; v->files[i] && !so; i++) so = dlopen(v->files[i], RTLD_NOW | RTLD_LOCAL);
    if (!so) so = open_in(v, "/usr/local/cuda/lib64");
    if (!so && venv) so = open_in_python(v, venv);
    for (size_t i = 0; i < sizeof roots / sizeof *roots && !so; i++) so = open_in_python(v, roots[i]);
    return so;
}

bool b2_vendor_open(const b2_vendor *v, const b2_vendor_symbol *symbols, size_t n, void *api)
{
    void *so = find(v);
    for (size_t i = 0; so && i < n; i++) {
        void *f = dlsym(so, symbols[i].name);
        if (!f) {
            dlclose(so);
            return false;
        }
        memcpy((char *)api + symbols[i].at, &f, sizeof f);
    }
    return so != NULL;
}
