/* Products of few rows with quantised weights, AVX2; and x in fixed point, for every tier. */
#include <math.h>
#include <string.h>
#include "kernels/cpu/simd_avx2.h"
#define QUANT_DOT(acc, a, b) _mm256_add_epi32(acc, _mm256_madd_epi16(a, b))
#include "kernels/cpu/few_quant_body.h"

/* n <= 64 numbers in fixed point; the step: a power of two, 0 when all are zeros, NaN when one is not
 * finite. */
static float fix(int16_t *to, const uint16_t *x, int n)
{
    float v[GROUP_COLUMNS] = {0}, inverse;
    uint32_t worst = 0;
    int e;
    for (int i = 0; i < n; i++) {
        const uint32_t size = x[i] & 0x7FFFu;
        worst = size > worst ? size : worst;
        v[i] = b2_bf16_to_f32(x[i]);
    }
    memset(to, 0, GROUP_COLUMNS * sizeof *to);
    if (worst >= 0x7F80) return NAN;
    if (worst == 0) return 0;
    frexpf(b2_bf16_to_f32((b2_bf16)worst), &e);
    inverse = ldexpf(1, 15 - e > 126 ? 126 : 15 - e);
    for (int i = 0; i < GROUP_COLUMNS; i++) to[i] = (int16_t)lrintf(v[i] * inverse);
    return 1 / inverse;
}

void b2_few_fix(const b2_few *f, const uint16_t *x, int row)
{
    float *step = (float *)(uintptr_t)f->x;
    int16_t *to = b2_few_fixed(f);
    for (int g = 0; g < b2_few_groups(f->k); g++) {
        const int n = f->k - g * GROUP_COLUMNS;
        const size_t at = (size_t)g * (size_t)f->m + (size_t)row;
        step[at] = fix(to + at * GROUP_COLUMNS, x + g * GROUP_COLUMNS, n < GROUP_COLUMNS ? n : GROUP_COLUMNS);
    }
}
