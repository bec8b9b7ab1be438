/* Times training steps and answers of a model folder, by stage and by op, on random input.
 *
 *   train_step MODEL [--train all|qformer|lora|lora-cached] [--batch N] [--prompt N] [--answer N] [--steps N]
 *              [--threads N] [--dtype D] [--profile]
 *
 * Prints a table and one JSON line. Never passes or fails. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench/bench_profile.h"
#include "blip2.h"
#include "model/forward.h"
#include "model/lora.h"
#include "model/model.h"

typedef struct options {
    const char *model, *train, *dtype;
    int batch, prompt, answer, steps, threads, profile;
} options;

/* Gradients for everything, for the Q-Former and the projection, or for LoRA on q and v. */
static int attach(b2_net *n, const char *what, blip2_error *e)
{
    int *refs = NULL, count = 0;
    if (strncmp(what, "lora", 4) == 0) {
        if (b2_lora_select(n, "q,v", &refs, &count, e) || b2_lora_slots(n, refs, count, e)) return 0;
        for (int i = 0; i < count; i++) {
            const b2_param *w = n->ref[refs[i]].param;
            b2_lora_slot *s = &n->slots[i];
            s->ab[0] =
                (b2_lora_ab){calloc((size_t)(8 * w->cols), 4), calloc((size_t)(8 * w->rows), 4), 8, 4.0f};
            s->ga = calloc((size_t)(8 * w->cols), 4);
            s->gb = calloc((size_t)(8 * w->rows), 4);
            s->n = 1;
            s->drop = 0.05f;
        }
        free(refs);
        return 1;
    }
    for (int i = 0; i < n->refs; i++) {
        b2_param_ref *r = &n->ref[i];
        if (strcmp(what, "all") && r->part != B2_PART_QFORMER && r->part != B2_PART_PROJECTION) continue;
        r->param->g = calloc((size_t)r->param->rows * (size_t)r->param->cols, 4);
    }
    return 1;
}

