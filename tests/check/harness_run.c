/* One case of the check tool: the reference, then every tier, with several thread counts. */
#include "harness.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WS_GUARD      256
#define WS_GUARD_BYTE 0xA5
#define SMALL_CASES   3   /* of a kernel: enough to see that timing works */
#define SMALL_BYTES   1e5 /* more takes a GPU that the host plays seconds */
#define SHOWN         3   /* failures printed per kernel, tier and activation type */

static char now[256];

/* SIGSEGV means most often that a kernel read past an input: the page behind it cannot be read. */
static void crashed(int sig)
{
    (void)sig;
    const char text[] = "\ncrashed (read or wrote past a buffer?) in: ";
    if (write(2, text, sizeof text - 1) < 0 || write(2, now, strlen(now)) < 0 || write(2, "\n", 1) < 0)
        _exit(3);
    _exit(3);
}

void ck_where(const ck *c, const ck_tier *t, const ck_call *call)
{
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
#else
    (void)crashed;
#endif
    snprintf(now, sizeof now, "%s %s %s, %s", c->check->name, c->dtype ? "bf16" : "f32", t->name,
             call->shape);
}

b2_queue ck_queue(ck *c, const ck_tier *tier, b2_pool *pool)
{
    b2_queue q = {.k = {&tier->table[0], &tier->table[1]},
                  .pool = pool,
                  .threads = pool ? b2_pool_threads(pool) : 1,
                  .step = &c->step};
    if (tier == &c->tier[CK_CUDA]) ck_cuda_queue(&q);
    return q;
}

static const void *slot(const ck *c, int tier, size_t at)
{
    return (const char *)&c->tier[tier].table[c->dtype] + at;
}

bool ck_new_slot(const ck *c, int tier)
{
    if (tier == 0 || tier == CK_CUDA) return true;
    int below = tier - 1;
    while (below > 0 && !c->tier[below].available) below--;
    if (memcmp(slot(c, tier, c->slot), slot(c, below, c->slot), sizeof(void (*)(void)))) return true;
    return c->ws_slot &&
           memcmp(slot(c, tier, c->ws_slot), slot(c, below, c->ws_slot), sizeof(void (*)(void)));
}

static void complain(const ck *c, ck_tier *t, const ck_call *call, int threads, const char *what,
                     double error)
{
    if (t->stat.failed++ >= SHOWN || c->quiet) return;
    printf("FAIL %s %s %s, %s, threads %d: %s", c->check->name, c->dtype ? "bf16" : "f32", t->name,
           call->shape, threads, what);
    if (error > 0) printf(" %.3g, limit %.3g", error, c->check->limit[c->dtype]);
    printf("\n");
}

/* Runs once with a workspace of exactly the size asked for; says what it broke. */
static const char *run_once(ck *c, const ck_tier *t, const ck_call *call, b2_pool *pool)
{
    const b2_kernels *k = &t->table[c->dtype];
    const size_t size = call->ws ? call->ws(k, call->args, b2_pool_threads(pool)) : 0;
    unsigned char *ws = ck_take(size + WS_GUARD);
    memset(ws, 0xFF, size); /* NaN: nothing may be expected there */
    memset(ws + size, WS_GUARD_BYTE, WS_GUARD);
    const b2_step before = c->step;
    b2_queue q = ck_queue(c, t, pool);
    ck_where(c, t, call);
    call->call(k, &q, call->args, size ? ws : NULL);
    const char *lost = q.native ? ck_cuda_wait(&q) : NULL;
    if (lost) { /* nothing works after that */
        fprintf(stderr, "%s: %s\n", now, lost);
        exit(3);
    }
    const char *bad = ck_damage(c);
    for (size_t i = size; i < size + WS_GUARD; i++) {
        if (ws[i] != WS_GUARD_BYTE) bad = "wrote past the workspace that it asked for";
    }
    if (memcmp(&before, &c->step, sizeof before)) bad = "changed the step";
    ck_give(ws);
    return bad;
}

