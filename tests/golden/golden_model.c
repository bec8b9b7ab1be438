/* Tiny models against transformers (README.md here): every stage, teacher-forced logits through the KV
 * cache, greedy tokens, the loss and every gradient; the same with PEFT's adapter. 1e-4 of each tensor's
 * largest value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"
#include "io/safetensors.h"
#include "tests/unit/unit.h"

#define LIMIT 1e-4

typedef struct rig {
    const char *name;
    blip2_device *dev;
    blip2_model *model;
    blip2_session *session;
    blip2_adapter *adapter;
    b2_st_set *golden;
    blip2_features *feats[2];
    int rows, prompt, answer; /* golden's batch */
    struct {
        void *p;
        size_t bytes;
    } block[2048]; /* where the kernels run */
    int blocks;
} rig;

static char *path_of(const char *name, const char *leaf)
{
    static char path[512];
    const char *root = getenv("GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/%s%s%s", root ? root : "tests/golden", name, leaf ? "/" : "",
             leaf ? leaf : "");
    return path;
}

static const b2_st_tensor *find(const rig *k, const char *name)
{
    const b2_st_tensor *t = b2_st_find(k->golden, name);
    if (!t) fail_msg("golden tensor %s is missing", name);
    return t;
}

static int64_t i64(const b2_st_tensor *t, int64_t i)
{
    int64_t v;
    memcpy(&v, t->data + 8 * i, 8);
    return v;
}

static float f32(const b2_st_tensor *t, int64_t i)
{
    float v;
    memcpy(&v, t->data + 4 * i, 4);
    return v;
}

static double largest(const b2_st_tensor *t)
{
    double m = 0;
    for (int64_t i = 0; i < (int64_t)t->bytes / 4; i++) m = fmax(m, fabs((double)f32(t, i)));
    return m;
}

/* got[i] against golden element first+i; scale: the tensor's largest value, or more. */
static double error_of(const b2_st_tensor *t, int64_t first, int64_t n, const float *got, double scale)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        worst = fmax(worst, fabs((double)got[i] - f32(t, first + i)) / scale);
    }
    return worst;
}

static void expect(const rig *k, const char *name, int64_t first, int64_t n, const float *got)
{
    const b2_st_tensor *t = find(k, name);
    assert_true(first + n <= (int64_t)t->bytes / 4);
    const double err = error_of(t, first, n, got, largest(t));
    if (err > LIMIT)
        fail_msg("%s: %s differs by %.3g of its largest value (at most %g)", k->name, name, err, LIMIT);
}

/* Zeroed memory where the kernels run, until rig_close. */
static void *room(rig *k, size_t bytes)
{
    void *p = b2_account_alloc(&k->dev->memory, bytes);
    assert_non_null(p);
    assert_true(k->blocks < (int)(sizeof k->block / sizeof k->block[0]));
    k->block[k->blocks].p = p;
    k->block[k->blocks++].bytes = bytes;
    return p;
}

static void *put(rig *k, const void *host, size_t bytes)
{
    void *p = room(k, bytes);
    b2_upload(&k->session->q, p, host, bytes);
    return p;
}

/* A copy of n floats; free(). */
static float *get(const rig *k, const void *p, int64_t n)
{
    blip2_error e = BLIP2_ERROR_INIT;
    float *host = malloc((size_t)n * sizeof *host);
    b2_download(&k->session->q, host, p, (size_t)n * sizeof *host);
    if (b2_queue_finish(&k->session->q, &e)) fail_msg("%s", e.text);
    return host;
}

static void rig_open(rig *k, const char *name, bool adapter)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_model_options mo = BLIP2_MODEL_OPTIONS_INIT;
    blip2_session_options o = BLIP2_SESSION_OPTIONS_INIT;
    memset(k, 0, sizeof *k);
    k->name = name;
    mo.dtype = BLIP2_DTYPE_F32;
    if (blip2_device_open(unit_device(), NULL, &k->dev, &e)) fail_msg("%s", e.text);
    char *model = strdup(path_of(name, "model"));
    if (blip2_model_open(k->dev, model, &mo, &k->model, &e)) fail_msg("%s", e.text);
    free(model);
    if (b2_st_open_file(&k->golden, path_of(name, "golden.safetensors"), &e)) fail_msg("%s", e.text);
    if (adapter && blip2_adapter_open(k->model, path_of(name, "adapter"), &k->adapter, &e))
        fail_msg("%s", e.text);
    const b2_st_tensor *ids = find(k, "input_ids"), *labels = find(k, "labels");
    k->rows = (int)ids->shape[0];
    k->prompt = (int)ids->shape[1];
    k->answer = (int)labels->shape[1];
    o.max_batch = k->rows;
    o.max_new_tokens = k->answer > 12 ? k->answer : 12;
    o.max_images = 2;
    o.adapters = &k->adapter;
    o.n_adapters = adapter;
    if (blip2_session_open(k->model, &o, &k->session, &e)) fail_msg("%s", e.text);
}

