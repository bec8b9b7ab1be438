#!/bin/sh
# The whole CUDA module on the host: the library opens it, and the golden tests (activations, logits, gradients, losses, tokens)
# run on its "GPU", whose memory the host cannot touch except by copies. OBJ names the folder of the programs.
set -u
export BLIP2_TEST_DEVICE=cuda:0 BLIP2_MODULE_DIR="${OBJ:?}/emu" ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
training=$OBJ/logs/cuda_training.txt
if [ -z "${SAN:-}" ]; then # its kernels are those of the other one, at six times the steps
    "$OBJ/tests/golden/golden_train" >"$training" 2>&1 &
fi
"$OBJ/tests/golden/golden_model"
rc=$?
if [ -z "${SAN:-}" ]; then
    wait $! || rc=1
    cat "$training"
fi
exit $rc
