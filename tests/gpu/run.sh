#!/bin/sh
# Everything that is to be seen on a GPU, in one command and without network or compiler: `make gpu-check` builds what this needs
# and calls it; a tree built elsewhere may be carried over and this run alone.
#   BUILD=build sh tests/gpu/run.sh
# Ends with `N passed, N failed, N skipped`; times go to bench/results/<device>-<commit>.jsonl: those of the bf16 table, of our own
# kernels and of the libraries that take a case, or of what BENCH says (options of the check tool: BENCH="--kernel=gemm --batch=1");
# of a flan-t5-xl with random weights, made here; and of transformers and PEFT on the same model, where PYTHON has them and sees the
# GPU. NO_BENCH=1 leaves all that out.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build} gpu=${BUILD:-build}/gpu
case $build in /*) ;; *) build=$PWD/$build gpu=$PWD/$gpu ;; esac
export BLIP2_MODULE_DIR="$build/lib/blip2" BLIP2_TEST_DEVICE="${GPU:-cuda:0}"
# A machine without the libraries that these programs are linked with: they were carried along.
if ldd "$gpu/vqa" "$gpu/golden_model" | grep -q "not found"; then export LD_LIBRARY_PATH="$gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; fi
passed=0 failed=0 skipped=0
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)) && echo "FAILED: $*"; }

# step NAME command...: counts what its output reports, or itself.
step() {
    name=$1 && shift
    begin=$(date +%s)
    "$@" >"$work/log" 2>&1
    rc=$?
    set -- $(awk '/^\[ +OK +\]/ { p++ } /^\[ +FAILED +\]/ { f++ } /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
        END { print p + 0, f + 0, s + 0 }' "$work/log")
    if [ $rc != 0 ] && [ "$2" = 0 ]; then set -- "$1" 1 "$3"; fi
    if [ $rc = 0 ] && [ $(($1 + $2 + $3)) = 0 ]; then set -- 1 0 0; fi
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    echo "$name: $1 passed, $2 failed, $3 skipped in $(($(date +%s) - begin)) s"
    if [ "$2" != 0 ]; then tail -n 60 "$work/log"; fi
}

conformance() { "$gpu/conformance" >"$work/conformance" && diff tests/gpu/conformance.txt "$work/conformance"; }

answers() {
    "$gpu/vqa" --model examples/fashion-tiny --image tests/golden/images/a.png --image tests/golden/images/b.png \
        --question "What is the article type of the product in this picture?" --json --dtype "$2" --device "$1" |
        sed 's/, "logprob".*//'
}
same_answers() { answers cpu "$1" >"$work/a" && answers "$BLIP2_TEST_DEVICE" "$1" >"$work/b" && [ -s "$work/a" ] && cmp "$work/a" "$work/b"; }

