/* Buffers of the check tool: random contents, guards around them, comparison with the right values. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD      256
#define GUARD_BYTE 0xA5
#define STRETCH    999983

static size_t size_of(ck_type t) { return t == CK_I8 ? 1 : t == CK_BF16 ? 2 : t == CK_F64 ? 8 : 4; }

static void die(const char *what)
{
    fprintf(stderr, "check_kernels: %s\n", what);
    exit(2);
}

static void *need(void *p)
{
    if (!p) die("out of memory");
    return p;
}

void *ck_take(size_t bytes)
{
    return need(ck_shared_take ? ck_shared_take(bytes) : aligned_alloc(64, (bytes + 63) & ~(size_t)63));
}

void ck_give(void *p)
{
    if (ck_shared_give)
        ck_shared_give(p);
    else
        free(p);
}

/* Inputs end where an unreadable page begins, so that reading past them is noticed; outputs lie between
 * guards. Half of all buffers are aligned to 64 bytes, the others to their element only. */
static void place(ck *c, ck_buf *b)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const bool aligned = c->bench || c->aligned || ck_flip(c);
    if (b->output) {
        b->lead = GUARD + (aligned ? 0 : size_of(b->type) * (size_t)(1 + ck_below(c, 7)));
        b->block_bytes = b->lead + b->bytes + GUARD;
        b->block = ck_take(b->block_bytes);
        memset(b->block, GUARD_BYTE, b->block_bytes);
    } else if (ck_shared_take) { /* a GPU reads past an end unseen: compute-sanitizer looks for that */
        b->lead = aligned ? 0 : size_of(b->type) * (size_t)(1 + ck_below(c, 7));
        b->block_bytes = b->lead + b->bytes;
        b->block = ck_take(b->block_bytes);
    } else {
        const size_t body = (b->bytes + page - 1) & ~(page - 1);
        b->block_bytes = body + page;
        b->block = mmap(NULL, b->block_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (b->block == MAP_FAILED) die("out of memory");
        if (mprotect((char *)b->block + body, page, PROT_NONE)) die("mprotect failed");
        b->lead = body - b->bytes;
        if (aligned) b->lead &= ~(size_t)63;
    }
    b->p = (char *)b->block + b->lead;
}

static ck_buf *make(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld, bool output)
{
    ck_buf *b = need(calloc(1, sizeof *b));
    *b = (ck_buf){.type = type, .rows = rows, .cols = cols, .ld = ld, .n = rows * ld, .output = output};
    if (type == CK_ACT) b->type = c->dtype == B2_F32 ? CK_F32 : CK_BF16;
    b->bytes = (size_t)b->n * size_of(b->type);
    place(c, b);
    b->next = c->bufs;
    c->bufs = b;
    if (!output) return b;
    memset(b->p, 0xFF, b->bytes); /* NaN in every type */
    if (c->bench) return b;
    b->want = need(calloc((size_t)b->n + 1, sizeof(double)));
    b->mag = need(calloc((size_t)b->n + 1, sizeof(double)));
    return b;
}

ck_buf *ck_in(ck *c, ck_type type, int64_t n, double spread) { return ck_in_rows(c, type, 1, n, n, spread); }

ck_buf *ck_in_rows(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld, double spread)
{
    ck_buf *b = make(c, type, rows, cols, ld, false);
    ck_fill(c, b, spread);
    return b;
}

ck_buf *ck_out(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld)
{
    return make(c, type, rows, cols, ld, true);
}

ck_buf *ck_inout(ck *c, ck_type type, int64_t rows, int64_t cols, int64_t ld, double spread)
{
    ck_buf *b = make(c, type, rows, cols, ld, true);
    ck_fill(c, b, spread);
    return b;
}

/* Big buffers of a bench repeat a stretch of odd length. */
void ck_fill(ck *c, ck_buf *b, double spread)
{
    const int64_t n = c->bench && b->n > STRETCH ? STRETCH : b->n;
    const size_t size = size_of(b->type);
    for (int64_t i = 0; i < n; i++) ck_set(b, i, ck_uniform(c, spread));
    for (int64_t at = n; at < b->n; at += n)
        memcpy((char *)b->p + (size_t)at * size, b->p, (size_t)(b->n - at < n ? b->n - at : n) * size);
}

static double get(ck_type t, const void *p, int64_t i)
{
    switch (t) {
    case CK_BF16: return b2_bf16_to_f32(((const b2_bf16 *)p)[i]);
    case CK_I32: return ((const int32_t *)p)[i];
    case CK_I8: return ((const int8_t *)p)[i];
    case CK_F64: return ((const double *)p)[i];
    default: return ((const float *)p)[i];
    }
}

const double *ck_was(ck_buf *b)
{
    if (!b || b->was) return b ? b->was : NULL;
    b->was = need(malloc(((size_t)b->n + 1) * sizeof(double)));
    for (int64_t i = 0; i < b->n; i++) b->was[i] = get(b->type, b->init, i);
    return b->was;
}

static void round_one(ck_buf *b, float (*scale)(void *, int64_t), void *args)
{
    float *x = b->p;
    free(b->was);
    b->was = NULL;
    if (!b->first) {
        b->first = need(malloc(b->bytes + 1));
        memcpy(b->first, x, b->bytes);
        for (int64_t i = 0; b->type == CK_F32 && i < b->n; i++) { /* bf16 is that already */
            const float s = scale ? scale(args, i) : 1;
            x[i] = b2_bf16_to_f32(b2_f32_to_bf16(x[i] * s)) / s;
        }
    } else {
        memcpy(x, b->first, b->bytes);
        free(b->first);
        b->first = NULL;
    }
    if (b->init) memcpy(b->init, x, b->bytes);
}

