/* Cross-entropy and the best id, a row at a time; body of loss_<isa>.c. */
#include <math.h>
#include "kernels/cpu/sweep.h"
#include "kernels/cpu/vmath.h"

typedef struct loss_job {
    float *loss, *logp, *logits;
    const float *in;
    const int32_t *labels, *forbid;
    int32_t *ids;
    int vocab, want_grad;
} loss_job;

/* Largest of x, NaN left out; *nan says whether there was one. */
static float largest(const float *x, int n, bool *nan)
{
    vf top = vset1(-INFINITY);
    unsigned bad = 0;
    SWEEP(n, {
        const vf v = vget(x + i, len);
        const vf w = len == VL ? v : vsel(vtail(len), v, vset1(-INFINITY));
        bad |= vnanbits(w);
        top = vmax(w, top);
    });
    *nan = *nan || bad;
    return vhmax(top);
}

/* sum of exp(x - top), in double */
static double exp_sum(const float *x, float top, int n)
{
    const vf t = vset1(top);
    vd2 s = vd2_zero();
    SWEEP(n, {
        const vf e = vexp(vsub(vget(x + i, len), t));
        s = vd2_add(s, len == VL ? e : vsel(vtail(len), e, vzero()));
    });
    return vd2_sum(s);
}

static void xent_task(void *ctx, int64_t row, int worker)
{
    const loss_job *j = ctx;
    const int n = j->vocab, label = j->labels[row];
    float *x = j->logits + row * n;
    (void)worker;
    if (label < 0) {
        if (j->loss) j->loss[row] = 0;
        if (j->want_grad) SWEEP(n, vput(x + i, vzero(), len));
        return;
    }
    bool nan = false;
    float top = largest(x, n, &nan);
    if (nan) top = NAN;
    const double sum = exp_sum(x, top, n);
    if (j->loss) j->loss[row] = (float)log(sum) - (x[label] - top);
    if (!j->want_grad) return;
    const vf t = vset1(top), scale = vset1((float)(1 / sum));
    SWEEP(n, vput(x + i, vmul(vexp(vsub(vget(x + i, len), t)), scale), len));
    x[label] -= 1;
}

void F32_FN(xent)(b2_queue *q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab,
                  int want_grad)
{
    loss_job j = {
        .loss = row_loss, .logits = logits, .labels = labels, .vocab = vocab, .want_grad = want_grad};
    b2_pool_run(q->pool, rows, xent_task, &j);
}

/* First index in from..to-1 whose element is `top`, or NaN when that is wanted; -1: none. */
static int find(const float *x, int from, int to, float top, bool nan)
{
    const vf t = vset1(top);
    for (int c = from; c < to; c += VL) {
        const int len = to - c < VL ? to - c : VL;
        const vf v = vget(x + c, len);
        const unsigned hit = (nan ? vnanbits(v) : veqbits(v, t)) & (len == VL ? ~0u : (1u << len) - 1);
        if (hit) return c + __builtin_ctz(hit);
    }
    return -1;
}

static void argmax_task(void *ctx, int64_t row, int worker)
{
    const loss_job *j = ctx;
    const float *x = j->in + row * j->vocab;
    const int n = j->vocab, skip = j->forbid ? j->forbid[row] : -1, cut = skip >= 0 && skip < n ? skip : n,
              on = cut < n ? cut + 1 : n;
    bool nan = false;
    (void)worker;
    const float left = largest(x, cut, &nan), right = largest(x + on, n - on, &nan),
                top = left < right ? right : left;
    int best = find(x, 0, cut, top, nan);
    if (best < 0) best = find(x, on, n, top, nan);
    j->ids[row] = best;
    if (j->logp) j->logp[row] = nan ? NAN : (float)-log(exp_sum(x, top, cut) + exp_sum(x + on, top, n - on));
}

void F32_FN(argmax)(b2_queue *q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid,
                    int rows, int vocab)
{
    loss_job j = {.ids = ids, .logp = logp, .in = logits, .forbid = forbid, .vocab = vocab};
    b2_pool_run(q->pool, rows, argmax_task, &j);
}
