/* check_kernels [--kernel=PATTERN] [--tier=PATTERN] [--seed=N] [--once] [--bench] [--json=FILE] [--list]
 * Checks (or times) every line of kernels.def on every CPU tier of this machine. Exit status 1 when something
 * failed. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/str.h"
#include "harness.h"

typedef struct line {
    const char *name;
    size_t at; /* offset in b2_kernels */
    bool ws;
} line;
static const line lines[] = {
#define KERNEL(name, args)    {#name, offsetof(b2_kernels, name), false},
#define WORKSPACE(name, args) {#name, offsetof(b2_kernels, name), true},
#include "kernels/kernels.def"
#undef KERNEL
#undef WORKSPACE
};
#define LINES (sizeof lines / sizeof lines[0])

static const ck_check *const families[] = {ck_linear,    ck_lora,  ck_norm,  ck_act,  ck_dropout,
                                           ck_attention, ck_cache, ck_embed, ck_loss, ck_optim};
#define FAMILIES (sizeof families / sizeof families[0])

typedef struct options {
    const char *kernel, *tier;
    unsigned long long seed;
    const char *json;
    bool bench, list, once;
} options;

typedef struct count {
    int passed, failed, skipped;
} count;

/* A pattern of the shell, or a part of the name. */
static bool matches(const char *pattern, const char *name)
{
    if (!pattern) return true;
    return strpbrk(pattern, "*?[") ? fnmatch(pattern, name, 0) == 0 : strstr(name, pattern) != NULL;
}

static const line *find_line(const char *name)
{
    for (size_t i = 0; i < LINES; i++) {
        if (name && strcmp(lines[i].name, name) == 0) return &lines[i];
    }
    return NULL;
}

static const ck_check *find_check(const line *l)
{
    for (size_t f = 0; f < FAMILIES; f++) {
        for (const ck_check *k = families[f]; k->name; k++) {
            if (strcmp(k->name, l->name) == 0) return k;
            if (l->ws && k->ws && strcmp(k->ws, l->name) == 0) return k;
        }
    }
    return NULL;
}

static void seed_case(ck *c, const options *o)
{
    uint64_t key = b2_mix64(o->seed + (uint64_t)c->dtype);
    for (const char *p = c->check->name; *p; p++) key = b2_mix64(key ^ (unsigned char)*p);
    c->rng = (b2_rng){key, 0};
    for (int i = 0; i < 256; i++) c->sample[i] = b2_rng_next(&c->rng) >> ck_below(c, 64);
    c->step =
        (b2_step){.seed = b2_rng_next(&c->rng), .step = (uint64_t)ck_below(c, 100000), .sample = c->sample};
}

static void report(const ck *c, ck_tier *t, count *n)
{
    const bool ok = t->stat.failed == 0;
    if (ok)
        n->passed++;
    else
        n->failed++;
    if (c->bench && ok) return;
    printf("%-13s %-4s %-10s %4d cases", c->check->name, c->dtype ? "bf16" : "f32", t->name, t->stat.cases);
    if (!c->bench) {
        printf("  error %8.2e to double, %8.2e to ref, limit %7.1e", t->stat.worst_double, t->stat.worst_ref,
               c->check->limit[c->dtype]);
    }
    if (ok)
        printf("  ok\n");
    else
        printf("  FAILED in %d\n", t->stat.failed);
}

static void check_line(ck *c, const line *l, const options *o, count *n)
{
    c->check = find_check(l);
    if (!c->check) {
        printf("FAIL %s: no check in tests/check\n", l->name);
        n->failed++;
        return;
    }
    if (l->ws) return;
    const line *ws = find_line(c->check->ws);
    c->slot = l->at;
    c->ws_slot = ws ? ws->at : 0;
    for (c->dtype = B2_F32; c->dtype <= B2_BF16; c->dtype++) {
        for (int i = 0; i < CK_TIERS; i++) c->tier[i].stat = (ck_stat){0};
        seed_case(c, o);
        c->check->run(c);
        for (int i = 0; i < CK_TIERS; i++) {
            if (c->tier[i].selected && c->tier[i].stat.cases) report(c, &c->tier[i], n);
        }
        fflush(stdout);
    }
}

/* A check of a kernel that is not in the list any more. */
static void find_strays(count *n)
{
    for (size_t f = 0; f < FAMILIES; f++) {
        for (const ck_check *k = families[f]; k->name; k++) {
            if (find_line(k->name) && (!k->ws || find_line(k->ws))) continue;
            printf("FAIL %s: a check without a line in kernels.def\n", k->name);
            n->failed++;
        }
    }
}

static void open_tiers(ck *c, const options *o, count *n)
{
    for (int i = 0; i < B2_ISA_COUNT; i++) {
        ck_tier *t = &c->tier[i];
        t->name = b2_isa_name((b2_isa)i);
        t->available = b2_isa_available((b2_isa)i);
        t->selected = t->available && matches(o->tier, t->name);
        if (t->available) {
            if (i == B2_ISA_REF)
                b2_ref_tables(t->table);
            else
                b2_cpu_tables(t->table, (b2_isa)i);
        } else if (matches(o->tier, t->name)) {
            printf("tier %s: skipped, not on this machine\n", t->name);
            n->skipped++;
        }
    }
}

