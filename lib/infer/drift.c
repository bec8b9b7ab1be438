/* Comparing the answers of two sets of weights, token by token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "infer/session_core.h"

/* One session's share: the logits of an answer, [tokens, vocab]. */
static blip2_status answer(blip2_session *s, const blip2_image *image, const blip2_request *request,
                           b2_trace_sink *sink, blip2_answer *a, blip2_error *e)
{
    blip2_features *f = NULL;
    blip2_request r = *request;
    B2_TRY(blip2_session_encode(s, image, 1, r.adapter, &f, e));
    r.features = f;
    const blip2_status st = b2_session_generate_traced(s, &r, 1, a, sink, e);
    blip2_features_close(f);
    return st;
}

static double log_sum(const float *x, int n)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (int i = 0; i < n; i++) sum += exp(x[i] - top);
    return sum > 0 ? top + log(sum) : top;
}

static int best(const float *x, int n)
{
    int at = 0;
    for (int i = 1; i < n; i++) at = x[i] > x[at] ? i : at;
    return at;
}

static void compare(const float *wide, const float *other, int n, blip2_drift *d)
{
    const double zw = log_sum(wide, n), zo = log_sum(other, n);
    double kl = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        const double lw = wide[i] - zw, diff = lw - (other[i] - zo), p = exp(lw);
        if (p > 0) kl += p * diff;
        squares += diff * diff;
        if (p > 1e-4 && fabs(diff) > d->largest) d->largest = fabs(diff);
    }
    d->kl += kl;
    d->squares += squares / n;
    d->tokens++;
    d->same += best(wide, n) == best(other, n);
}

static blip2_status measure(blip2_session *wide, blip2_session *other, const blip2_image *image,
                            const blip2_request *request, float *logits[2], blip2_drift *sum, blip2_error *e)
{
    blip2_answer a, b;
    b2_trace_sink sink = {.logits = logits[0]};
    B2_TRY(answer(wide, image, request, &sink, &a, e));
    blip2_request led = *request; /* as many tokens, and nobody is told twice */
    led.on_token = NULL;
    led.max_new_tokens = a.count;
    sink = (b2_trace_sink){.logits = logits[1], .led = a.tokens, .n_led = a.count};
    if (a.count == 0) return BLIP2_OK;
    B2_TRY(answer(other, image, &led, &sink, &b, e));
    const size_t vocab = (size_t)wide->net->c.t5.vocab;
    for (size_t i = 0; i < (size_t)a.count && i < (size_t)b.count; i++)
        compare(logits[0] + i * vocab, logits[1] + i * vocab, (int)vocab, sum);
    return BLIP2_OK;
}

blip2_status blip2_session_drift(blip2_session *wide, blip2_session *other, const blip2_image *image,
                                 const blip2_request *request, blip2_drift *sum, blip2_error *err)
{
    if (!wide || !other || wide == other || !image || !request || !sum)
        return b2_fail(err, BLIP2_ERR_ARGUMENT,
                       "drift: two sessions, an image, a request and a sum are wanted");
    if (sum->size != sizeof *sum)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_drift.size: expected %zu, found %zu", sizeof *sum,
                       sum->size);
    if (memcmp(&wide->net->c, &other->net->c, sizeof wide->net->c))
        return b2_fail(err, BLIP2_ERR_CONFIG, "drift: the sessions' models have different configurations");
    B2_TRY(b2_session_check_request(wide, request, err));
    B2_TRY(b2_session_check_request(other, request, err));
    const size_t n =
        (size_t)(wide->tdec > other->tdec ? wide->tdec : other->tdec) * (size_t)wide->net->c.t5.vocab;
    float *logits[2] = {malloc(n * sizeof(float)), malloc(n * sizeof(float))};
    const blip2_status s = logits[0] && logits[1] ? measure(wide, other, image, request, logits, sum, err)
                                                  : B2_NOMEM(err, "logits");
    free(logits[0]);
    free(logits[1]);
    return s;
}
