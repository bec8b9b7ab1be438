/* Reference of embeddings, image patches, and rows shared by a batch. */
#include "kernels/act.h"

static void copy(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
}

static void accumulate(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

void B2_REF(embed_wf32)(b2_queue *q, float *y, const float *table, const float *image, const int32_t *ids,
                        int rows, int cols)
{
    (void)q;
    for (int i = 0; i < rows; i++, y += cols) {
        copy(y, ids[i] >= 0 ? table + (int64_t)ids[i] * cols : image + (int64_t)(-1 - ids[i]) * cols, cols);
    }
}

void B2_REF(embed_wbf16)(b2_queue *q, float *y, const uint16_t *table, const float *image, const int32_t *ids,
                         int rows, int cols)
{
    (void)q;
    for (int i = 0; i < rows; i++, y += cols) {
        if (ids[i] < 0) {
            copy(y, image + (int64_t)(-1 - ids[i]) * cols, cols);
            continue;
        }
        const uint16_t *row = table + (int64_t)ids[i] * cols;
        for (int c = 0; c < cols; c++) y[c] = b2_bf16_to_f32(row[c]);
    }
}

void B2_REF(embed_bwd)(b2_queue *q, float *dtable, float *dimage, const float *dy, const int32_t *ids,
                       int rows, int cols)
{
    (void)q;
    for (int i = 0; i < rows; i++, dy += cols) {
        if (ids[i] >= 0 && dtable) accumulate(dtable + (int64_t)ids[i] * cols, dy, cols);
        if (ids[i] < 0 && dimage) copy(dimage + (int64_t)(-1 - ids[i]) * cols, dy, cols);
    }
}

void B2_REF(patchify)(b2_queue *q, void *y, const float *pixels, int batch, int size, int patch)
{
    (void)q;
    const int g = size / patch;
    act_t *out = y;
    for (int b = 0; b < batch; b++, pixels += (int64_t)3 * size * size) {
        for (int p = 0; p < g * g; p++) {
            const float *corner = pixels + (int64_t)(p / g) * patch * size + (int64_t)(p % g) * patch;
            for (int c = 0; c < 3; c++) {
                for (int ky = 0; ky < patch; ky++) {
                    const float *line = corner + ((int64_t)c * size + ky) * size;
                    for (int kx = 0; kx < patch; kx++) *out++ = act_store(line[kx]);
                }
            }
        }
    }
}

void B2_REF(vit_embed_fwd)(b2_queue *q, float *x, const float *patches, const float *cls, const float *pos,
                           int batch, int n, int cols)
{
    (void)q;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t t = 0; t <= n; t++, x += cols) {
            copy(x, t == 0 ? cls : patches + (b * n + t - 1) * cols, cols);
            accumulate(x, pos + t * cols, cols);
        }
    }
}

void B2_REF(vit_embed_bwd)(b2_queue *q, float *dpatches, float *dcls, float *dpos, const float *dx, int batch,
                           int n, int cols)
{
    (void)q;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t t = 0; t <= n; t++, dx += cols) {
            if (t > 0 && dpatches) copy(dpatches + (b * n + t - 1) * cols, dx, cols);
            if (t == 0 && dcls) accumulate(dcls, dx, cols);
            if (dpos) accumulate(dpos + t * cols, dx, cols);
        }
    }
}

void B2_REF(tile_fwd)(b2_queue *q, float *y, const float *x, int copies, int64_t n)
{
    (void)q;
    for (int c = 0; c < copies; c++) copy(y + c * n, x, n);
}

void B2_REF(tile_bwd)(b2_queue *q, float *dx, const float *dy, int copies, int64_t n)
{
    (void)q;
    for (int c = 0; c < copies; c++) accumulate(dx, dy + c * n, n);
}