void ck_keep(ck *c, bool of_ref)
{
    for (ck_buf *b = c->bufs; b; b = b->next) {
        if (!b->output) continue;
        unsigned char **to = of_ref ? &b->ref : &b->first;
        if (!*to) *to = malloc(b->bytes + 1);
        if (!*to) exit(2);
        memcpy(*to, b->p, b->bytes);
    }
}

bool ck_same_bits(const ck *c)
{
    for (const ck_buf *b = c->bufs; b; b = b->next) {
        if (b->output && memcmp(b->p, b->first, b->bytes)) return false;
    }
    return true;
}

static void judge(ck *c, ck_tier *t, const ck_call *call)
{
    const double limit = c->check->limit[c->dtype], exact = ck_error(c, false), ref = ck_error(c, true);
    if (!(exact <= t->stat.worst_double)) t->stat.worst_double = exact;
    if (!(ref <= t->stat.worst_ref)) t->stat.worst_ref = ref;
    if (!(exact <= limit))
        complain(c, t, call, 1, "error against double precision", exact);
    else if (!(ref <= limit))
        complain(c, t, call, 1, "error against ref", ref);
}

static void check_tier(ck *c, ck_tier *t, const ck_call *call)
{
    t->stat.cases++;
    for (int threads = 1; threads <= (c->once ? 1 : 3); threads++) {
        ck_restore(c);
        const char *bad = run_once(c, t, call, c->pool[threads]);
        if (bad) {
            complain(c, t, call, threads, bad, 0);
            return;
        }
        if (threads > 1 && !ck_same_bits(c)) {
            complain(c, t, call, threads, "other bits than with one thread", 0);
            return;
        }
        if (threads > 1) continue;
        judge(c, t, call);
        ck_keep(c, false);
    }
}

static void check_ref(ck *c, const ck_call *call)
{
    ck_tier *t = &c->tier[B2_ISA_REF];
    const int failed = t->stat.failed;
    const char *bad = run_once(c, t, call, NULL);
    ck_keep(c, true);
    if (!t->selected) return;
    t->stat.cases++;
    if (bad) complain(c, t, call, 1, bad, 0);
    if (t->stat.failed == failed) judge(c, t, call);
}

static void check_tiers(ck *c, const ck_call *call, int first, int end)
{
    for (int i = first; i < end; i++) {
        if (c->tier[i].available && c->tier[i].selected && ck_new_slot(c, i))
            check_tier(c, &c->tier[i], call);
    }
}

/* Tensor cores take bf16: the kernel gets the case as it is, and must give what the reference gives for the
 * rounded one, as exactly as `want` says then. */
static void check_rounding(ck *c, const ck_call *call)
{
    ck_tier *ref = &c->tier[B2_ISA_REF];
    const bool selected = ref->selected;
    ck_round(call);
    call->want(call->args);
    ref->selected = false;
    ck_restore(c);
    check_ref(c, call);
    ref->selected = selected;
    ck_round(call);
    check_tiers(c, call, CK_CUDA, CK_TIERS);
}

void ck_run(ck *c, const ck_call *call)
{
    const bool small = call->bytes > 0 && call->bytes < SMALL_BYTES && c->cases < SMALL_CASES;
    const bool wanted = !c->timed || c->bench || small;
    if (!wanted || !ck_matches(c->shape, call->shape)) {
        ck_free(c);
        return;
    }
    c->cases++;
    c->ran++;
    ck_snapshot(c);
    if (c->timed) {
        ck_time(c, call);
    } else {
        const bool rounds = call->rounded[0] && c->dtype == B2_BF16 && c->tier[CK_CUDA].available;
        call->want(call->args);
        check_ref(c, call);
        check_tiers(c, call, 1, rounds ? CK_CUDA : CK_TIERS);
        if (rounds) check_rounding(c, call);
    }
    ck_free(c);
}
