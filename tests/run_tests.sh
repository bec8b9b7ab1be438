#!/bin/sh
# Runs test programs, bats files and shell checks one after the other under a time limit, counts what each reports,
# and ends with `N passed, N failed, N skipped`. Called by `make test`; MATCH=part-of-a-name selects.
# A program reports by cmocka's standard output, by TAP, or by a line `N passed, N failed, N skipped` of its own; one
# that reports nothing counts as one test, judged by its exit status.
set -u
limit=${TEST_TIMEOUT:-300}
logs=${OBJ:-build}/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0 bad='' skippers=''
export TEST_TIMEOUT OBJ BUILD SAN WITH_IMAGE WITH_TEXT MAKE CC CXX
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# Sets p f s from a log.
count() {
    set -- $(awk '
        /^\[ +OK \]/ { p++ }
        /^\[ +FAILED +\] / && !/test\(s\)/ { if (!($0 in seen)) f++; seen[$0] = 1 }
        /^\[ +SKIPPED +\] / && !/test\(s\)/ { if (!($0 in seen)) s++; seen[$0] = 1 }
        /^ok .*# skip/ { s++; next }
        /^ok / { p++ }
        /^not ok / { f++ }
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
        END { print p + 0, f + 0, s + 0 }' "$1")
    p=$1 f=$2 s=$3
}

run_one() {
    name=$1 log=$logs/$(basename "$1").log
    case $1 in
    *.bats) timeout -k 10 "$limit" bats --tap "$1" >"$log" 2>&1 </dev/null ;;
    *.sh) timeout -k 10 "$limit" sh "$1" >"$log" 2>&1 </dev/null ;;
    */fuzz_*) base=$(basename "$1")
        corpus=tests/fuzz/corpus/${base#fuzz_}
        [ -d "$corpus" ] || { echo "no corpus $corpus" >"$log"; false; } &&
            timeout -k 10 "$limit" "$1" "$corpus"/* >"$log" 2>&1 </dev/null ;;
    *) timeout -k 10 "$limit" "$1" >"$log" 2>&1 </dev/null ;;
    esac
    rc=$?
    count "$log"
    if [ $rc = 124 ] || [ $rc = 137 ]; then echo "took more than $limit s" >>"$log"; fi
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ $rc = 0 ] && [ $((p + f + s)) = 0 ]; then p=1; fi
    # A program that says it failed but exits with 0 is broken too; its count stands.
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    short=$(basename "$name")
    printf '%-34s %5d passed %3d failed %3d skipped\n' "$short" "$p" "$f" "$s"
    if [ "$s" != 0 ]; then skippers="$skippers $short"; fi
    if [ "$f" != 0 ] || [ $rc != 0 ]; then
        bad="$bad $short"
        echo "---- $name (exit status $rc; whole output in $log)"
        if [ "$(wc -l <"$log")" -gt 80 ]; then
            grep -n -i -E 'fail|error|not ok|^#|sanitizer' "$log" | head -n 40
            tail -n 25 "$log"
        else
            cat "$log"
        fi
        echo "----"
    fi
}

for t in "$@"; do
    case $t in *"${MATCH:-}"*) run_one "$t" ;; esac
done
if [ -n "$skippers" ]; then echo "skipped tests in:$skippers"; fi
if [ -n "$bad" ]; then echo "failed:$bad"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) != 0 ]