static void rig_close(rig *k)
{
    blip2_features_close(k->feats[0]);
    blip2_features_close(k->feats[1]);
    while (k->blocks-- > 0)
        b2_account_free(&k->dev->memory, k->block[k->blocks].p, k->block[k->blocks].bytes);
    blip2_session_close(k->session);
    blip2_adapter_close(k->adapter);
    blip2_model_close(k->model);
    blip2_device_close(k->dev);
    b2_st_close(k->golden);
}

/* Both pictures as the model takes them: from their files, or golden's own in a build without decoders. */
static void load_pictures(rig *k, float *pixels, size_t each)
{
#if B2_WITH_IMAGE
    blip2_error e = BLIP2_ERROR_INIT;
    static const char *const files[2] = {"a.png", "b.png"};
    for (int i = 0; i < 2; i++) {
        blip2_image img;
        if (blip2_image_load(&img, path_of("images", files[i]), &e)) fail_msg("%s", e.text);
        if (b2_preprocess_run(&k->model->prep, &img, pixels + (size_t)i * each, &e)) fail_msg("%s", e.text);
        blip2_image_free(&img);
    }
    expect(k, "pixel_values", 0, 2 * (int64_t)each, pixels);
#else
    memcpy(pixels, find(k, "pixel_values")->data, 2 * each * sizeof(float));
#endif
}

/* Every stage of the image side compared, for both pictures. */
static void encode_pictures(rig *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    const b2_config *c = &k->model->config;
    const size_t each = 3 * (size_t)(c->vit.image * c->vit.image), tokens = (size_t)(c->qf.queries * c->t5.d);
    const int64_t n_vit = 2 * (int64_t)b2_config_vit_tokens(c) * c->vit.hidden,
                  n_qf = 2 * (int64_t)c->qf.queries * c->qf.hidden, n_proj = 2 * (int64_t)tokens;
    const b2_taps taps = {.vit = room(k, (size_t)n_vit * 4),
                          .qformer = room(k, (size_t)n_qf * 4),
                          .projection = room(k, (size_t)n_proj * 4)};
    load_pictures(k, k->session->pixels, each);
    b2_session_images(k->session, k->session->pixels, 2, -1, &taps);
    b2_session_fetch_tokens(k->session, 2);
    float *vit = get(k, taps.vit, n_vit), *qf = get(k, taps.qformer, n_qf),
          *proj = get(k, taps.projection, n_proj);
    expect(k, "vit", 0, n_vit, vit);
    expect(k, "qformer", 0, n_qf, qf);
    expect(k, "projection", 0, n_proj, proj);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            b2_features_from(proj + (size_t)i * tokens, c->qf.queries, c->t5.d, &k->feats[i], &e), BLIP2_OK);
    free(vit);
    free(qf);
    free(proj);
}

static int prompt_of(const rig *k, int row, int32_t *ids)
{
    int n = 0;
    for (int i = 0; i < k->prompt; i++) {
        if (i64(find(k, "attention_mask"), (int64_t)row * k->prompt + i))
            ids[n++] = (int32_t)i64(find(k, "input_ids"), (int64_t)row * k->prompt + i);
    }
    return n;
}

static int label_of(const rig *k, int row, int t)
{
    return (int)i64(find(k, "labels"), (int64_t)row * k->answer + t);
}

/* Encoder rows of the session for the whole ragged batch; returns the padded length. */
static int prefill(rig *k, int adapter)
{
    blip2_error e = BLIP2_ERROR_INIT;
    const b2_config *c = &k->model->config;
    blip2_session *s = k->session;
    const int t = c->qf.queries + k->prompt;
    for (int b = 0; b < k->rows; b++) {
        int32_t text[256];
        const int n = prompt_of(k, b, text);
        memset(s->enc_ids + b * t, 0, (size_t)t * sizeof(int32_t));
        s->enc_len[b] = b2_encoder_ids(c, text, n, b * c->qf.queries, s->enc_ids + b * t);
        s->which[b] = adapter;
        memcpy(s->feats + b * c->qf.queries * c->t5.d, k->feats[i64(find(k, "image_index"), b)]->data,
               (size_t)(c->qf.queries * c->t5.d) * sizeof(float));
    }
    b2_session_prefill(s, k->rows, t);
    if (b2_queue_finish(&s->q, &e)) fail_msg("%s", e.text);
    return t;
}

