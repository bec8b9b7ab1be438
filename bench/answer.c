/* Times a model folder's stages on random pixels: picture, encoder, each new token; one op profile of each.
 *
 *   answer MODEL [--images N] [--questions N] [--prompt N] [--new N] [--repeat N] [--threads N] [--dtype D]
 *          [--device D] [--profile]
 *
 * --images: pictures encoded at once; --questions: rows answered at once.
 *
 * Prints a table and one JSON line. Never passes or fails. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "bench/bench_profile.h"
#include "blip2.h"
#include "infer/session_core.h"

typedef struct options {
    const char *model, *dtype, *device;
    int images, questions, prompt, made, repeat, threads, profile;
} options;

typedef struct times {
    double image, prefill, token;
} times;

static void fill(blip2_session *s, const options *o)
{
    const int q = s->net->c.qf.queries, t = q + o->prompt;
    const int pixels = o->images * 3 * s->net->c.vit.image * s->net->c.vit.image;
    for (int i = 0; i < pixels; i++) s->pixels[i] = (float)((i * 37 + i / 7) % 200) / 100.0f - 1.0f;
    for (int b = 0; b < o->questions; b++) {
        for (int i = 0; i < t; i++)
            s->enc_ids[b * t + i] = i < q ? -1 - (b * q + i) : (3 + 7 * i) % s->net->c.t5.vocab;
        s->enc_len[b] = t;
        s->which[b] = -1;
    }
}

static double best(double a, double b) { return a < b ? a : b; }

static blip2_status round_of(blip2_session *s, const options *o, times *t, blip2_error *e)
{
    const int rows = s->net->c.qf.queries + o->prompt;
    fill(s, o);
    double at = bench_now();
    b2_session_images(s, s->pixels, o->images, -1, NULL);
    b2_session_fetch_tokens(s, o->images);
    B2_TRY(b2_queue_finish(&s->q, e));
    t->image = best(t->image, bench_now() - at);
    at = bench_now();
    b2_session_prefill(s, o->questions, rows);
    B2_TRY(b2_queue_finish(&s->q, e));
    t->prefill = best(t->prefill, bench_now() - at);
    at = bench_now();
    for (int i = 0; i < o->made; i++) {
        for (int b = 0; b < o->questions; b++) {
            s->ids[b] = 5 + i;
            s->pos[b] = i;
            s->seen[b] = i + 1;
            s->forbid[b] = -1;
        }
        b2_session_next(s, o->questions, rows, i);
        B2_TRY(b2_queue_finish(&s->q, e));
    }
    t->token = best(t->token, (bench_now() - at) / o->made);
    return BLIP2_OK;
}

static blip2_status run(const options *o, blip2_model *m, blip2_error *e)
{
    blip2_session_options so = BLIP2_SESSION_OPTIONS_INIT;
    blip2_session *s = NULL;
    bench_profile p = {.n = 0};
    times t = {1e30, 1e30, 1e30};
    struct rusage use;
    so.max_batch = o->questions;
    so.max_images = o->images;
    so.max_prompt_tokens = o->prompt;
    so.max_new_tokens = o->made;
    B2_TRY(blip2_session_open(m, &so, &s, e));
    blip2_status st = BLIP2_OK;
    for (int i = 0; i < o->repeat && st == BLIP2_OK; i++) st = round_of(s, o, &t, e);
    if (st == BLIP2_OK && o->profile) {
        s->q.trace = bench_on_op;
        s->q.trace_user = &p;
        st = round_of(s, o, &t, e);
    }
    blip2_session_close(s);
    if (st != BLIP2_OK) return st;
    getrusage(RUSAGE_SELF, &use);
    const double whole = t.image + t.prefill + o->made * t.token;
    printf("%s, %d picture%s, %d question%s of %d tokens: pictures %.2f ms, encoder %.2f ms, new token %.2f "
           "ms; %d tokens: "
           "%.2f ms, %.2f answers/s, resident at most %.1f MB\n",
           blip2_device_description(m->device), o->images, o->images == 1 ? "" : "s", o->questions,
           o->questions == 1 ? "" : "s", o->prompt, 1e3 * t.image, 1e3 * t.prefill, 1e3 * t.token, o->made,
           1e3 * whole, o->questions / whole, (double)use.ru_maxrss / 1024);
    if (o->profile) bench_print_profile(&p, m->device, m->act);
    printf("{\"bench\":\"answer\",\"device\":\"%s\",\"dtype\":\"%s\",\"images\":%d,\"questions\":%d,"
           "\"prompt\":%d,"
           "\"image_ms\":%.3f,\"encoder_ms\":%.3f,\"token_ms\":%.3f}\n",
           blip2_device_description(m->device), o->dtype, o->images, o->questions, o->prompt, 1e3 * t.image,
           1e3 * t.prefill, 1e3 * t.token);
    return BLIP2_OK;
}

static int parse(int argc, char **argv, options *o)
{
    static const struct option longs[] = {{"questions", 1, NULL, 'q'}, {"prompt", 1, NULL, 'p'},
                                          {"new", 1, NULL, 'n'},       {"repeat", 1, NULL, 'r'},
                                          {"threads", 1, NULL, 'j'},   {"dtype", 1, NULL, 'd'},
                                          {"device", 1, NULL, 'D'},    {"images", 1, NULL, 'i'},
                                          {"profile", 0, NULL, 'P'},   {NULL, 0, NULL, 0}};
    for (int k; (k = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (k == 'q')
            o->questions = atoi(optarg);
        else if (k == 'p')
            o->prompt = atoi(optarg);
        else if (k == 'n')
            o->made = atoi(optarg);
        else if (k == 'r')
            o->repeat = atoi(optarg);
        else if (k == 'j')
            o->threads = atoi(optarg);
        else if (k == 'd')
            o->dtype = optarg;
        else if (k == 'D')
            o->device = optarg;
        else if (k == 'i')
            o->images = atoi(optarg);
        else if (k == 'P')
            o->profile = 1;
        else
            return 0;
    }
    o->model = argv[optind];
    return o->model && o->images > 0 && o->questions > 0 && o->prompt > 0 && o->made > 0 && o->repeat > 0;
}

int main(int argc, char **argv)
{
    options o = {
        .dtype = "file", .device = "cpu", .images = 1, .questions = 1, .prompt = 16, .made = 8, .repeat = 3};
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_device_options d = BLIP2_DEVICE_OPTIONS_INIT;
    blip2_model_options mo = BLIP2_MODEL_OPTIONS_INIT;
    blip2_device *dev = NULL;
    blip2_model *m = NULL;
    if (!parse(argc, argv, &o))
        return fprintf(stderr,
                       "usage: %s MODEL [--images N] [--questions N] [--prompt N] [--new N] [--repeat N] "
                       "[--threads N] [--dtype D] [--device D] [--profile]\n",
                       argv[0]),
               2;
    d.threads = o.threads;
    blip2_status s = blip2_dtype_parse(o.dtype, &mo.dtype, &e);
    if (!s) s = blip2_device_open(o.device, &d, &dev, &e);
    if (!s) s = blip2_model_open(dev, o.model, &mo, &m, &e);
    if (!s) s = run(&o, m, &e);
    if (s) fprintf(stderr, "%s\n", e.text);
    blip2_model_close(m);
    blip2_device_close(dev);
    return s != BLIP2_OK;
}
