/* check_kernels: checks every line of kernels.def on every CPU tier of this machine, or times it (--bench).
 * Exit status 1 when something failed. */
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

static const ck_check *const families[] = {ck_linear, ck_lora,  ck_norm, ck_act,   ck_dropout, ck_attention,
                                           ck_cache,  ck_embed, ck_loss, ck_optim, ck_quantise};
#define FAMILIES (sizeof families / sizeof families[0])

static const char usage[] = "usage: check_kernels [--kernel=PATTERN] [--tier=PATTERN] [--shape=PATTERN] "
                            "[--dtype=f32|bf16] [--seed=N] [--once]\n"
                            "       [--list]; timing: --bench [--batch=N,N...] [--repeats=N] [--small] "
                            "[--profile] [--json=FILE] [--commit=NAME]\n"
                            "PATTERN: part of a name, or a shell pattern\n";

#define BATCHES 8
#define REPEATS 101 /* at most */
typedef struct options {
    const char *kernel, *tier, *shape, *dtype, *commit;
    unsigned long long seed;
    const char *json;
    int batch[BATCHES], batches, repeats;
    bool seeded, bench, list, once, small, profile;
} options;

typedef struct count {
    int passed, failed, skipped;
} count;

bool ck_matches(const char *pattern, const char *text)
{
    if (!pattern) return true;
    return strpbrk(pattern, "*?[") ? fnmatch(pattern, text, 0) == 0 : strstr(text, pattern) != NULL;
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
    if (c->timed && ok) return;
    printf("%-13s %-4s %-10s %4d cases", c->check->name, c->dtype ? "bf16" : "f32", t->name, t->stat.cases);
    if (!c->timed) {
        printf("  error %8.2e to double, %8.2e to ref, limit %7.1e", t->stat.worst_double, t->stat.worst_ref,
               c->check->limit[c->dtype]);
    }
    if (ok)
        printf("  ok\n");
    else
        printf("  FAILED in %d\n", t->stat.failed);
}

/* A bench has a pass for every batch. */
static void run_passes(ck *c, const options *o)
{
    c->cases = 0;
    for (int i = 0; i < (c->bench ? o->batches : 1); i++) {
        c->batch = c->bench ? o->batch[i] : 0;
        c->first_batch = i == 0;
        seed_case(c, o);
        c->check->run(c);
    }
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
        if (o->dtype && strcmp(o->dtype, c->dtype ? "bf16" : "f32")) continue;
        for (int i = 0; i < CK_TIERS; i++) c->tier[i].stat = (ck_stat){0};
        run_passes(c, o);
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
        t->selected = t->available && ck_matches(o->tier, t->name) && (i > 0 || !o->bench || o->tier);
        if (t->available) {
            if (i == B2_ISA_REF)
                b2_ref_tables(t->table);
            else
                b2_cpu_tables(t->table, (b2_isa)i);
        } else if (ck_matches(o->tier, t->name)) {
            printf("tier %s: skipped, not on this machine\n", t->name);
            n->skipped++;
        }
    }
}

/* Times are of cuDNN too where it is at hand, asked for or not. */
static void open_cuda(ck *c, const options *o)
{
    ck_tier *t = &c->tier[CK_CUDA];
    if (o->bench && !o->profile) setenv("BLIP2_CUDNN", "1", 0);
    t->name = "cuda";
    t->available = ck_cuda_tables != NULL;
    t->selected = t->available && ck_matches(o->tier, t->name);
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
        if (lines[i].ws || !ck_matches(o->kernel, lines[i].name)) continue;
        const bool f32 = same_slot(c, best, B2_F32, lines[i].at),
                   bf16 = same_slot(c, best, B2_BF16, lines[i].at);
        if (!f32 && !bf16) continue;
        if (!names++) printf("still ref in the best tier (%s):", c->tier[best].name);
        printf(" %s%s", lines[i].name, f32 && bf16 ? "" : f32 ? "(f32)" : "(bf16)");
    }
    if (names) printf("\n");
}

/* --batch=1,16,64 */
static bool parse_batches(const char *text, options *o)
{
    char *end = NULL;
    for (o->batches = 0; o->batches < BATCHES; text = end + 1) {
        const long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > 1024 || (*end && *end != ',')) return false;
        o->batch[o->batches++] = (int)v;
        if (!*end) return true;
    }
    return false;
}

/* --name=text */
static bool parse_text(const char *arg, const char *name, const char **out)
{
    const size_t n = strlen(name);
    if (strncmp(arg, name, n) || arg[n] != '=') return false;
    *out = arg + n + 1;
    return true;
}

static bool parse_number(const char *arg, const char *name, long long least, long long most, long long *out)
{
    const char *text;
    return parse_text(arg, name, &text) && b2_parse_int(text, least, most, out);
}

