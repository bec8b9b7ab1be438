/* What an operation of a warp gives each lane, from what all lanes brought. Part of emu_core.cc. */
#ifndef B2_TESTS_CUDA_HOST_EMU_WARP_H
#define B2_TESTS_CUDA_HOST_EMU_WARP_H
#include "tests/cuda_host/emu.h"

static float bf16(uint32_t pair, int high)
{
    const __nv_bfloat16 x = {(uint16_t)(high ? pair >> 16 : pair)};
    return __bfloat162float(x);
}

static void shuffle(emu_op *const op[32], int lane)
{
    emu_op *o = op[lane];
    const int base = lane & ~(o->width - 1), last = base + o->width - 1;
    int from = o->kind == EMU_SHFL        ? base + (o->arg & (o->width - 1))
               : o->kind == EMU_SHFL_UP   ? lane - o->arg
               : o->kind == EMU_SHFL_DOWN ? lane + o->arg
                                          : lane ^ o->arg;
    if (from < base || from > last) from = lane;
    for (int i = 0; i < 2; i++)
        o->result[i] =
            op[from] ? op[from]->value[i] : ~0ull; /* a lane that is not there: nothing plausible */
}

/* Matrix m takes its rows from lanes 8m to 8m+7; a lane gets elements 2t, 2t+1 of row g, or (2t, g),
 * (2t+1, g) when turned. */
static void ldmatrix(emu_op *const op[32], int lane, bool turned)
{
    const int g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; m++) {
        uint16_t two[2];
        for (int i = 0; i < 2; i++) {
            const int row = turned ? 2 * t + i : g, column = turned ? g : 2 * t + i;
            memcpy(&two[i], (const char *)op[8 * m + row]->value + 2 * column, 2);
        }
        op[lane]->a[m] = two[0] | (uint32_t)two[1] << 16;
    }
}

static void mma(emu_op *const op[32])
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 2; i++) {
            for (int r = 0; r < 4; r++) a[g + 8 * (r % 2)][2 * t + i + 8 * (r / 2)] = bf16(op[lane]->a[r], i);
            for (int r = 0; r < 2; r++) b[2 * t + i + 8 * r][g] = bf16(op[lane]->b[r], i);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int r = 0; r < 4; r++) {
            float sum = op[lane]->d[r];
            for (int k = 0; k < 16; k++) sum += a[g + 8 * (r / 2)][k] * b[k][2 * t + r % 2];
            op[lane]->d[r] = sum;
        }
    }
}

static void compute(emu_op *const op[32])
{
    int any = 0;
    unsigned votes = 0;
    while (!op[any]) any++;
    const emu_kind kind = op[any]->kind;
    for (int i = 0; i < 32; i++) votes |= op[i] && op[i]->value[0] ? 1u << i : 0;
    if (kind == EMU_MMA) mma(op);
    for (int i = 0; i < 32; i++) {
        if (!op[i]) continue;
        if (kind <= EMU_SHFL_XOR) shuffle(op, i);
        if (kind == EMU_BALLOT) op[i]->result[0] = votes;
        if (kind == EMU_LDMATRIX || kind == EMU_LDMATRIX_TRANS) ldmatrix(op, i, kind == EMU_LDMATRIX_TRANS);
    }
}
#endif
