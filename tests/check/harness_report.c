/* What the check tool says of a timed case: a line for people, one of JSON for bench/compare_kernels.sh. */
#include "harness.h"
#include <stdlib.h>
#include <string.h>

int ck_by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

ck_timing ck_sorted(double *s, int n)
{
    qsort(s, (size_t)n, sizeof s[0], ck_by_value);
    const int tenth = (n - 1) / 10;
    return (ck_timing){.median = s[n / 2], .p10 = s[tenth], .p90 = s[n - 1 - tenth], .n = n};
}

void ck_json_text(FILE *f, const char *name, const char *text)
{
    fprintf(f, "\"%s\": \"", name);
    for (; *text; text++) putc(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '?' : *text, f);
    fprintf(f, "\"");
}

/* The nearer ceiling. What is moved faster than memory can came out of a cache: no share of memory then. */
static void print_share(const ck_ceiling *top, int dtype, double gflops, double gbs)
{
    const double memory = gbs / top->gbs, arithmetic = gflops / top->gflops[dtype];
    if (memory <= 1 && memory >= arithmetic)
        printf("  %3.0f%% of memory", 100 * memory);
    else if (gflops > 0)
        printf("  %3.0f%% of arithmetic", 100 * arithmetic);
    else
        printf("  from cache");
}

static void print_json(const ck *c, const ck_tier *t, const ck_call *call, const char *judge,
                       const ck_timing *r)
{
    const ck_ceiling *top = &c->top[t == &c->tier[CK_CUDA]];
    const double gbs = call->bytes / r->median * 1e-9, gflops = call->flops / r->median * 1e-9;
    FILE *f = c->json;
    putc('{', f);
    ck_json_text(f, "device", top->device);
    fprintf(f, ", ");
    ck_json_text(f, "commit", c->commit);
    fprintf(f, ", \"tier\": \"%s\", \"by\": \"%s\", \"kernel\": \"%s\", \"dtype\": \"%s\", ", t->name, r->by,
            c->check->name, c->dtype ? "bf16" : "f32");
    ck_json_text(f, "shape", call->shape);
    fprintf(f, ", \"batch\": %d, \"cache\": \"%s\", \"how\": \"%s\", \"median_us\": %.6g, \"p10_us\": %.6g, ",
            c->batch, r->cache, r->how, 1e6 * r->median, 1e6 * r->p10);
    fprintf(f, "\"p90_us\": %.6g, \"repeats\": %d, \"bytes\": %.15g, \"flops\": %.15g, ", 1e6 * r->p90, r->n,
            call->bytes, call->flops);
    fprintf(f,
            "\"gbs\": %.6g, \"gflops\": %.6g, \"memory_pct\": %.4g, \"arithmetic_pct\": %.4g, \"judge\": "
            "\"%s\"",
            gbs, gflops, 100 * gbs / top->gbs, 100 * gflops / top->gflops[c->dtype], judge);
    if (r->own > 0) fprintf(f, ", \"own_over_this\": %.4g", r->own / r->median);
    fprintf(f, "}\n");
}

void ck_print_timing(const ck *c, const ck_tier *t, const ck_call *call, const char *judge,
                     const ck_timing *r)
{
    const ck_ceiling *top = &c->top[t == &c->tier[CK_CUDA]];
    const double gflops = call->flops / r->median * 1e-9, gbs = call->bytes / r->median * 1e-9;
    printf("%-13s %-4s %-10s %-8s %-72s %-4s %-5s %10.2f us (%.2f to %.2f) %8.1f GFLOP/s %8.1f GB/s",
           c->check->name, c->dtype ? "bf16" : "f32", t->name, r->by, call->shape, r->cache, r->how,
           1e6 * r->median, 1e6 * r->p10, 1e6 * r->p90, gflops, gbs);
    print_share(top, c->dtype, gflops, gbs);
    if (r->own > 0) printf(", %.3fx the speed of our own", r->own / r->median);
    printf("%s\n", strcmp(judge, "none") ? "" : ", not judged: too big for ref");
    if (c->json) print_json(c, t, call, judge, r);
}