static void forced_logits(rig *k, int t, const char *name)
{
    blip2_session *s = k->session;
    const int vocab = k->model->config.t5.vocab;
    for (int at = 0; at < k->answer; at++) {
        for (int b = 0; b < k->rows; b++) {
            const int id = at ? label_of(k, b, at - 1) : k->model->config.t5.start;
            s->ids[b] = id < 0 ? 0 : id;
            s->pos[b] = at;
            s->seen[b] = at + 1;
        }
        b2_session_decode(s, k->rows, t, at);
        float *logits = get(k, s->logits.p, (int64_t)k->rows * vocab);
        for (int b = 0; b < k->rows; b++) {
            if (label_of(k, b, at) >= 0)
                expect(k, name, ((int64_t)b * k->answer + at) * vocab, vocab,
                       logits + (size_t)b * (size_t)vocab);
        }
        free(logits);
    }
}

static void greedy(rig *k)
{
    blip2_error e = BLIP2_ERROR_INIT;
    blip2_request r[8];
    blip2_answer a[8];
    int32_t ids[8][256];
    for (int b = 0; b < k->rows; b++) {
        r[b] = (blip2_request)BLIP2_REQUEST_INIT;
        r[b].features = k->feats[i64(find(k, "image_index"), b)];
        r[b].prompt_ids = ids[b];
        r[b].prompt_count = prompt_of(k, b, ids[b]);
        r[b].max_new_tokens = 12;
    }
    if (blip2_session_generate(k->session, r, k->rows, a, &e)) fail_msg("%s", e.text);
    for (int b = 0; b < k->rows; b++) {
        const int n = (int)i64(find(k, "generated_count"), b);
        assert_int_equal(a[b].count, n);
        for (int i = 0; i < n; i++)
            assert_int_equal(a[b].tokens[i], i64(find(k, "generated_ids"), b * 12 + i));
        const float want = f32(find(k, "generated_logprob"), b);
        assert_true(fabsf(a[b].logprob - want) <= (float)LIMIT * fmaxf(1.0f, fabsf(want)));
    }
}

static void check_forward(const char *name)
{
    rig k;
    rig_open(&k, name, false);
    encode_pictures(&k);
    const int t = prefill(&k, -1), d = k.model->config.t5.d;
    float *enc = get(&k, k.session->enc.p, (int64_t)k.rows * t * d);
    for (int b = 0; b < k.rows; b++)
        expect(&k, "encoder", (int64_t)b * t * d, (int64_t)k.session->enc_len[b] * d,
               enc + (size_t)(b * t * d));
    free(enc);
    forced_logits(&k, t, "logits");
    greedy(&k);
    rig_close(&k);
    rig_open(&k, name, true);
    encode_pictures(&k);
    forced_logits(&k, prefill(&k, 0), "lora.logits");
    rig_close(&k);
}

/* ---- gradients ---- */
typedef struct training {
    b2_net *net;
    b2_arena scratch, save;
    b2_queue q;
    b2_step step;
    b2_batch b;
    float *pixels;
    int32_t *enc, *len, *dec, *labels;
    int tokens;
    float **g; /* by ref */
} training;

static void training_batch(rig *k, training *x)
{
    const b2_config *c = &k->model->config;
    const int t = c->qf.queries + k->prompt;
    const size_t each = 3 * (size_t)(c->vit.image * c->vit.image);
    x->enc = calloc((size_t)(k->rows * t), sizeof(int32_t));
    x->len = calloc((size_t)k->rows, sizeof(int32_t));
    x->dec = calloc((size_t)(k->rows * k->answer), sizeof(int32_t));
    x->labels = calloc((size_t)(k->rows * k->answer), sizeof(int32_t));
    x->pixels = malloc((size_t)k->rows * each * sizeof(float));
    for (int b = 0; b < k->rows; b++) {
        int32_t text[256];
        const int n = prompt_of(k, b, text);
        x->len[b] = b2_encoder_ids(c, text, n, b * c->qf.queries, x->enc + b * t);
        memcpy(x->pixels + (size_t)b * each,
               find(k, "pixel_values")->data + (size_t)i64(find(k, "image_index"), b) * each * 4, each * 4);
        for (int i = 0; i < k->answer; i++) {
            const int id = label_of(k, b, i);
            x->labels[b * k->answer + i] = id < 0 ? -1 : id;
            x->tokens += id >= 0;
            if (i + 1 < k->answer) x->dec[b * k->answer + i + 1] = id < 0 ? 0 : id;
        }
        x->dec[b * k->answer] = c->t5.start;
    }
    const size_t ids = (size_t)k->rows * sizeof(int32_t);
    x->b = (b2_batch){.batch = k->rows,
                      .tenc = t,
                      .tdec = k->answer,
                      .pixels = put(k, x->pixels, (size_t)k->rows * each * sizeof(float)),
                      .enc_ids = put(k, x->enc, ids * (size_t)t),
                      .enc_len = put(k, x->len, ids),
                      .dec_ids = put(k, x->dec, ids * (size_t)k->answer),
                      .labels = put(k, x->labels, ids * (size_t)k->answer)};
}

