/* Vendors' libraries, opened at run time: no header of theirs is needed to build, no library to link. */
#ifndef B2_KERNELS_CUDA_VENDOR_LOAD_H
#define B2_KERNELS_CUDA_VENDOR_LOAD_H
#include <stdbool.h>
#include <stddef.h>

/* Where a library is looked for; each list ends with NULL. */
typedef struct b2_vendor {
    const char *const *files;  /* its names, the best one first */
    const char *const *homes;  /* environment variables: folders with lib64 or lib in them */
    const char *const *wheels; /* of NVIDIA's wheels: folders below `nvidia` among Python's packages */
} b2_vendor;
typedef struct b2_vendor_symbol {
    const char *name;
    size_t at; /* of its pointer in the struct that is filled */
} b2_vendor_symbol;

/* Opens the library wherever it is: what is loaded already, its homes, the linker's folders, the toolkit's
 * usual one, Python's packages ($VIRTUAL_ENV first). Fills n function pointers of `api` (n may be 0); it
 * stays open. False: it is not there, or lacks one of the functions. */
bool b2_vendor_open(const b2_vendor *v, const b2_vendor_symbol *symbols, size_t n, void *api);
#endif
