/* Reference of cross-entropy and of choosing the best id. */
#include <math.h>
#include "kernels/act.h"

/* NaN counts as the largest, so that it reaches the result. */
static bool beats(float x, float best) { return x > best || (isnan(x) && !isnan(best)); }

static float largest(const float *x, int n)
{
    float best = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (beats(x[i], best)) best = x[i];
    }
    return best;
}

void B2_REF(xent)(b2_queue *q, float *row_loss, float *logits, const int32_t *labels, int rows, int vocab,
                  int want_grad)
{
    (void)q;
    for (int i = 0; i < rows; i++, logits += vocab) {
        const int label = labels[i];
        if (label < 0) {
            if (row_loss) row_loss[i] = 0;
            for (int c = 0; want_grad && c < vocab; c++) logits[c] = 0;
            continue;
        }
        const float top = largest(logits, vocab);
        double sum = 0;
        for (int c = 0; c < vocab; c++) sum += expf(logits[c] - top);
        if (row_loss) row_loss[i] = (float)log(sum) - (logits[label] - top);
        for (int c = 0; want_grad && c < vocab; c++)
            logits[c] = expf(logits[c] - top) / (float)sum - (c == label);
    }
}

void B2_REF(argmax)(b2_queue *q, int32_t *ids, float *logp, const float *logits, const int32_t *forbid,
                    int rows, int vocab)
{
    (void)q;
    for (int i = 0; i < rows; i++, logits += vocab) {
        const int skip = forbid ? forbid[i] : -1;
        int best = skip == 0 ? 1 : 0;
        for (int c = best + 1; c < vocab; c++) {
            if (c != skip && beats(logits[c], logits[best])) best = c;
        }
        ids[i] = best;
        if (!logp) continue;
        double sum = 0;
        for (int c = 0; c < vocab; c++) {
            if (c != skip) sum += expf(logits[c] - logits[best]);
        }
        logp[i] = (float)-log(sum);
    }
}