static double training_pass(rig *k, training *x, bool recompute)
{
    blip2_error e = BLIP2_ERROR_INIT;
    double *loss = room(k, sizeof *loss), sum = 0;
    x->step.sample = room(k, 8 * sizeof(uint64_t));
    b2_queue_init(&x->q, k->dev, &x->scratch, put(k, &x->step, sizeof x->step));
    if (b2_queue_finish(&k->session->q, &e)) fail_msg("%s", e.text);
    const b2_pass p = {.q = &x->q, .act = B2_F32, .save = &x->save, .recompute = recompute};
    b2_arena_dry(&x->scratch);
    b2_arena_dry(&x->save);
    x->q.dry = true;
    b2_train_pass(&p, x->net, &x->b, loss, false);
    x->q.dry = false;
    assert_int_equal(b2_arena_init(&x->scratch, x->scratch.peak, &k->dev->memory, &e), BLIP2_OK);
    assert_int_equal(b2_arena_init(&x->save, x->save.peak, &k->dev->memory, &e), BLIP2_OK);
    b2_train_pass(&p, x->net, &x->b, loss, false);
    b2_download(&x->q, &sum, loss, sizeof sum);
    if (b2_queue_finish(&x->q, &e)) fail_msg("%s", e.text);
    b2_queue_close(&x->q);
    return sum / x->tokens;
}

static void training_free(training *x)
{
    free(x->g);
    free(x->enc);
    free(x->len);
    free(x->dec);
    free(x->labels);
    free(x->pixels);
    b2_arena_free(&x->scratch);
    b2_arena_free(&x->save);
    b2_net_free(x->net);
}

static void expect_loss(const rig *k, const char *name, double loss)
{
    const double want = f32(find(k, name), 0);
    if (!(fabs(loss - want) <= LIMIT * fabs(want)))
        fail_msg("%s: %s is %.8g, expected %.8g", k->name, name, loss, want);
}

/* One gradient, as a mean over tokens, judged by max(its largest, 1e-3 of the model's largest). */
static int bad_gradient(const rig *k, const char *name, const float *sum, int64_t n, int tokens, double floor)
{
    const b2_st_tensor *t = find(k, name);
    float *g = get(k, sum, n);
    for (int64_t i = 0; i < n; i++) g[i] /= (float)tokens;
    assert_int_equal(n, (int64_t)t->bytes / 4);
    const double err = error_of(t, 0, n, g, fmax(largest(t), floor));
    free(g);
    if (err > LIMIT) printf("  %s: %s differs by %.3g\n", k->name, name, err);
    return err > LIMIT;
}

static double largest_gradient(const rig *k, const char *prefix)
{
    double m = 0;
    for (size_t i = 0; i < b2_st_count(k->golden); i++) {
        const b2_st_tensor *t = b2_st_at(k->golden, i);
        if (strncmp(t->name, prefix, strlen(prefix)) == 0) m = fmax(m, largest(t));
    }
    return m;
}

