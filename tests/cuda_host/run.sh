#!/bin/sh
# The CUDA kernels on the host: the emulation's own self-test, then every kernel against the reference in four schedules (the
# first one with three counts of multiprocessors, whose bits must agree), and those slots by the stand-ins for vendors' libraries that
# these take.
# OBJ names the folder of the programs.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 skipped=0
out=$OBJ/logs/cuda_host.txt

# one NAME command...: its output's last line has the counts.
one() {
    name=$1 && shift
    "$@" >"$out" 2>&1
    rc=$?
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$out" | tail -n 1)
    if [ $rc != 0 ] || [ -z "$line" ]; then
        echo "---- $name: exit status $rc"
        tail -n 30 "$out"
    fi
    set -- ${line:-0 passed, 1 failed, 0 skipped}
    f=${3:-1}
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; fi
    passed=$((passed + $1)) failed=$((failed + f))
    skipped=$((skipped + $5))
}

# asked PATTERN command...: that, and the emulation's report of what its stand-ins were given has the pattern (eight kinds of products:
# forward, dx and dw, of f32 and of bf16, and forward and dx to bf16).
asked() {
    pattern=$1 && shift
    EMU_REPORT="$out.report" "$@" || return
    grep -q "$pattern" "$out.report" || { echo "not \"$pattern\": $(cat "$out.report")" && return 1; }
}

export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
one self-test "$OBJ/planted_faults"
# What the stand-ins do, word for word: the text that a GPU must reproduce (tests/gpu/run.sh).
if "$OBJ/conformance_host" >"$out" && diff tests/gpu/conformance.txt "$out"; then
    passed=$((passed + 1))
else
    echo "---- tests/gpu/conformance.txt is not what this build says" && failed=$((failed + 1))
fi
if [ -n "${SAN:-}" ]; then # bounds do not depend on the schedule
    one forward "$OBJ/check_cuda_host" --tier=cuda --once --seed=1
else
    one forward "$OBJ/check_cuda_host" --tier=cuda --seed=1
    one reverse env EMU_ORDER=reverse "$OBJ/check_cuda_host" --tier=cuda --once --seed=2
    one random env EMU_ORDER=random EMU_SEED=3 "$OBJ/check_cuda_host" --tier=cuda --once --seed=3
    one cublaslt asked 'products 8 ' env EMU_CUBLAS=1 "$OBJ/check_cuda_host" --tier=cuda --once --kernel=gemm --seed=5
    one cudnn asked 'attentions [1-9]' env EMU_CUDNN=1 BLIP2_CUDNN=1 "$OBJ/check_cuda_host" --tier=cuda --once --kernel=attn_fwd --seed=5
    one greedy env EMU_GREEDY=1 EMU_EARLY=1 "$OBJ/check_cuda_host" --tier=cuda --once --seed=4
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
