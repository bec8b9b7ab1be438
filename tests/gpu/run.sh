#!/bin/sh
# Everything that is to be seen on a GPU, in one command and without network or compiler: `make gpu-check` builds what this needs
# and calls it; a tree built elsewhere may be carried over and this run alone.
#   BUILD=build sh tests/gpu/run.sh
# Ends with `N passed, N failed, N skipped`; times go to bench/results/<device>-<commit>.jsonl: those of the bf16 table, or of
# what BENCH says (options of the check tool: BENCH="--kernel=gemm --batch=1"); NO_BENCH=1 leaves them out.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build} gpu=${BUILD:-build}/gpu
case $build in /*) ;; *) build=$PWD/$build gpu=$PWD/$gpu ;; esac
export BLIP2_MODULE_DIR="$build/lib/blip2" BLIP2_TEST_DEVICE="${GPU:-cuda:0}"
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
    "$build/bin/vqa" --model examples/fashion-tiny --image tests/golden/images/a.png --image tests/golden/images/b.png \
        --question "What is the article type of the product in this picture?" --json --dtype "$2" --device "$1" |
        sed 's/, "logprob".*//'
}
same_answers() { answers cpu "$1" >"$work/a" && answers "$BLIP2_TEST_DEVICE" "$1" >"$work/b" && [ -s "$work/a" ] && cmp "$work/a" "$work/b"; }

step conformance conformance
step kernels "$gpu/check_cuda" --tier=cuda
step golden-model "$gpu/golden_model"
step golden-train "$gpu/golden_train"
step answers-f32 same_answers f32
if command -v compute-sanitizer >/dev/null; then
    step sanitizer compute-sanitizer --error-exitcode 9 "$gpu/check_cuda" --tier=cuda --once --kernel=attn_fwd
else
    echo "skipped sanitizer: no compute-sanitizer here"
    skipped=$((skipped + 1))
fi
if [ -z "${NO_BENCH:-}" ]; then
    device=$("$gpu/check_cuda" --tier=cuda --once --kernel=cast | sed -n 's/^cuda:[0-9]*: \([^,]*\),.*/\1/p' | tr ' ' '-')
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    step bench "$gpu/check_cuda" --tier=cuda --bench --commit="$commit" ${BENCH---dtype=bf16} \
        --json="${OUT:-bench/results}/${device:-gpu}-$commit.jsonl"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
