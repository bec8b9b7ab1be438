/* What this CPU can do (cpuid, and xgetbv for what the system saves), and which tier is taken. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/kernels.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[B2_ISA_COUNT] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};

const char *b2_isa_name(b2_isa i) { return (unsigned)i < B2_ISA_COUNT ? names[i] : "unknown"; }

bool b2_isa_parse(const char *name, b2_isa *out)
{
    for (int i = 0; i < B2_ISA_COUNT; i++)
        if (!strcmp(name, names[i])) {
            *out = (b2_isa)i;
            return true;
        }
    return false;
}

#if defined(__x86_64__)
typedef struct regs {
    unsigned a, b, c, d;
} regs;

static regs leaf(unsigned number, unsigned sub)
{
    regs r = {0};
    if (!__get_cpuid_count(number, sub, &r.a, &r.b, &r.c, &r.d)) r = (regs){0};
    return r;
}

/* Register state that the operating system saves: XCR0, 0 without OSXSAVE. */
static unsigned saved_state(void)
{
    unsigned low = 0, high = 0;
    if (leaf(1, 0).c & bit_OSXSAVE) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(unsigned bits, unsigned want) { return (bits & want) == want; }

bool b2_isa_available(b2_isa i)
{
    const unsigned state = saved_state();
    const regs one = leaf(1, 0), seven = leaf(7, 0), more = leaf(7, 1);
    const unsigned tiles = 1u << 24 | 1u << 25 | 1u << 22; /* AMX-TILE, AMX-INT8, AMX-BF16 in edx */
    const bool avx2 = has(state, 0x6) && has(one.c, bit_FMA | bit_AVX | bit_F16C) && has(seven.b, bit_AVX2);
    const bool avx512 =
        avx2 && has(state, 0xE6) && has(seven.b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
    const bool bf16 = avx512 && has(more.a, 1u << 5) && has(seven.c, 1u << 11); /* and VNNI */
    switch (i) {
    case B2_ISA_REF: return true;
    case B2_ISA_AVX2: return avx2;
    case B2_ISA_AVX512: return avx512;
    case B2_ISA_AVX512BF16: return bf16;
    case B2_ISA_AMX: return bf16 && has(state, 0x60000) && has(seven.d, tiles);
    default: return false;
    }
}

static void read_brand(char text[48])
{
    for (unsigned i = 0; i < 3; i++) {
        regs r = {0};
        if (!__get_cpuid(0x80000002u + i, &r.a, &r.b, &r.c, &r.d)) return;
        memcpy(text + 16 * i, &r, 16);
    }
}
#else
bool b2_isa_available(b2_isa i) { return i == B2_ISA_REF; }

static void read_brand(char text[48]) { (void)text; }
#endif

/* `amx` holds no kernel of its own yet, so the tier below it is named. */
b2_isa b2_isa_best(void)
{
    b2_isa limit = B2_ISA_AVX512BF16, wanted;
    const char *asked = getenv("BLIP2_CPU_ISA");
    if (asked && b2_isa_parse(asked, &wanted)) limit = wanted;
    int i = (int)limit;
    while (i > B2_ISA_REF && !b2_isa_available((b2_isa)i)) i--;
    return (b2_isa)i;
}

/* A constant of the machine, read once. */
static char cpu_name[49];
static pthread_once_t name_once = PTHREAD_ONCE_INIT;

static void make_name(void)
{
    char text[49] = {0};
    read_brand(text);
    size_t n = strlen(text);
    while (n && text[n - 1] == ' ') text[--n] = 0;
    const char *from = text + strspn(text, " ");
    memcpy(cpu_name, *from ? from : "unknown CPU", strlen(*from ? from : "unknown CPU") + 1);
}

const char *b2_cpu_name(void)
{
    pthread_once(&name_once, make_name);
    return cpu_name;
}
