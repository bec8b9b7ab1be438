/* The slots that both AVX2 and AVX-512 fill, from shared bodies; the including table file says what TAKE does. */
TAKE(gemm_wf32)
TAKE(gemm_wbf16)
TAKE(gemm_ws)
TAKE(gemm_dx_wf32)
TAKE(gemm_dx_wbf16)
TAKE(gemm_dx_ws)
TAKE(gemm_dw)
TAKE(gemm_dw_ws)
