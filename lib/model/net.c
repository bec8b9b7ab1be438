/* Building the tree of layers with every tensor's name and shape (names: modeling_blip_2.py,
 * modeling_t5.py). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/net.h"
#include "model/tape.h"

typedef struct builder {
    b2_net *net;
    int cap;
    uint32_t site;
    b2_part part;
    char prefix[80];
    bool failed;
} builder;

static void at(builder *b, const char *fmt, ...) B2_PRINTF(2, 3);
static void at(builder *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->prefix, sizeof b->prefix, fmt, ap);
    va_end(ap);
}

static b2_param_ref *add(builder *b, b2_param *p, const char *leaf, int rows, int cols)
{
    b2_net *n = b->net;
    if (n->refs == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 512;
        b2_param_ref *grown = realloc(n->ref, (size_t)b->cap * sizeof *grown);
        if (!grown) {
            b->failed = true;
            b->cap = n->refs;
            return NULL;
        }
        n->ref = grown;
    }
    b2_param_ref *r = &n->ref[n->refs++];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s%s", b->prefix, leaf);
    *p = (b2_param){NULL, B2_F32, rows, cols, NULL, NULL};
    r->param = p;
    r->part = b->part;
    r->rank = rows == 1 ? 1 : 2;
    r->shape[0] = rows == 1 ? cols : rows;
    r->shape[1] = cols;
    return r;
}

/* A parameter whose shape in the file has more dimensions than the view. */
static void add_shaped(builder *b, b2_param *p, const char *leaf, int rows, int cols, int rank, int64_t s0,
                       int64_t s1, int64_t s2, int64_t s3)
{
    b2_param_ref *r = add(b, p, leaf, rows, cols);
    if (!r) return;
    const int64_t shape[4] = {s0, s1, s2, s3};
    r->rank = rank;
    memcpy(r->shape, shape, sizeof shape);
}

/* Block i of a linear; leaf without ".weight". */
static void linear(builder *b, b2_linear *l, const char *leaf, int out, int in, bool bias)
{
    char name[64];
    const int i = l->n++;
    snprintf(name, sizeof name, "%s.weight", leaf);
    b2_param_ref *r = add(b, &l->w[i], name, out, in);
    if (r) {
        r->rank = 2;
        r->shape[0] = out;
        r->shape[1] = in;
        r->linear = l;
        r->block = i;
        r->matrix = true;
    }
    if (!bias) return;
    snprintf(name, sizeof name, "%s.bias", leaf);
    add(b, &l->b[i], name, 1, out);
}

static void norm(builder *b, b2_norm *n, const char *leaf, int cols, float eps, bool bias)
{
    char name[64];
    n->eps = eps;
    snprintf(name, sizeof name, "%s.weight", leaf);
    add(b, &n->w, name, 1, cols);
    if (!bias) return;
    snprintf(name, sizeof name, "%s.bias", leaf);
    add(b, &n->b, name, 1, cols);
}

static void build_vit(builder *b)
{
    b2_net *n = b->net;
    const int c = n->c.vit.hidden, f = n->c.vit.inter, p = n->c.vit.patch, t = b2_config_vit_tokens(&n->c);
    b->part = B2_PART_VIT;
    at(b, "vision_model.embeddings.");
    add_shaped(b, &n->vit.cls, "class_embedding", 1, c, 3, 1, 1, c, 0);
    add_shaped(b, &n->vit.pos, "position_embedding", t, c, 3, 1, t, c, 0);
    linear(b, &n->vit.patch, "patch_embedding", c, 3 * p * p, true);
    for (int i = 0; i < n->refs; i++) {
        if (n->ref[i].linear != &n->vit.patch) continue;
        n->ref[i].rank = 4;
        n->ref[i].shape[1] = 3;
        n->ref[i].shape[2] = n->ref[i].shape[3] = p;
    }
    for (int i = 0; i < n->c.vit.layers; i++) {
        b2_vit_layer *l = &n->vit.layer[i];
        at(b, "vision_model.encoder.layers.%d.", i);
        norm(b, &l->ln1, "layer_norm1", c, n->c.vit.eps, true);
        linear(b, &l->attn.qkv, "self_attn.qkv", 3 * c, c, n->c.vit.qkv_bias);
        linear(b, &l->attn.o, "self_attn.projection", c, c, true);
        norm(b, &l->ln2, "layer_norm2", c, n->c.vit.eps, true);
        linear(b, &l->mlp.up, "mlp.fc1", f, c, true);
        linear(b, &l->mlp.down, "mlp.fc2", c, f, true);
        l->attn.heads = n->c.vit.heads;
        l->attn.dim = c / n->c.vit.heads;
        l->attn.scale = (float)pow((double)l->attn.dim, -0.5);
        l->mlp.fn = n->c.vit.act;
    }
    at(b, "vision_model.");
    norm(b, &n->vit.post, "post_layernorm", c, n->c.vit.eps, true);
}

