/* Workspaces never shrink when rows grow: what is planned for the largest batch holds every smaller one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "kernels/kernels.h"

enum { ROWS = 700, SHAPES = 5 };
static const int outs[SHAPES] = {1, 8, 128, 384, 2048}, ins[SHAPES] = {8, 1, 128, 300, 640};

static void expect_growth(const char *what, b2_isa isa, int t, int rows, size_t now, size_t *before)
{
    if (now < *before)
        fail_msg("%s, %s, table %d: %d rows want %zu bytes, fewer rows %zu", what, b2_isa_name(isa), t, rows,
                 now, *before);
    *before = now;
}

static void products(const b2_kernels *k, b2_isa isa, int t, int n, int in, int threads)
{
    size_t fwd = 0, dx = 0, dw = 0, norm = 0;
    for (int m = 0; m <= ROWS; m++) {
        expect_growth("gemm", isa, t, m, k->gemm_ws(m, n, in, threads), &fwd);
        expect_growth("gemm_dx", isa, t, m, k->gemm_dx_ws(m, n, in, threads), &dx);
        expect_growth("gemm_dw", isa, t, m, k->gemm_dw_ws(m, n, in, threads), &dw);
        expect_growth("norm_bwd", isa, t, m, k->norm_bwd_ws(m, in, threads), &norm);
    }
}

/* With dropout and without. */
static void lora(const b2_kernels *k, b2_isa isa, int t, int n, int in, int threads)
{
    for (int drops = 0; drops < 2; drops++) {
        size_t fwd = 0, bwd = 0;
        b2_lora l = {.blocks = 2, .per_item = 1, .k = in};
        for (int b = 0; b < 2; b++) {
            l.block[b] = (b2_lora_block){.c0 = b * n, .n = n, .drop = drops ? 0.1f : 0};
            l.block[b].ab[0].r = 8;
        }
        for (; l.items <= ROWS; l.items++) {
            expect_growth("lora_fwd", isa, t, l.items, k->lora_fwd_ws(&l, threads), &fwd);
            expect_growth("lora_bwd", isa, t, l.items, k->lora_bwd_ws(&l, threads), &bwd);
        }
    }
}

static void attention(const b2_kernels *k, b2_isa isa, int t)
{
    size_t fwd = 0, bwd = 0;
    for (int rows = 1; rows <= 300; rows++) {
        const b2_attn a = {
            .batch = 1 + rows / 50, .heads = 3, .dim = 32, .tq = rows, .tk = rows, .krows = rows};
        expect_growth("attn_fwd", isa, t, rows, k->attn_fwd_ws(&a, 2), &fwd);
        expect_growth("attn_bwd", isa, t, rows, k->attn_bwd_ws(&a, 2), &bwd);
    }
}

static void test_growth(void **state)
{
    (void)state;
    for (int isa = 0; isa < B2_ISA_COUNT; isa++) {
        b2_kernels t[2];
        if (!b2_isa_available((b2_isa)isa)) continue;
        b2_cpu_tables(t, (b2_isa)isa);
        for (int i = 0; i < 2; i++) {
            attention(&t[i], (b2_isa)isa, i);
            for (int s = 0; s < SHAPES; s++) {
                products(&t[i], (b2_isa)isa, i, outs[s], ins[s], 1 + s % 3);
                lora(&t[i], (b2_isa)isa, i, outs[s], ins[s], 1 + s % 3);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_growth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
