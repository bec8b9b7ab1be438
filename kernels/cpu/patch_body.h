/* Image patches as rows; body of patch_tmpl_<isa>.c. */
#include "kernels/act.h"
#include "kernels/cpu/sweep.h"

typedef struct patch_job {
    act_t *y;
    const float *pixels;
    int size, patch, grid, rows; /* rows of patches, of all images */
} patch_job;

static int row_size(const patch_job *j) { return j->grid * 3 * j->patch * j->patch; }

static inline void patch_line(act_t *y, const float *x, int n)
{
    int i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) y[i + j] = act_store(x[i + j]);
    for (; i < n; i++) y[i] = act_store(x[i]);
}

/* A row of patches of an image. */
static void patch_row(const patch_job *j, int64_t row)
{
    const int64_t b = row / j->grid, py = row % j->grid, plane = (int64_t)j->size * j->size;
    const float *image = j->pixels + b * 3 * plane + py * j->patch * j->size;
    act_t *y = j->y + row * row_size(j);
    for (int px = 0; px < j->grid; px++)
        for (int c = 0; c < 3; c++)
            for (int ky = 0; ky < j->patch; ky++, y += j->patch)
                patch_line(y, image + c * plane + (int64_t)ky * j->size + px * j->patch, j->patch);
}

static void patch_task(void *ctx, int64_t chunk, int worker)
{
    const patch_job *j = ctx;
    const int step = rows_per_task(row_size(j));
    (void)worker;
    for (int64_t r = chunk * step; r < j->rows && r < (chunk + 1) * step; r++) patch_row(j, r);
}

void TIER_FN(patchify)(b2_queue *q, void *y, const float *pixels, int batch, int size, int patch)
{
    patch_job j = {y, pixels, size, patch, size / patch, batch * (size / patch)};
    b2_pool_run(q->pool, b2_cuts(j.rows, rows_per_task(row_size(&j))), patch_task, &j);
}
