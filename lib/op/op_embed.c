/* Ops that bring tokens, pictures and repeated rows in. */
#include "op/op_core.h"

void b2_embed(b2_queue *q, b2_tensor *y, const b2_param *table, const b2_tensor *image, const int32_t *ids)
{
    b2_op o;
    const bool ok = table->cols == y->cols && b2_f32(y) && b2_dense(y) &&
                    (!image || (image->cols == y->cols && b2_f32(image)));
    if (!b2_op_begin(&o, q, "embed", ok, "y %dx%d, table %dx%d", y->rows, y->cols, table->rows,
                     table->cols) ||
        !b2_op_launch(&o))
        return;
    const float *im = image ? image->p : NULL;
    if (table->type == B2_F32)
        q->k[B2_F32]->embed_wf32(q, y->p, table->p, im, ids, y->rows, y->cols);
    else
        q->k[B2_F32]->embed_wbf16(q, y->p, table->p, im, ids, y->rows, y->cols);
    b2_op_end(&o, y);
}

void b2_embed_bwd(b2_queue *q, const b2_param *table, b2_tensor *dimage, const b2_tensor *dy,
                  const int32_t *ids)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "embed_bwd", b2_f32(dy) && b2_dense(dy), "dy %dx%d", dy->rows, dy->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->embed_bwd(q, table ? table->g : NULL, dimage ? dimage->p : NULL, dy->p, ids, dy->rows,
                            dy->cols);
    b2_op_end(&o, dimage);
}

void b2_patchify(b2_queue *q, b2_tensor *y, const float *pixels, int batch, int size, int patch)
{
    b2_op o;
    const int g = size / patch;
    const bool ok = b2_is(y, batch * g * g, 3 * patch * patch) && b2_dense(y);
    if (!b2_op_begin(&o, q, "patchify", ok, "y %dx%d, size %d, patch %d", y->rows, y->cols, size, patch) ||
        !b2_op_launch(&o))
        return;
    q->k[y->type]->patchify(q, y->p, pixels, batch, size, patch);
    b2_op_end(&o, y);
}

void b2_vit_embed(b2_queue *q, b2_tensor *x, const b2_tensor *patches, const b2_param *cls,
                  const b2_param *pos, int batch)
{
    b2_op o;
    const int n = batch ? patches->rows / batch : 0;
    const bool ok = x->rows == batch * (1 + n) && x->cols == patches->cols && b2_f32(x) && b2_f32(patches) &&
                    pos->rows == 1 + n && pos->cols == x->cols;
    if (!b2_op_begin(&o, q, "vit_embed", ok, "x %dx%d, patches %dx%d, positions %d", x->rows, x->cols,
                     patches->rows, patches->cols, pos->rows) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->vit_embed_fwd(q, x->p, patches->p, cls->p, pos->p, batch, n, x->cols);
    b2_op_end(&o, x);
}

void b2_vit_embed_bwd(b2_queue *q, b2_tensor *dpatches, const b2_param *cls, const b2_param *pos,
                      const b2_tensor *dx, int batch)
{
    b2_op o;
    const int n = batch ? dx->rows / batch - 1 : 0;
    if (!b2_op_begin(&o, q, "vit_embed_bwd", dpatches->rows == batch * n && dpatches->cols == dx->cols,
                     "dx %dx%d", dx->rows, dx->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->vit_embed_bwd(q, dpatches->p, cls->g, pos->g, dx->p, batch, n, dx->cols);
    b2_op_end(&o, dpatches);
}

void b2_tile(b2_queue *q, b2_tensor *y, const b2_param *x, int copies)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "tile", b2_is(y, copies * x->rows, x->cols) && b2_f32(y), "y %dx%d, x %dx%d",
                     y->rows, y->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->tile_fwd(q, y->p, x->p, copies, (int64_t)x->rows * x->cols);
    b2_op_end(&o, y);
}

void b2_tile_bwd(b2_queue *q, const b2_param *x, const b2_tensor *dy, int copies)
{
    b2_op o;
    if (!b2_op_begin(&o, q, "tile_bwd", b2_is(dy, copies * x->rows, x->cols), "dy %dx%d, x %dx%d", dy->rows,
                     dy->cols, x->rows, x->cols) ||
        !b2_op_launch(&o))
        return;
    q->k[B2_F32]->tile_bwd(q, x->g, dy->p, copies, (int64_t)x->rows * x->cols);
    b2_op_end(&o, NULL);
}