void ck_round(const ck_call *call)
{
    for (int i = 0; i < 4; i++)
        if (call->rounded[i]) round_one(call->rounded[i], i ? NULL : call->scale, call->args);
}

void ck_set(ck_buf *b, int64_t i, double value)
{
    switch (b->type) {
    case CK_BF16: ((b2_bf16 *)b->p)[i] = b2_f32_to_bf16((float)value); break;
    case CK_I32: ((int32_t *)b->p)[i] = (int32_t)value; break;
    case CK_I8: ((int8_t *)b->p)[i] = (int8_t)value; break;
    case CK_F64: ((double *)b->p)[i] = value; break;
    default: ((float *)b->p)[i] = (float)value;
    }
}

int ck_below(ck *c, int n) { return (int)b2_rng_below(&c->rng, (uint64_t)n); }

int ck_size(ck *c, int most)
{
    static const int edges[] = {1, 2, 8, 16, 32, 64, 128, 256};
    if (ck_below(c, 4) == 0) return 1 + ck_below(c, most);
    const int n = edges[ck_below(c, 8)] + ck_below(c, 3) - 1;
    return n < 1 ? 1 : n > most ? 1 + n % most : n;
}

double ck_uniform(ck *c, double spread)
{
    return ((double)(b2_rng_next(&c->rng) >> 40) / 8388608.0 - 1) * spread;
}

static unsigned char *copy_of(const ck_buf *b) { return memcpy(need(malloc(b->bytes + 1)), b->p, b->bytes); }

void ck_snapshot(ck *c)
{
    for (ck_buf *b = c->bufs; b; b = b->next) {
        if (!c->bench || b->output) b->init = copy_of(b);
    }
}

void ck_restore(ck *c)
{
    for (ck_buf *b = c->bufs; b; b = b->next) {
        if (b->output) memcpy(b->p, b->init, b->bytes);
    }
}

void ck_free(ck *c)
{
    while (c->bufs) {
        ck_buf *b = c->bufs;
        c->bufs = b->next;
        if (b->output || ck_shared_take)
            ck_give(b->block);
        else
            munmap(b->block, b->block_bytes);
        free(b->was);
        free(b->want);
        free(b->mag);
        free(b->init);
        free(b->ref);
        free(b->first);
        free(b);
    }
    c->aligned = false;
}

static bool guarded(const ck_buf *b)
{
    const unsigned char *p = b->block;
    for (size_t i = 0; i < b->block_bytes; i++) {
        if (i == b->lead) i += b->bytes;
        if (i < b->block_bytes && p[i] != GUARD_BYTE) return false;
    }
    return true;
}

static bool holes_kept(const ck_buf *b)
{
    const size_t size = size_of(b->type), from = (size_t)b->cols * size, line = (size_t)b->ld * size;
    for (int64_t i = 0; i < b->rows; i++) {
        const size_t at = (size_t)i * line + from;
        if (memcmp((char *)b->p + at, b->init + at, line - from)) return false;
    }
    return true;
}

const char *ck_damage(const ck *c)
{
    for (const ck_buf *b = c->bufs; b; b = b->next) {
        if (b->output && !guarded(b)) return "wrote outside of an output";
        if (b->output && !holes_kept(b)) return "wrote between the rows of an output";
        if (!b->output && b->init && memcmp(b->p, b->init, b->bytes)) return "changed an input";
    }
    return NULL;
}

/* Distance of neighbouring bf16 numbers at x. */
static double bf16_step(double x)
{
    int e;
    if (x == 0) return 0;
    frexp(x, &e);
    return ldexp(1, e - 8);
}

/* `slack`: what rounding to the output's type may add. */
static double error_of(double got, double want, double mag, double slack)
{
    if (isnan(want)) return isnan(got) ? 0 : INFINITY;
    if (isinf(want) || got == want) return got == want ? 0 : INFINITY;
    if (!isfinite(got)) return INFINITY;
    const double d = fabs(got - want) - slack;
    return d <= 0 ? 0 : mag > 0 ? d / mag : INFINITY;
}

static double largest(const ck_buf *b)
{
    double top = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const double x = fabs(get(b->type, b->ref, i));
        if (isfinite(x) && x > top) top = x;
    }
    return top;
}

double ck_error(const ck *c, bool against_ref)
{
    double worst = 0;
    for (const ck_buf *b = c->bufs; b; b = b->next) {
        if (!b->output || b->spent) continue;
        const double top = b->mag ? 0 : largest(b);
        for (int64_t i = 0; i < b->rows * b->cols; i++) {
            const int64_t at = i / b->cols * b->ld + i % b->cols;
            const double want = against_ref ? get(b->type, b->ref, at) : b->want[at];
            const double got = get(b->type, b->p, at);
            /* Half a step from the exact value, a whole one between two that were rounded; the wider step
             * where a power of two lies between them. */
            const double step = bf16_step(fmax(fabs(want), fabs(got)));
            const double slack = b->type != CK_BF16 ? 0 : step * (against_ref ? 1 : 0.5) * (1 + 1e-6);
            const double e = error_of(got, want, b->mag ? b->mag[at] : top, slack);
            if (!(e <= worst)) worst = e;
        }
    }
    return worst;
}