static void check_gradients(const char *name, bool recompute)
{
    rig k;
    training x = {0};
    blip2_error e = BLIP2_ERROR_INIT;
    char key[200];
    int bad = 0, seen = 0;
    rig_open(&k, name, false);
    assert_int_equal(b2_net_new(&x.net, &k.model->config, &e), BLIP2_OK);
    b2_net_view(x.net, k.model->run);
    const bool tied = x.net->head.w[0].p == x.net->shared.p;
    x.g = calloc((size_t)x.net->refs, sizeof *x.g);
    for (int i = 0; i < x.net->refs; i++) {
        b2_param *p = x.net->ref[i].param;
        if (tied && p == &x.net->head.w[0]) continue;
        p->g = x.g[i] = room(&k, (size_t)p->rows * (size_t)p->cols * sizeof(float));
    }
    if (tied) x.net->head.w[0].g = x.net->shared.g;
    training_batch(&k, &x);
    expect_loss(&k, "loss", training_pass(&k, &x, recompute));
    const double floor = 1e-3 * largest_gradient(&k, "grad.");
    for (int i = 0; i < x.net->refs; i++) {
        const b2_param *p = x.net->ref[i].param;
        if (!x.g[i]) continue;
        snprintf(key, sizeof key, "grad.%s", x.net->ref[i].name);
        bad += bad_gradient(&k, key, x.g[i], (int64_t)p->rows * p->cols, x.tokens, floor);
        seen++;
    }
    training_free(&x);
    rig_close(&k);
    assert_true(seen > 100);
    if (bad) fail_msg("%s: %d of %d gradients differ by more than %g", name, bad, seen, LIMIT);
}

static void check_lora_gradients(const char *name)
{
    rig k;
    training x = {0};
    blip2_error e = BLIP2_ERROR_INIT;
    char key[220];
    int bad = 0;
    rig_open(&k, name, true);
    assert_int_equal(b2_net_new(&x.net, &k.model->config, &e), BLIP2_OK);
    b2_net_view(x.net, k.model->run);
    assert_int_equal(b2_adapters_attach(x.net, &k.adapter, 1, &e), BLIP2_OK);
    const int n = x.net->n_slots;
    float **ga = calloc((size_t)n, sizeof *ga), **gb = calloc((size_t)n, sizeof *gb);
    for (int i = 0; i < n; i++) {
        const b2_adapter_entry *en = &k.adapter->entry[i];
        const b2_param *p = x.net->ref[en->ref].param;
        x.net->slots[i].ga = ga[i] = room(&k, (size_t)(en->r * p->cols) * sizeof(float));
        x.net->slots[i].gb = gb[i] = room(&k, (size_t)(en->r * p->rows) * sizeof(float));
    }
    training_batch(&k, &x);
    expect_loss(&k, "lora.loss", training_pass(&k, &x, false));
    const double floor = 1e-3 * largest_gradient(&k, "lora_grad.");
    for (int i = 0; i < n; i++) {
        const b2_adapter_entry *en = &k.adapter->entry[i];
        const b2_param_ref *r = &x.net->ref[en->ref];
        const int len = (int)strlen(r->name) - 7;
        snprintf(key, sizeof key, "lora_grad.base_model.model.%.*s.lora_A.weight", len, r->name);
        bad += bad_gradient(&k, key, ga[i], (int64_t)en->r * r->param->cols, x.tokens, floor);
        snprintf(key, sizeof key, "lora_grad.base_model.model.%.*s.lora_B.weight", len, r->name);
        bad += bad_gradient(&k, key, gb[i], (int64_t)en->r * r->param->rows, x.tokens, floor);
    }
    free(ga);
    free(gb);
    training_free(&x);
    rig_close(&k);
    if (bad) fail_msg("%s: %d of %d LoRA gradients differ by more than %g", name, bad, 2 * n, LIMIT);
}

static void test_old_forward(void **s)
{
    (void)s;
    check_forward("old");
}
static void test_new_forward(void **s)
{
    (void)s;
    check_forward("new");
}
static void test_relu_forward(void **s)
{
    (void)s;
    check_forward("relu");
}
static void test_old_gradients(void **s)
{
    (void)s;
    check_gradients("old", false);
}
static void test_new_gradients(void **s)
{
    (void)s;
    check_gradients("new", true);
}
static void test_relu_gradients(void **s)
{
    (void)s;
    check_gradients("relu", false);
}
static void test_old_lora(void **s)
{
    (void)s;
    check_lora_gradients("old");
}
static void test_new_lora(void **s)
{
    (void)s;
    check_lora_gradients("new");
}
static void test_relu_lora(void **s)
{
    (void)s;
    check_lora_gradients("relu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_forward),   cmocka_unit_test(test_new_forward),
        cmocka_unit_test(test_relu_forward),  cmocka_unit_test(test_old_gradients),
        cmocka_unit_test(test_new_gradients), cmocka_unit_test(test_relu_gradients),
        cmocka_unit_test(test_old_lora),      cmocka_unit_test(test_new_lora),
        cmocka_unit_test(test_relu_lora)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
