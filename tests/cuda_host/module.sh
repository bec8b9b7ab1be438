#!/bin/sh
# The whole CUDA module on the host: the library opens it, and the golden tests (activations, logits, gradients, losses, tokens, bf16's distance, plans)
# and those of sessions run on its "GPU", whose memory the host cannot touch except by copies. OBJ names the folder of the
# programs; BLIP2_TEST_ONLY is a pattern of tests' names.
set -u
export BLIP2_TEST_DEVICE=cuda:0 BLIP2_MODULE_DIR="${OBJ:?}/emu" ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
training=$OBJ/logs/cuda_training.txt attentions=$OBJ/logs/cuda_attentions.txt
rc=0
# Training beside the rest: one of the three models, for its steps take a thousand times a GPU's time; most products by the
# stand-in for cuBLASLt, our own train in tests/cli/cuda.bats.
if [ -z "${SAN:-}" ]; then
    EMU_LATE=1 EMU_CUBLAS=2 BLIP2_TEST_ONLY='*old' "$OBJ/tests/golden/golden_train" >"$training" 2>&1 &
fi
"$OBJ/tests/golden/golden_model" || rc=1
EMU_CUBLAS=2 "$OBJ/tests/golden/golden_model" || rc=1 # its products by the stand-in for cuBLASLt
"$OBJ/tests/golden/golden_stages" || rc=1
BLIP2_TEST_ONLY='*relu' BLIP2_TEST_KIND='lora everywhere' EMU_CUBLAS=2 "$OBJ/tests/golden/golden_gradients" || rc=1 # training in bf16
# The pictures' attention, in bf16, by the stand-in for cuDNN besides.
by_cudnn() {
    env EMU_REPORT="$attentions" EMU_CUBLAS=2 EMU_CUDNN=2 BLIP2_CUDNN=1 "$@" || rc=1
    grep -q ' attentions [1-9]' "$attentions" || { echo "[  FAILED  ] $*: cuDNN was not asked: $(cat "$attentions")" && rc=1; }
}
by_cudnn "$OBJ/tests/golden/golden_stages"
# What the host overwrites too early, copies find overwritten.
EMU_LATE=1 "$OBJ/tests/unit/test_session" || rc=1
by_cudnn EMU_LATE=1 BLIP2_TEST_ONLY='*same_bits' "$OBJ/tests/unit/test_session"
if [ -z "${SAN:-}" ]; then
    wait $! || rc=1
    cat "$training"
fi
exit $rc
