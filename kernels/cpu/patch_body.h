/* Image patches as rows; body of patch_tmpl_<isa>.c. */
#include "kernels/act.h"
#include "kernels/cpu/sweep.h"

typedef struct patch_job {
    act_t *y;
    const float *pixels;
    int size, patch, grid;
} patch_job;

/* One row of patches of one image. */
static void patch_task(void *ctx, int64_t chunk, int worker)
{
    const patch_job *j = ctx;
    const int64_t b = chunk / j->grid, py = chunk % j->grid, plane = (int64_t)j->size * j->size;
    const float *image = j->pixels + b * 3 * plane + py * j->patch * j->size;
    act_t *y = j->y + chunk * j->grid * 3 * j->patch * j->patch;
    (void)worker;
    for (int px = 0; px < j->grid; px++)
        for (int c = 0; c < 3; c++)
            for (int ky = 0; ky < j->patch; ky++, y += j->patch) {
                const float *line = image + c * plane + (int64_t)ky * j->size + px * j->patch;
                SWEEP(j->patch, aput(y + i, vget(line + i, len), len));
            }
}

void TIER_FN(patchify)(b2_queue *q, void *y, const float *pixels, int batch, int size, int patch)
{
    patch_job j = {y, pixels, size, patch, size / patch};
    b2_pool_run(q->pool, (int64_t)batch * j.grid, patch_task, &j);
}
