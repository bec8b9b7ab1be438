#!/bin/sh
# Runs test programs, bats files and shell checks one after the other under a time limit, counts what each reports,
# and ends with `N passed, N failed, N skipped`. Called by `make test`.
# What a program reports is read from its standard output: cmocka's own lines, TAP, or a line `N passed, N failed,
# N skipped`; one that reports nothing counts as one test, judged by its exit status.
set -u
limit=${TEST_TIMEOUT:-600}
logs=${OBJ:-build}/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0 bad='' skippers=''
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# gcc's thread sanitizer wants its addresses where they are without randomisation.
wrap=
case ${SAN:-} in *thread*) if setarch -R true 2>/dev/null; then wrap='setarch -R'; fi ;; esac

# Sets p f s.
count() {
    set -- $(awk '
        /^\[ +OK +\]/ || /^ok / && !/# skip/ { p++ }
        /^\[ +FAILED +\]/ || /^not ok / { f++ }
        /^\[ +SKIPPED +\]/ || /^ok .*# skip/ { s++ }
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
        END { print p + 0, f + 0, s + 0 }' "$1")
    p=$1 f=$2 s=$3
}

limited() {
    timeout -k 10 "$limit" $wrap "$@" >"$log.out" 2>"$log.err" </dev/null
    rc=$?
    if [ $rc = 124 ] || [ $rc = 137 ]; then echo "took more than $limit s, or was killed" >>"$log.err"; fi
}

# At most $2 lines of a file, its end.
show() {
    if [ "$(wc -l <"$1")" -gt "$2" ]; then echo "... (the last $2 lines of $1)"; fi
    tail -n "$2" "$1"
}

run_one() {
    short=$(basename "$1")
    log=$logs/$short
    begin=$(date +%s)
    case $1 in
    *.bats) limited bats --tap "$1" ;;
    *.sh) limited sh "$1" ;;
    */fuzz_*) limited "$1" "tests/fuzz/corpus/${short#fuzz_}"/* ;;
    *) limited "$1" ;;
    esac
    count "$log.out"
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ $rc = 0 ] && [ $((p + f + s)) = 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-32s %6d passed %3d failed %3d skipped %4d s\n' "$short" "$p" "$f" "$s" $(($(date +%s) - begin))
    if [ "$s" != 0 ]; then skippers="$skippers $short"; fi
    [ "$f" != 0 ] || return 0
    bad="$bad $short"
    echo "---- $1: exit status $rc"
    show "$log.err" 60
    grep -v -E '^\[ RUN|^\[ +OK|^\[==|^ok ' "$log.out" >"$log.short"
    show "$log.short" 60
    echo "----"
}

for t in "$@"; do run_one "$t"; done
if [ -n "$skippers" ]; then echo "skipped tests in:$skippers"; fi
if [ -n "$bad" ]; then echo "failed:$bad"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) != 0 ]