static void qf_attention(builder *b, b2_mha *m, const char *kind, int h, int kv_in)
{
    char name[64];
    b2_linear *kv = kv_in ? &m->kv : &m->qkv;
    static const char *const part[3] = {"query", "key", "value"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.attention.%s", kind, part[i]);
        linear(b, i ? kv : &m->qkv, name, h, i && kv_in ? kv_in : h, true);
    }
    snprintf(name, sizeof name, "%s.output.dense", kind);
    linear(b, &m->o, name, h, h, true);
    m->heads = b->net->c.qf.heads;
    m->dim = h / m->heads;
    m->scale = (float)(1.0 / sqrt((double)m->dim));
    m->site = b->site++;
}

static void build_qformer(builder *b)
{
    b2_net *n = b->net;
    const int h = n->c.qf.hidden, f = n->c.qf.inter;
    const float eps = n->c.qf.eps;
    b->part = B2_PART_QFORMER;
    at(b, "%s", "");
    add_shaped(b, &n->qf.query, "query_tokens", n->c.qf.queries, h, 3, 1, n->c.qf.queries, h, 0);
    at(b, "qformer.");
    norm(b, &n->qf.ln, "layernorm", h, eps, true);
    n->qf.site = b->site++;
    for (int i = 0; i < n->c.qf.layers; i++) {
        b2_qf_layer *l = &n->qf.layer[i];
        at(b, "qformer.encoder.layer.%d.", i);
        qf_attention(b, &l->self, "attention", h, 0);
        norm(b, &l->ln_self, "attention.output.LayerNorm", h, eps, true);
        l->has_cross = i % n->c.qf.cross_every == 0;
        if (l->has_cross) {
            qf_attention(b, &l->cross, "crossattention", h, n->c.vit.hidden);
            norm(b, &l->ln_cross, "crossattention.output.LayerNorm", h, eps, true);
        }
        linear(b, &l->ff.up, "intermediate_query.dense", f, h, true);
        linear(b, &l->ff.down, "output_query.dense", h, f, true);
        norm(b, &l->ln_ff, "output_query.LayerNorm", h, eps, true);
        l->ff.fn = n->c.qf.act;
        l->site = b->site;
        b->site += 3;
    }
    b->part = B2_PART_PROJECTION;
    at(b, "%s", "");
    linear(b, &n->proj, "language_projection", n->c.t5.d, h, true);
}

static void t5_attention(builder *b, b2_mha *m, const char *leaf, bool cross)
{
    char name[64];
    const b2_config *c = &b->net->c;
    const int inner = c->t5.heads * c->t5.dkv;
    static const char *const part[3] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.%s", leaf, part[i]);
        linear(b, i && cross ? &m->kv : &m->qkv, name, inner, c->t5.d, false);
    }
    snprintf(name, sizeof name, "%s.o", leaf);
    linear(b, &m->o, name, c->t5.d, inner, false);
    m->heads = c->t5.heads;
    m->dim = c->t5.dkv;
    m->scale = 1.0f;
    m->site = b->site++;
}

static void t5_feed_forward(builder *b, b2_mlp *m, int index)
{
    char name[64];
    const b2_config *c = &b->net->c;
    for (int i = 0; i < (c->t5.gated ? 2 : 1); i++) {
        snprintf(name, sizeof name,
                 c->t5.gated ? "layer.%d.DenseReluDense.wi_%d" : "layer.%d.DenseReluDense.wi", index, i);
        linear(b, &m->up, name, c->t5.ff, c->t5.d, false);
    }
    snprintf(name, sizeof name, "layer.%d.DenseReluDense.wo", index);
    linear(b, &m->down, name, c->t5.d, c->t5.ff, false);
    m->fn = c->t5.act;
    m->gated = c->t5.gated;
    m->site = b->site++;
}