static bool parse_switch(const char *arg, options *o)
{
    const struct {
        const char *name;
        bool *to;
    } all[] = {{"--once", &o->once},
               {"--bench", &o->bench},
               {"--list", &o->list},
               {"--small", &o->small},
               {"--profile", &o->profile}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(arg, all[i].name) == 0) return *all[i].to = true;
    }
    return false;
}

static bool parse_option(const char *arg, options *o)
{
    const char *text;
    long long v;
    if (parse_text(arg, "--kernel", &o->kernel) || parse_text(arg, "--tier", &o->tier) ||
        parse_text(arg, "--shape", &o->shape) || parse_text(arg, "--json", &o->json) ||
        parse_text(arg, "--commit", &o->commit))
        return true;
    if (parse_text(arg, "--dtype", &o->dtype))
        return strcmp(o->dtype, "f32") == 0 || strcmp(o->dtype, "bf16") == 0;
    if (parse_text(arg, "--batch", &text)) return parse_batches(text, o);
    if (parse_number(arg, "--seed", 0, INT64_MAX, &v)) {
        o->seed = (unsigned long long)v;
        return o->seeded = true;
    }
    if (parse_number(arg, "--repeats", 1, REPEATS, &v)) {
        o->repeats = (int)v;
        return true;
    }
    return parse_switch(arg, o);
}

static bool parse(int argc, char **argv, options *o)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    *o = (options){.seed = (unsigned long long)(t.tv_nsec ^ t.tv_sec) % 1000000,
                   .repeats = REPEATS,
                   .commit = "unknown"};
    for (int i = 1; i < argc; i++) {
        if (parse_option(argv[i], o)) continue;
        fprintf(stderr, "check_kernels: %s: not an option, or not a value of it\n%s", argv[i], usage);
        return false;
    }
    if (o->bench && !o->seeded) o->seed = 1; /* the same cases for everybody who compares */
    if (!o->bench && (o->batches || o->small || o->profile || o->json)) {
        fprintf(stderr, "check_kernels: --batch, --small, --profile and --json go with --bench\n%s", usage);
        return false;
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

/* A CPU is given one item unless asked otherwise, a GPU what it is made for. */
static void choose_batches(const ck *c, options *o)
{
    static const int usual[] = {1, 16, 64};
    if (o->batches) return;
    o->batches = c->tier[CK_CUDA].selected ? 3 : 1;
    memcpy(o->batch, usual, sizeof usual);
}

static bool open_bench(ck *c, options *o)
{
    choose_batches(c, o);
    c->timed = o->bench;
    c->bench = o->bench && !o->small;
    c->profile = o->profile;
    c->repeats = o->repeats;
    c->commit = o->commit;
    if (o->json && !(c->json = fopen(o->json, "w"))) {
        perror(o->json);
        return false;
    }
    if (c->timed) ck_ceilings(c);
    return true;
}

static void run_lines(ck *c, const options *o, count *n)
{
    for (size_t i = 0; i < LINES; i++) {
        if (ck_matches(o->kernel, lines[i].name)) check_line(c, &lines[i], o, n);
    }
    const bool ran = c->ran > 0;
    if (!o->kernel) find_strays(n);
    if (!o->kernel && !o->bench) {
        const int missed = ck_self_test(c);
        printf("self-test: %s\n", missed ? "planted faults were NOT found" : "every planted fault was found");
        n->failed += missed;
        n->passed += missed == 0;
    }
    if (!ran) {
        printf("no case of kernel %s, type %s, shape %s\n", o->kernel ? o->kernel : "*",
               o->dtype ? o->dtype : "*", o->shape ? o->shape : "*");
        n->failed++;
    }
}

static void close_all(ck *c)
{
    for (int i = 0; i < 4; i++) b2_pool_close(c->pool[i]);
    free(c->flush);
    ck_give(c);
}

int main(int argc, char **argv)
{
    static ck_tier tiers[CK_TIERS];
    options o;
    count n = {0};
    if (!parse(argc, argv, &o)) return 2;
    for (size_t i = 0; o.list && i < LINES; i++) printf("%s\n", lines[i].name);
    if (o.list) return 0;
    ck *c = ck_take(sizeof *c); /* kernels read its step */
    memset(c, 0, sizeof *c);
    c->tier = tiers;
    if (!open_pools(c)) return 2;
    printf("seed %llu\n", o.seed);
    open_tiers(c, &o, &n);
    open_cuda(c, &o);
    c->once = o.once;
    c->shape = o.shape;
    if (!open_bench(c, &o)) {
        close_all(c);
        return 2;
    }
    run_lines(c, &o, &n);
    if (!c->timed) name_ref_slots(c, &o);
    const bool written = !c->json || fclose(c->json) == 0;
    close_all(c);
    if (!written) perror(o.json);
    printf("%d passed, %d failed, %d skipped\n", n.passed, n.failed, n.skipped);
    return n.failed || !written;
}