static int32_t *ids(int n, int vocab, int first, int per_item, int queries)
{
    int32_t *x = malloc((size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) {
        const int t = i % per_item, b = i / per_item;
        x[i] = t < queries ? -1 - (b * queries + t) : (first + 7 * i) % vocab;
    }
    return x;
}

static blip2_status plan(const b2_pass *p, const b2_net *n, const b2_batch *b, b2_arena *scratch,
                         b2_arena *save, blip2_error *e)
{
    double loss = 0;
    b2_arena_dry(scratch);
    b2_arena_dry(save);
    p->q->dry = true;
    b2_train_pass(p, n, b, &loss, false);
    p->q->dry = false;
    B2_TRY(b2_queue_finish(p->q, e));
    B2_TRY(b2_arena_init(scratch, scratch->peak, NULL, e));
    return b2_arena_init(save, save->peak, NULL, e);
}

static blip2_status run(const options *o, blip2_model *m, blip2_error *e)
{
    const b2_config *c = &m->config;
    b2_net *n = NULL;
    b2_queue q;
    b2_step step = {.seed = 1};
    b2_arena scratch, save;
    bench_profile prof = {.n = 0};
    const int q_n = c->qf.queries, tenc = q_n + o->prompt, tdec = o->answer;
    uint64_t *sample = calloc((size_t)o->batch, sizeof *sample);
    int32_t *len = malloc((size_t)o->batch * sizeof *len);
    for (int i = 0; i < o->batch; i++) len[i] = tenc;
    float *pixels = calloc((size_t)o->batch * 3 * (size_t)(c->vit.image * c->vit.image), 4),
          *features = calloc((size_t)(o->batch * q_n * c->t5.d), 4);
    b2_batch b = {.batch = o->batch,
                  .tenc = tenc,
                  .tdec = tdec,
                  .enc_ids = ids(o->batch * tenc, c->t5.vocab, 3, tenc, q_n),
                  .enc_len = len,
                  .dec_ids = ids(o->batch * tdec, c->t5.vocab, 5, tdec, 0),
                  .labels = ids(o->batch * tdec, c->t5.vocab, 12, tdec, 0)};
    if (strcmp(o->train, "lora-cached") == 0)
        b.features = features;
    else
        b.pixels = pixels;
    step.sample = sample;
    B2_TRY(b2_net_new(&n, c, e));
    b2_net_view(n, m->net);
    if (!attach(n, o->train, e)) return BLIP2_ERR_CONFIG;
    b2_net_set_dropout(n, c->t5.drop, strncmp(o->train, "lora", 4) ? c->qf.drop : 0,
                       strncmp(o->train, "lora", 4) ? c->qf.attn_drop : 0);
    b2_queue_init(&q, m->device, &scratch, &step);
    const b2_pass p = {.q = &q, .act = m->act, .save = &save};
    B2_TRY(plan(&p, n, &b, &scratch, &save, e));
    double best = 1e30, loss = 0;
    for (int i = 0; i <= o->steps; i++) {
        if (i == o->steps && o->profile) {
            q.trace = bench_on_op;
            q.trace_user = &prof;
        }
        const double t = bench_now();
        b2_train_pass(&p, n, &b, &loss, false);
        B2_TRY(b2_queue_finish(&q, e));
        if (i && bench_now() - t < best) best = bench_now() - t;
    }
    printf("%s, %s, batch %d, %d + %d tokens, answer %d: %.2f ms a step, %.1f samples/s, saved %.1f MB, "
           "scratch %.1f MB\n",
           blip2_device_description(m->device), o->train, o->batch, q_n, o->prompt, tdec, 1e3 * best,
           o->batch / best, (double)save.cap / 1e6, (double)scratch.cap / 1e6);
    if (o->profile) bench_print_profile(&prof, m->device, m->act);
    printf("{\"bench\":\"step\",\"device\":\"%s\",\"train\":\"%s\",\"batch\":%d,\"prompt\":%d,\"answer\":%d,"
           "\"ms\":%.3f,\"samples_per_s\":%.2f}\n",
           blip2_device_description(m->device), o->train, o->batch, o->prompt, tdec, 1e3 * best,
           o->batch / best);
    return BLIP2_OK;
}

static int parse(int argc, char **argv, options *o)
{
    static const struct option longs[] = {
        {"train", 1, NULL, 't'},  {"batch", 1, NULL, 'b'},   {"prompt", 1, NULL, 'p'},
        {"answer", 1, NULL, 'a'}, {"steps", 1, NULL, 's'},   {"threads", 1, NULL, 'j'},
        {"dtype", 1, NULL, 'd'},  {"profile", 0, NULL, 'P'}, {NULL, 0, NULL, 0}};
    for (int k; (k = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (k == 't')
            o->train = optarg;
        else if (k == 'b')
            o->batch = atoi(optarg);
        else if (k == 'p')
            o->prompt = atoi(optarg);
        else if (k == 'a')
            o->answer = atoi(optarg);
        else if (k == 's')
            o->steps = atoi(optarg);
        else if (k == 'j')
            o->threads = atoi(optarg);
        else if (k == 'd')
            o->dtype = optarg;
        else if (k == 'P')
            o->profile = 1;
        else
            return 0;
    }
    o->model = argv[optind];
    return o->model && o->batch > 0 && o->prompt > 0 && o->answer > 0 && o->steps > 0;
}

int main(int argc, char **argv)
{
    options o = {.train = "all", .dtype = "file", .batch = 64, .prompt = 8, .answer = 10, .steps = 5};
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_device_options d = BLIP2_DEVICE_OPTIONS_INIT;
    blip2_model_options mo = BLIP2_MODEL_OPTIONS_INIT;
    blip2_device *dev = NULL;
    blip2_model *m = NULL;
    if (!parse(argc, argv, &o))
        return fprintf(stderr,
                       "usage: %s MODEL [--train all|qformer|lora|lora-cached] [--batch N] [--prompt N] "
                       "[--answer N] [--steps N] "
                       "[--threads N] [--dtype D] [--profile]\n",
                       argv[0]),
               2;
    d.threads = o.threads;
    blip2_status s = blip2_dtype_parse(o.dtype, &mo.dtype, &e);
    if (!s) s = blip2_device_open("cpu", &d, &dev, &e);
    if (!s) s = blip2_model_open(dev, o.model, &mo, &m, &e);
    if (!s) s = run(&o, m, &e);
    if (s) fprintf(stderr, "%s\n", e.text);
    blip2_model_close(m);
    blip2_device_close(dev);
    return s != BLIP2_OK;
}
