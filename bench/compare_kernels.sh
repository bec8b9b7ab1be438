#!/bin/sh
# Two files of kernel times (check_kernels --bench --json=FILE), case by case: old, new, how many times faster, and whether the
# change is more than chance: the medians differ by more than either run's times spread (10th to 90th of a hundred), by more than
# 1 % (--least=PERCENT), and on a GPU, whose events tell half a microsecond apart, by more than that.
# usage: bench/compare_kernels.sh [--strict] [--least=PERCENT] OLD NEW
# Exit status: 0; 1 with --strict when something became slower; 2 when a file is not what it should be.
set -eu
usage() {
    echo "usage: bench/compare_kernels.sh [--strict] [--least=PERCENT] OLD NEW" >&2
    exit 2
}
strict=0 least=1
while :; do
    case ${1:-} in
    --strict) strict=1 ;;
    --least=*[!0-9.]* | --least=) usage ;;
    --least=*) least=${1#--least=} ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
[ $# = 2 ] || usage
for f; do
    if [ ! -f "$f" ] || [ ! -r "$f" ]; then echo "compare_kernels: $f: no such file, or not to be read" >&2 && exit 2; fi
done

old=$1 new=$2 awk -v strict="$strict" -v least="$least" '
function fail(what) {
    printf "compare_kernels: %s%s: %s\n", file, line ? ":" line : "", what >"/dev/stderr"
    exit 2
}
function skip_space() { sub(/^[ \t\r]+/, "", rest) }
# From the front of `rest`: a text (its quotes taken off; a backslash and what follows stay as they are).
function take_text(what) {
    if (!match(rest, /^"([^"\\]|\\.)*"/)) fail("expected " what " in quotes, found " shown(rest))
    token = substr(rest, 2, RLENGTH - 2)
    rest = substr(rest, RLENGTH + 1)
    skip_space()
    return token
}
function shown(text) { return text == "" ? "the end of the line" : "\"" substr(text, 1, 30) "\"" }
# Fills value[name] and kind[name] ("text", "number", "word") from one line, an object without objects in it.
function parse(text,    name) {
    split("", value)
    split("", kind)
    rest = text
    skip_space()
    if (substr(rest, 1, 1) != "{") fail("expected a JSON object, found " shown(rest))
    do {
        rest = substr(rest, 2)
        skip_space()
        name = take_text("a field name")
        if (name in kind) fail("field \"" name "\": twice in one line")
        if (substr(rest, 1, 1) != ":") fail("field \"" name "\": expected a colon, found " shown(rest))
        rest = substr(rest, 2)
        skip_space()
        if (substr(rest, 1, 1) == "\"") {
            value[name] = take_text("a text")
            kind[name] = "text"
        } else if (match(rest, /^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?/)) {
            value[name] = substr(rest, 1, RLENGTH) + 0
            kind[name] = "number"
            rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^(true|false|null)/)) {
            value[name] = substr(rest, 1, RLENGTH)
            kind[name] = "word"
            rest = substr(rest, RLENGTH + 1)
        } else {
            fail("field \"" name "\": expected a text or a number, found " shown(rest))
        }
        skip_space()
    } while (substr(rest, 1, 1) == ",")
    if (rest != "}") fail("expected a comma or the closing brace, found " shown(rest))
}
function want(name, type) {
    if (!(name in kind)) fail("field \"" name "\" is missing")
    if (kind[name] != type) fail("field \"" name "\": expected a " type ", found " shown(value[name]))
    return value[name]
}
function time_of(name) {
    if (want(name, "number") <= 0) fail("field \"" name "\": expected a time above 0, found " value[name])
    return value[name]
}
function read_case(which,    id, low, high, by) {
    by = "by" in kind ? want("by", "text") : "own" # older files have no others
    id = sprintf("%-10s %-8s %-13s %-4s %-72s %-4s %-5s", want("tier", "text"), by, want("kernel", "text"), want("dtype", "text"),
        want("shape", "text"), want("cache", "text"), want("how", "text"))
    if (want("batch", "number") > 1) id = id " b" value["batch"]
    if ((which, id) in median) fail("the case of line " at[which, id] " again")
    at[which, id] = line
    median[which, id] = time_of("median_us")
    low = time_of("p10_us")
    high = time_of("p90_us")
    if (low > median[which, id] || high < median[which, id])
        fail("field \"median_us\": " value["median_us"] " is not between p10_us " low " and p90_us " high)
    spread[which, id] = high - low
    on_gpu[which, id] = value["tier"] == "cuda" && value["how"] == "call"
    device[which, id] = want("device", "text")
    commit[which] = want("commit", "text")
    list[which, ++cases[which]] = id
}
function read_file(path, which,    got) {
    file = path
    line = 0
    while ((got = (getline text <path)) > 0) {
        line++
        if (text ~ /^[ \t\r]*$/) continue
        parse(text)
        if (!("ceilings" in kind)) read_case(which)
    }
    if (got < 0) fail("cannot be read")
    close(path)
    line = 0
    if (!cases[which]) fail("no timed case in this file")
}
function largest(a, b) { return a > b ? a : b }
function verdict(id, a, b,    most) {
    most = largest(largest(spread["old", id], spread["new", id]), a * least / 100)
    if (on_gpu["new", id]) most = largest(most, 0.5)
    if (b - a > most) return "slower"
    return a - b > most ? "faster" : "within the spread"
}
BEGIN {
    old = ENVIRON["old"] # as they are: -v would read backslashes
    new = ENVIRON["new"]
    read_file(old, "old")
    read_file(new, "new")
    printf "old: %s, commit %s\nnew: %s, commit %s\n", old, commit["old"], new, commit["new"]
    for (i = 1; i <= cases["new"]; i++) {
        id = list["new", i]
        if (!(("old", id) in median)) {
            alone["new"]++
            continue
        }
        if (!common++) printf "%-125s %12s %12s %9s\n", "case", "old us", "new us", "old/new"
        a = median["old", id]
        b = median["new", id]
        result = verdict(id, a, b)
        count[result]++
        if (device["old", id] != device["new", id]) strangers = device["old", id] " and " device["new", id]
        printf "%-125s %12.2f %12.2f %8.3fx %s\n", id, a, b, a / b, result
    }
    for (i = 1; i <= cases["old"]; i++) if (!(("new", list["old", i]) in median)) alone["old"]++
    if (strangers != "") printf "NOTE: not the same device: %s\n", strangers
    printf "%d cases: %d faster, %d slower, %d within the spread; %d only in old, %d only in new\n", common, count["faster"],
        count["slower"], count["within the spread"], alone["old"], alone["new"]
    if (!common) {
        printf "compare_kernels: %s and %s have no case in common\n", old, new >"/dev/stderr"
        exit 2
    }
    exit strict && count["slower"] > 0
}'