static void build_stack(builder *b, b2_t5_stack *s, const char *kind)
{
    const b2_config *c = &b->net->c;
    s->site = b->site;
    b->site += 2;
    for (int i = 0; i < s->layers; i++) {
        b2_t5_layer *l = &s->layer[i];
        at(b, "language_model.%s.block.%d.", kind, i);
        t5_attention(b, &l->self, "layer.0.SelfAttention", false);
        if (i == 0)
            add(b, &s->relbias, "layer.0.SelfAttention.relative_attention_bias.weight", c->t5.buckets,
                c->t5.heads);
        norm(b, &l->ln_self, "layer.0.layer_norm", c->t5.d, c->t5.eps, false);
        if (s->decoder) {
            t5_attention(b, &l->cross, "layer.1.EncDecAttention", true);
            norm(b, &l->ln_cross, "layer.1.layer_norm", c->t5.d, c->t5.eps, false);
        }
        t5_feed_forward(b, &l->ff, s->decoder ? 2 : 1);
        norm(b, &l->ln_ff, s->decoder ? "layer.2.layer_norm" : "layer.1.layer_norm", c->t5.d, c->t5.eps,
             false);
        l->site = b->site;
        b->site += 3;
    }
    at(b, "language_model.%s.", kind);
    norm(b, &s->final, "final_layer_norm", c->t5.d, c->t5.eps, false);
}

static void build(builder *b)
{
    b2_net *n = b->net;
    build_vit(b);
    build_qformer(b);
    b->part = B2_PART_T5;
    at(b, "language_model.");
    b2_param_ref *shared = add(b, &n->shared, "shared.weight", n->c.t5.vocab, n->c.t5.d);
    if (shared) shared->matrix = true;
    build_stack(b, &n->enc, "encoder");
    build_stack(b, &n->dec, "decoder");
    at(b, "language_model.");
    linear(b, &n->head, "lm_head", n->c.t5.vocab, n->c.t5.d, false);
}

blip2_status b2_net_new(b2_net **out, const b2_config *c, blip2_error *e)
{
    b2_net *n = calloc(1, sizeof *n);
    if (!n) return B2_NOMEM(e, "a model's layers");
    n->c = *c;
    n->vit.layer = calloc((size_t)c->vit.layers, sizeof *n->vit.layer);
    n->qf.layer = calloc((size_t)c->qf.layers, sizeof *n->qf.layer);
    n->enc = (b2_t5_stack){.layer = calloc((size_t)c->t5.enc_layers, sizeof(b2_t5_layer)),
                           .layers = c->t5.enc_layers};
    n->dec = (b2_t5_stack){.layer = calloc((size_t)c->t5.dec_layers, sizeof(b2_t5_layer)),
                           .layers = c->t5.dec_layers,
                           .decoder = true};
    n->tape = b2_tape_new(c);
    builder b = {.net = n, .site = 1};
    if (n->vit.layer && n->qf.layer && n->enc.layer && n->dec.layer && n->tape)
        build(&b);
    else
        b.failed = true;
    if (b.failed) {
        b2_net_free(n);
        return B2_NOMEM(e, "a model's layers");
    }
    *out = n;
    return BLIP2_OK;
}

void b2_net_free(b2_net *n)
{
    if (!n) return;
    b2_tape_free(n->tape);
    free(n->vit.layer);
    free(n->qf.layer);
    free(n->enc.layer);
    free(n->dec.layer);
    free(n->ref);
    free(n->slots);
    free(n);
}

void b2_net_view(b2_net *dst, const b2_net *src)
{
    for (int i = 0; i < dst->refs && i < src->refs; i++) {
        *dst->ref[i].param = *src->ref[i].param;
        dst->ref[i].param->g = NULL;
    }
}

int b2_net_find(const b2_net *n, const char *name)
{
    for (int i = 0; i < n->refs; i++) {
        if (strcmp(n->ref[i].name, name) == 0) return i;
    }
    return -1;
}

static void stack_dropout(b2_t5_stack *s, float p)
{
    s->drop = p;
    for (int i = 0; i < s->layers; i++)
        s->layer[i].self.drop = s->layer[i].cross.drop = s->layer[i].ff.drop = p;
}

void b2_net_set_dropout(b2_net *n, float t5, float qf_hidden, float qf_attn)
{
    stack_dropout(&n->enc, t5);
    stack_dropout(&n->dec, t5);
    n->qf.drop = qf_hidden;
    for (int i = 0; i < n->c.qf.layers; i++) n->qf.layer[i].self.drop = n->qf.layer[i].cross.drop = qf_attn;
}

bool b2_net_image_trains(const b2_net *n)
{
    for (int i = 0; i < n->refs; i++) {
        const b2_param_ref *r = &n->ref[i];
        if (r->part != B2_PART_T5 && (r->param->g || (r->linear && b2_linear_trains(r->linear)))) return true;
    }
    return false;
}