# Four steps of LoRA with dropout, 12 losses with accumulation: OUT, then more options.
train() {
    out=$work/$1 && shift
    rm -rf "$out"
    "$gpu/train_fashion" --model tests/golden/old/model --images tests/golden/images --train tests/golden/rows.csv --output "$out" \
        --batch-size 2 --accumulate 2 --max-steps 12 --lora-dropout 0.2 --dropout 0.1 --log-every 1 --sample-every 0 --seed 5 "$@" >/dev/null
}
losses() { sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' "$work/$1/metrics.jsonl"; }
# near A B LIMIT: the same number of losses, none further from the other than LIMIT of itself.
near() {
    losses "$1" >"$work/x" && losses "$2" >"$work/y" && paste "$work/x" "$work/y" |
        awk -v limit="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (!($1 > 0 && d <= limit * $1)) bad = 1; n++ } END { exit bad || n < 12 }'
}
training_f32() { train cpu --dtype f32 && train gpu --dtype f32 --device "$BLIP2_TEST_DEVICE" && near cpu gpu 1e-4; }
recorded_is_eager() {
    BLIP2_CUDA_GRAPHS=0 train eager --dtype "$1" --device "$BLIP2_TEST_DEVICE" &&
        train recorded --dtype "$1" --device "$BLIP2_TEST_DEVICE" && cmp "$work/eager/adapter_model.safetensors" "$work/recorded/adapter_model.safetensors"
}
training_int8() { train cpu --dtype int8 && train gpu --dtype int8 --device "$BLIP2_TEST_DEVICE" && near cpu gpu 5e-3; }

step conformance conformance
BLIP2_CUDNN=1 "$gpu/check_cuda" --tier=cuda --once --kernel=cast | grep '^cuda:' >"$work/device"
# by NAME WHAT command...: a step by a vendor's library, where the device's description names it as WHAT's.
by() {
    name=$1 what=$2 && shift 2
    if grep -q "$what" "$work/device"; then
        step "$name" "$@"
    elif grep -q "${what%%:*}: our own" "$work/device"; then
        echo "skipped $name: no \"$what\": $(cat "$work/device")"
        skipped=$((skipped + 1))
    else
        step "$name" grep "$what" "$work/device" # neither: a fault
    fi
}

step kernels-own env BLIP2_CUBLAS=0 "$gpu/check_cuda" --tier=cuda
by kernels-cublaslt "products: cuBLASLt" "$gpu/check_cuda" --tier=cuda --kernel=gemm
by kernels-cudnn "attention: cuDNN" env BLIP2_CUDNN=1 "$gpu/check_cuda" --tier=cuda --kernel=attn_fwd
step golden-model "$gpu/golden_model"
step golden-stages "$gpu/golden_stages"
by golden-stages-cudnn "attention: cuDNN" env BLIP2_CUDNN=1 "$gpu/golden_stages"
step golden-train "$gpu/golden_train"
step golden-gradients "$gpu/golden_gradients"
step answers-f32 same_answers f32
step answers-int8 same_answers int8
step answers-int4 same_answers int4
step training-f32 training_f32
step recorded-f32 recorded_is_eager f32
step recorded-bf16 recorded_is_eager bf16
recorded_by_cudnn() { BLIP2_CUDNN=1 recorded_is_eager bf16; }
by recorded-cudnn "attention: cuDNN" recorded_by_cudnn
step training-int8 training_int8
if command -v compute-sanitizer >/dev/null; then
    step sanitizer compute-sanitizer --error-exitcode 9 "$gpu/check_cuda" --tier=cuda --once --kernel=attn_fwd
else
    echo "skipped sanitizer: no compute-sanitizer here"
    skipped=$((skipped + 1))
fi
if [ -z "${NO_BENCH:-}" ]; then
    device=$("$gpu/check_cuda" --tier=cuda --once --kernel=cast | sed -n 's/^cuda:[0-9]*: \([^,]*\),.*/\1/p' | tr ' ' '-')
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    results=${OUT:-bench/results}/${device:-gpu}-$commit.jsonl
    mkdir -p "${results%/*}"
    xl() { "$gpu/init_model" --preset flan-t5-xl --output "$work/xl" --tokenizer examples/fashion-tiny/spiece.model; }
    # A decoder step of one row and of 64, and 64 pictures, in each format of weights.
    stages() {
        for dtype in bf16 int8 int4; do
            "$gpu/answer" "$work/xl" --device "$BLIP2_TEST_DEVICE" --dtype $dtype --questions 1 --repeat 5 || return
            "$gpu/answer" "$work/xl" --device "$BLIP2_TEST_DEVICE" --dtype $dtype --images 64 --questions 64 --repeat 3 || return
        done | tee "$work/stages"
        grep '^{' "$work/stages" >>"$results"
    }
    beside() {
        awk 'NR == 1 { print; next } { row[n++] = $0 } END { for (i = 0; i < 256; i++) print row[i % n] }' tests/golden/rows.csv >"$work/rows.csv"
        "$PYTHON" bench/beside_hf.py --bin "$gpu" --model "$work/xl" --images tests/golden/images --csv "$work/rows.csv" --dtype bf16 \
            --device "$BLIP2_TEST_DEVICE" --batch 64 --steps 10 --photos 2 --rounds 1 --json "$results"
    }
    step kernel-times "$gpu/check_cuda" --tier=cuda --bench --commit="$commit" ${BENCH---dtype=bf16} --json="$work/kernels"
    cat "$work/kernels" >>"$results"
    step xl-model xl
    step xl-stages stages
    PYTHON=${PYTHON:-python3}
    if "$PYTHON" -c 'import peft, torch, transformers; assert torch.cuda.is_available()' 2>/dev/null; then
        step beside-transformers beside
    else
        echo "skipped beside-transformers: $PYTHON has no torch that sees a GPU, transformers and peft"
        skipped=$((skipped + 1))
    fi
    tail -n 8 "$results"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
