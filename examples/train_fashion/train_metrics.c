/* metrics.jsonl, the Loss lines, and the curve drawn at the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "examples/train_fashion/train.h"

static blip2_status cannot(const run *r, const char *what, blip2_error *err)
{
    return fail_with(err, BLIP2_ERR_IO, "%s: cannot be %s: %s", r->metrics_path, what, strerror(errno));
}

/* Lines of steps after the checkpoint belong to work that is done again. */
static void copy_lines(FILE *from, FILE *to, int64_t step)
{
    char *line = NULL;
    size_t cap = 0;
    long long n;
    while (getline(&line, &cap, from) >= 0)
        if (strchr(line, '\n') && sscanf(line, "{\"step\": %lld,", &n) == 1 && n <= step) fputs(line, to);
    free(line);
}

blip2_status metrics_open(run *r, int64_t step, blip2_error *err)
{
    r->metrics_path = format_text("%s/metrics.jsonl", r->s->output);
    char *fresh = format_text("%s/metrics.jsonl.new", r->s->output);
    if (!r->metrics_path || !fresh) {
        free(fresh);
        return fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    }
    FILE *old = step > 0 ? fopen(r->metrics_path, "re") : NULL;
    r->metrics = fopen(fresh, "we");
    if (old && r->metrics) copy_lines(old, r->metrics, step);
    if (old) fclose(old);
    blip2_status s = BLIP2_OK;
    if (!r->metrics || fflush(r->metrics) || rename(fresh, r->metrics_path)) s = cannot(r, "written", err);
    free(fresh);
    return s;
}

blip2_status metrics_step(run *r, const blip2_step_report *report, double seconds, blip2_error *err)
{
    double rate = seconds > 0 ? (double)report->samples / seconds : 0;
    fprintf(r->metrics,
            "{\"step\": %lld, \"epoch\": %d, \"loss\": %.6f, \"lr\": %.9g, \"grad_norm\": %.6g, "
            "\"samples_per_s\": %.1f}\n",
            (long long)report->step, report->epoch, report->loss, report->lr, report->grad_norm, rate);
    if (fflush(r->metrics)) return cannot(r, "written", err);
    bool log = report->step % r->s->log_every == 0 || report->done;
    if (log || report->epoch_ended) progress_clear(&r->bar);
    if (log) {
        printf("Loss: %.4f\n", report->loss);
        if (!r->bar.terminal)
            printf("step=%lld/%lld; train_loss=%.4f; lr=%.8f; grad_norm=%.4f; samples_per_s=%.1f;\n",
                   (long long)report->step, (long long)report->steps, report->loss, report->lr,
                   report->grad_norm, rate);
    }
    if (report->epoch_ended) printf("Epoch Loss: %.4f\n", report->epoch_loss);
    char note[64];
    snprintf(note, sizeof note, "loss %.4f, %.0f samples/s", report->loss, rate);
    progress_show(&r->bar, report->step, note);
    return BLIP2_OK;
}

blip2_status metrics_finish(run *r, blip2_error *err)
{
    FILE *f = r->metrics;
    r->metrics = NULL;
    if (f && fclose(f)) return cannot(r, "written", err);
    char *svg = format_text("%s/loss.svg", r->s->output);
    blip2_status s =
        svg ? blip2_plot_loss(r->metrics_path, svg, err) : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    free(svg);
    return s;
}
