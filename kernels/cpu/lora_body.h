/* LoRA as two products for each run of items that share an adapter; body of lora_tmpl_<isa>.c. */
#include "kernels/act.h"
#include "kernels/cpu/cpu_tiers.h"
#include "kernels/cpu/gemm_few.h"

/* The largest workspace that gemm wants for any number of rows up to m: each of its ways grows with m. */
static size_t gemm_room(size_t (*ws)(int, int, int, int), int m, int n, int k, int threads)
{
    const int least[] = {m, m < B2_SMALL_ROWS ? m : B2_SMALL_ROWS - 1, m < B2_FEW_ROWS ? m : B2_FEW_ROWS};
    size_t most = 0;
    for (int i = 0; i < 3; i++) {
        const size_t bytes = ws(least[i], n, k, threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

static void run_of_rows(b2_queue *q, float *y, int ldy, float *u, const act_t *x, const b2_lora_ab *l,
                        int rows, int n, int k, void *ws)
{
    const b2_rows a = {l->a, NULL, l->r, NULL}, b = {l->b, NULL, n, NULL};
    TIER_FN(gemm_wf32)(q, u, l->r, x, &a, 1, rows, k, 1, 0, ws);
    F32_FN(gemm_wf32)(q, y, ldy, u, &b, 1, rows, l->r, l->scale, 1, ws);
}

void TIER_FN(lora_fwd)(b2_queue *q, float *y, int ldy, float *u, const void *x, const b2_lora_ab *set,
                       int nset, const int32_t *which, int items, int per_item, int n, int k, void *ws)
{
    int rmax = 0, next;
    for (int i = 0; i < nset; i++) rmax = set[i].r > rmax ? set[i].r : rmax;
    const size_t room = b2_line((size_t)items * (size_t)per_item * (size_t)rmax);
    for (int i = 0; i < items; i = next) {
        const int32_t a = which ? which[i] : 0;
        for (next = i + 1; next < items && (!which || which[next] == a);) next++;
        if (a < 0 || set[a].r == 0) continue;
        const size_t row = (size_t)i * (size_t)per_item;
        run_of_rows(q, y + row * (size_t)ldy, ldy, u ? u + row * (size_t)set[a].r : ws,
                    (const act_t *)x + row * (size_t)k, &set[a], (next - i) * per_item, n, k,
                    (float *)ws + room);
    }
}

size_t TIER_FN(lora_ws)(int m, int n, int k, int rmax, int threads)
{
    const size_t first = gemm_room(TIER_FN(gemm_ws), m, rmax, k, threads),
                 second = gemm_room(F32_FN(gemm_ws), m, n, rmax, threads);
    return b2_line((size_t)m * (size_t)rmax) * sizeof(float) + (first > second ? first : second);
}
