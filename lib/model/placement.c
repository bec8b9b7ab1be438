/* Weights and adapters where the kernels run. On the host they stay where they are; a GPU gets one block,
 * the blocks of a linear side by side, so that one product can read them all. */
#include <stdlib.h>
#include "model/lora.h"
#include "model/model.h"

enum { APART = 256 }; /* every tensor begins on a multiple */

static size_t apart(size_t n) { return (n + APART - 1) / APART * APART; }

static size_t weight_bytes(const b2_param *p) { return (size_t)p->rows * b2_row_bytes(p->type, p->cols); }
static size_t scale_bytes(const b2_param *p) { return (size_t)p->rows * b2_scale_bytes(p->type, p->cols); }
static size_t bytes_of(const b2_param *p) { return apart(weight_bytes(p)) + apart(scale_bytes(p)); }

/* Order of the upload: the refs, but all blocks of a linear where its first one stands. */
static int *upload_order(const b2_net *n)
{
    int *order = malloc((size_t)n->refs * sizeof *order), at = 0;
    for (int i = 0; order && i < n->refs; i++) {
        const b2_linear *l = n->ref[i].linear;
        bool first = true;
        for (int k = 0; k < i; k++) first = first && !(l && n->ref[k].linear == l);
        if (!l) order[at++] = i;
        for (int b = 0; l && first && b < l->n; b++) {
            for (int k = i; k < n->refs; k++) {
                if (n->ref[k].linear == l && n->ref[k].block == b) order[at++] = k;
            }
        }
    }
    return order;
}

/* The head that is the embedding's twin needs no bytes of its own. */
static bool tied_head(const b2_net *n, int i)
{
    return n->ref[i].linear == &n->head && n->ref[i].param->p == n->shared.p;
}

static blip2_status upload_all(blip2_model *m, const int *order, blip2_error *e)
{
    b2_queue q;
    char *to = m->block;
    b2_queue_init(&q, m->device, NULL, NULL);
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param *from = m->net->ref[order[i]].param;
        if (!from->p || tied_head(m->net, order[i])) continue;
        b2_param *run = m->run->ref[order[i]].param;
        b2_upload(&q, to, from->p, weight_bytes(from));
        run->p = to;
        to += apart(weight_bytes(from));
        if (!from->scale) continue;
        b2_upload(&q, to, from->scale, scale_bytes(from));
        run->scale = to;
        to += apart(scale_bytes(from));
    }
    if (m->net->head.w[0].p == m->net->shared.p) m->run->head.w[0] = m->run->shared;
    const blip2_status s = b2_queue_finish(&q, e);
    b2_queue_close(&q);
    return s;
}

blip2_status b2_model_place(blip2_model *m, blip2_error *e)
{
    m->run = m->net;
    if (b2_device_is_host(m->device)) return BLIP2_OK;
    m->run = NULL;
    B2_TRY(b2_net_new(&m->run, &m->config, e));
    b2_net_view(m->run, m->net);
    for (int i = 0; i < m->net->refs; i++) {
        const b2_param *p = m->net->ref[i].param;
        if (p->p && !tied_head(m->net, i)) m->block_bytes += bytes_of(p);
    }
    B2_TRY(b2_device_room(m->device, m->block_bytes, "the model's weights", e));
    m->block = b2_account_alloc(&m->device->memory, m->block_bytes);
    if (!m->block)
        return b2_fail(e, BLIP2_ERR_MEMORY, "%s: out of GPU memory for %zu bytes of weights", m->dir,
                       m->block_bytes);
    m->weight_bytes = m->block_bytes;
    int *order = upload_order(m->net);
    const blip2_status s = order ? upload_all(m, order, e) : B2_NOMEM(e, "an order of weights");
    free(order);
    return s;
}

void b2_model_unplace(blip2_model *m)
{
    if (m->run != m->net) b2_net_free(m->run);
    b2_account_free(&m->device->memory, m->block, m->block_bytes);
    m->run = NULL;
    m->block = NULL;
}

blip2_status b2_adapter_place(blip2_adapter *a, blip2_error *e)
{
    blip2_device *d = a->model->device;
    const size_t bytes = (size_t)a->parameters * sizeof(float);
    b2_queue q;
    a->run = a->data;
    if (b2_device_is_host(d)) return BLIP2_OK;
    a->run = b2_account_alloc(&d->memory, bytes);
    if (!a->run) return b2_fail(e, BLIP2_ERR_MEMORY, "out of GPU memory for %zu bytes of an adapter", bytes);
    b2_queue_init(&q, d, NULL, NULL);
    b2_upload(&q, a->run, a->data, bytes);
    const blip2_status s = b2_queue_finish(&q, e);
    b2_queue_close(&q);
    return s;
}

void b2_adapter_unplace(blip2_adapter *a)
{
    if (a->run != a->data)
        b2_account_free(&a->model->device->memory, a->run, (size_t)a->parameters * sizeof(float));
    a->run = NULL;
}