static void open_cuda(ck *c, const options *o)
{
    ck_tier *t = &c->tier[CK_CUDA];
    t->name = "cuda";
    t->available = ck_cuda_tables != NULL;
    t->selected = t->available && matches(o->tier, t->name);
    if (t->available) ck_cuda_tables(t->table);
}

static bool same_slot(const ck *c, int best, int dtype, size_t at)
{
    return memcmp((const char *)&c->tier[best].table[dtype] + at,
                  (const char *)&c->tier[B2_ISA_REF].table[dtype] + at, sizeof(void (*)(void))) == 0;
}

static void name_ref_slots(const ck *c, const options *o)
{
    int best = B2_ISA_COUNT - 1, names = 0;
    while (!c->tier[best].available) best--;
    for (size_t i = 0; best != B2_ISA_REF && i < LINES; i++) {
        if (lines[i].ws || !matches(o->kernel, lines[i].name)) continue;
        const bool f32 = same_slot(c, best, B2_F32, lines[i].at),
                   bf16 = same_slot(c, best, B2_BF16, lines[i].at);
        if (!f32 && !bf16) continue;
        if (!names++) printf("still ref in the best tier (%s):", c->tier[best].name);
        printf(" %s%s", lines[i].name, f32 && bf16 ? "" : f32 ? "(f32)" : "(bf16)");
    }
    if (names) printf("\n");
}

static bool parse(int argc, char **argv, options *o)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    o->seed = (unsigned long long)(t.tv_nsec ^ t.tv_sec) % 1000000;
    for (int i = 1; i < argc; i++) {
        long long v;
        if (strncmp(argv[i], "--kernel=", 9) == 0)
            o->kernel = argv[i] + 9;
        else if (strncmp(argv[i], "--tier=", 7) == 0)
            o->tier = argv[i] + 7;
        else if (strncmp(argv[i], "--seed=", 7) == 0 && b2_parse_int(argv[i] + 7, 0, INT64_MAX, &v))
            o->seed = (unsigned long long)v;
        else if (strncmp(argv[i], "--json=", 7) == 0)
            o->json = argv[i] + 7;
        else if (strcmp(argv[i], "--once") == 0)
            o->once = true;
        else if (strcmp(argv[i], "--bench") == 0)
            o->bench = true;
        else if (strcmp(argv[i], "--list") == 0)
            o->list = true;
        else {
            fprintf(
                stderr,
                "check_kernels: %s: not an option; usage: check_kernels [--kernel=PATTERN] [--tier=PATTERN] "
                "[--seed=N] [--once] [--bench] [--json=FILE] [--list]\n",
                argv[i]);
            return false;
        }
    }
    return true;
}

static bool open_pools(ck *c)
{
    blip2_error e = BLIP2_ERROR_INIT;
    for (int i = 0; i < 4; i++) {
        if (b2_pool_open(&c->pool[i], i, &e) == BLIP2_OK) continue;
        fprintf(stderr, "check_kernels: %s\n", e.text);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static ck_tier tiers[CK_TIERS];
    ck *c = ck_take(sizeof *c); /* kernels read its step */
    options o = {0};
    count n = {0};
    if (!parse(argc, argv, &o)) return 2;
    for (size_t i = 0; o.list && i < LINES; i++) printf("%s\n", lines[i].name);
    if (o.list) return 0;
    memset(c, 0, sizeof *c);
    c->tier = tiers;
    if (!open_pools(c)) return 2;
    printf("seed %llu\n", o.seed);
    open_tiers(c, &o, &n);
    open_cuda(c, &o);
    c->bench = o.bench;
    c->once = o.once;
    if (o.json && !(c->json = fopen(o.json, "w"))) {
        perror(o.json);
        return 2;
    }
    if (c->bench) ck_probe(c);
    int ran = 0;
    for (size_t i = 0; i < LINES; i++) {
        if (!matches(o.kernel, lines[i].name)) continue;
        check_line(c, &lines[i], &o, &n);
        ran++;
    }
    if (!o.kernel) find_strays(&n);
    if (!o.kernel && !o.bench) {
        const int missed = ck_self_test(c);
        printf("self-test: %s\n", missed ? "planted faults were NOT found" : "every planted fault was found");
        n.failed += missed;
        n.passed += missed == 0;
    }
    if (!ran) printf("no kernel matches %s\n", o.kernel);
    name_ref_slots(c, &o);
    for (int i = 0; i < 4; i++) b2_pool_close(c->pool[i]);
    const bool written = !c->json || fclose(c->json) == 0;
    ck_give(c);
    if (!written) perror(o.json);
    printf("%d passed, %d failed, %d skipped\n", n.passed, n.failed, n.skipped);
    return n.failed || !ran || !written;
}
