#!/usr/bin/env bats
# Kernel times: what the check tool writes with --bench, on the CPU and on a GPU that the host plays, and what
# bench/compare_kernels.sh makes of two such files.
load cli_helper

compare() { sh "$root/bench/compare_kernels.sh" "$@"; }

# row SHAPE MEDIAN P10 P90 [CACHE [TIER]]: a line as the check tool writes it.
row() {
    printf '{"device": "a \\"GPU\\"", "commit": "abc", "tier": "%s", "kernel": "gemm", "dtype": "bf16", "shape": "%s", "batch": 1, ' \
        "${6:-avx2}" "$1"
    printf '"cache": "%s", "how": "call", "median_us": %s, "p10_us": %s, "p90_us": %s, "repeats": 9}\n' "${5:-hot}" "$2" "$3" "$4"
}

# bad LINE...: as the second line of a file.
bad() {
    { row a 10 9 11 && printf '%s\n' "$@"; } >broken
    run_status 2 compare broken good
    said "broken:2: "
}

@test "faster, slower, within the spread" {
    { echo '{"ceilings": true, "device": "x", "memory_gbs": 1.5e3}'; row a 10 9 11; row b 10 9 11; row c 10 9 11; row d 1 1 1; } >old
    { row a 7 6 8; row b 13.5 13 14; row c 11.5 9 12; row e 1 1 1; echo; } >new
    run_status 0 compare old new
    [[ "$output" =~ gemm.*\ a\ .*\ 10\.00\ .*\ 7\.00\ .*1\.429x\ faster ]]
    [[ "$output" =~ gemm.*\ b\ .*\ 10\.00\ .*\ 13\.50\ .*0\.741x\ slower ]]
    [[ "$output" =~ gemm.*\ c\ .*\ 10\.00\ .*\ 11\.50\ .*within\ the\ spread ]]
    said "3 cases: 1 faster, 1 slower, 1 within the spread; 1 only in old, 1 only in new"
    run_status 1 compare --strict old new
    run_status 0 compare --strict new new
    said "4 cases: 0 faster, 0 slower, 4 within the spread; 0 only in old, 0 only in new"
}

@test "the same shape cold and hot, or on another tier, is another case" {
    { row a 10 10 10 cold; row a 5 5 5 hot; row a 1 1 1 hot cuda; } >old
    { row a 10 10 10 cold; row a 10 10 10 hot; row a 1.4 1.4 1.4 hot cuda; } >new
    run_status 0 compare old new
    said "3 cases: 0 faster, 1 slower, 2 within the spread" # half a microsecond is what a GPU's events tell apart
}

@test "by whom a slot did it is part of the case; files that do not say: our own" {
    row a 10 10 10 hot cuda >old
    { row a 5 5 5 hot cuda; row a 20 20 20 hot cuda; } | sed '1s/"tier": "cuda"/&, "by": "cudnn"/; 2s/"tier": "cuda"/&, "by": "own"/' >new
    run_status 0 compare old new
    [[ "$output" =~ cuda\ +own\ +gemm.*0\.500x\ slower ]]
    said "1 cases: 0 faster, 1 slower, 0 within the spread; 0 only in old, 1 only in new"
    run_status 0 compare new new
    said "2 cases: 0 faster, 0 slower, 2 within the spread"
    sed 's/"by": "own"/"by": 1/' new >broken
    run_status 2 compare broken new
    said 'broken:2: field "by": expected a text'
}

@test "less than a percent is nothing, or as much as was asked for" {
    row a 100 100 100 >old
    row a 99.1 99.1 99.1 >new
    run_status 0 compare old new
    said "1 within the spread"
    run_status 0 compare --least=0.5 old new
    said "1 faster"
}

@test "other devices are said" {
    row a 10 9 11 >old
    sed 's/a \\"GPU\\"/b/' old >new
    run_status 0 compare old new
    said 'NOTE: not the same device: a \"GPU\" and b'
}

@test "bad files: 2, with file, line and field" {
    row a 10 9 11 >good
    bad "not json"
    said 'expected a JSON object, found "not json"'
    bad "$(row b 10 9 11 | sed 's/, "p90_us": [0-9]*//')"
    said 'field "p90_us" is missing'
    bad "$(row b '"10"' 9 11)"
    said 'field "median_us": expected a number, found "10"'
    bad "$(row b nan 9 11)"
    said 'field "median_us": expected a text or a number, found "nan'
    bad "$(row b -1 9 11)"
    said 'field "median_us": expected a time above 0'
    bad "$(row b 20 9 11)"
    said 'field "median_us": 20 is not between p10_us 9 and p90_us 11'
    bad "$(row b 10 9 11 | sed 's/"kernel": "gemm"/"kernel": 3/')"
    said 'field "kernel": expected a text'
    bad "$(row b 10 9 11 | sed 's/"how"/"cache"/')"
    said 'field "cache": twice'
    bad "$(row b 10 9 11 | cut -c1-60)"
    bad "$(row b 10 9 11)x"
    bad "$(row a 10 9 11)"
    said "the case of line 1 again"
}

@test "files that cannot be compared: 2" {
    row a 10 9 11 >good
    row b 10 9 11 >other
    : >empty
    run_status 2 compare good
    said "usage:"
    run_status 2 compare --less good good
    said "usage:"
    run_status 2 compare good nowhere
    said "nowhere: no such file"
    run_status 2 compare empty good
    said "empty: no timed case"
    run_status 2 compare good other
    said "no case in common"
}

# The check tool where the makefile put it; a part of the tests may run without it.
tool() {
    [ -x "$1" ] || skip "no $1 in this build"
    "$@" --bench --small --repeats=3 --commit=abc --json=times.jsonl >table || { cat table && return 1; }
}
objects=${OBJ:+$(cd "$root" && cd "$OBJ" && pwd)}

@test "times of CPU kernels can be compared" {
    tool "$objects/check_kernels" --kernel=gemm_wbf16 --tier=ref --dtype=f32
    [ "$(grep -c ceilings times.jsonl)" = 1 ]
    for state in cold hot; do
        [ "$(grep -c "\"kernel\": \"gemm_wbf16\", \"dtype\": \"f32\", .*\"cache\": \"$state\", \"how\": \"call\"" times.jsonl)" = 3 ]
    done
    [ "$(grep -c '"commit": "abc"' times.jsonl)" = 7 ]
    run_status 0 compare --strict times.jsonl times.jsonl
    said "6 cases: 0 faster, 0 slower, 6 within the spread"
}

@test "times of CUDA kernels: events, graphs, cold and hot" {
    export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
    tool "$objects/check_cuda_host" --kernel='gemm_dx_wbf16' --tier=cuda --dtype=bf16
    grep -q '^emulated GPU 0: copies' table
    for state in cold hot; do
        for how in call graph; do [ "$(grep -c "\"tier\": \"cuda\".*\"cache\": \"$state\", \"how\": \"$how\"" times.jsonl)" = 3 ]; done
    done
    run_status 0 compare --strict times.jsonl times.jsonl
    said "12 cases: 0 faster, 0 slower, 12 within the spread"
    tool "$objects/check_cuda_host" --kernel='[drl]*' --tier=cuda
    [ "$(grep -c '"how": "graph"' times.jsonl)" -ge 50 ]
    EMU_FAIL_AT=9 run_status 2 "$objects/check_cuda_host" --bench --small --kernel=cast --tier=cuda
    said "unspecified launch failure"
}

none() { if grep "$1" times.jsonl; then return 1; fi; }

# beside NAME KERNEL: NAME has lines of its own beside our kernel's, in the same states, judged like them, with the ratio.
beside() {
    tool "$objects/check_cuda_host" --kernel="$2" --tier=cuda --dtype=bf16
    for state in '"cold", "how": "call"' '"hot", "how": "call"' '"hot", "how": "graph"'; do
        grep "\"by\": \"$1\", .*\"cache\": $state" times.jsonl | grep -q '"judge": "ref", "own_over_this": [0-9.]*}$'
    done
    grep -q "^$2 .* $1 .*x the speed of our own$" table
    none '"by": "own".*own_over_this'
    [ "$(grep -c '"by": "own", .*"how": "call"' times.jsonl)" = 6 ] # whatever libraries take
    run_status 0 compare --strict times.jsonl times.jsonl
    said "0 only in old, 0 only in new"
}

@test "times of libraries beside our own kernels', in one run" {
    export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" EMU_CUBLAS=1 EMU_CUDNN=1
    beside cublaslt gemm_dx_wbf16
    none cudnn
    beside cudnn attn_fwd
    none cublaslt
    BLIP2_CUDNN=0 tool "$objects/check_cuda_host" --kernel=attn_fwd --tier=cuda --dtype=bf16
    none cudnn
    EMU_CAPABILITY=89 tool "$objects/check_cuda_host" --kernel=attn_fwd --tier=cuda --dtype=bf16
    none cudnn
}

@test "options of the check tool: 2 for what it does not know" {
    [ -x "$objects/check_kernels" ] || skip "no check tool in this build"
    for option in --batch=0 --batch=1, --batch=x --dtype=f16 --repeats=0 --repeat=1; do
        run_status 2 "$objects/check_kernels" --bench $option
        said "$option"
    done
    run_status 2 "$objects/check_kernels" --json=x
    run_status 1 "$objects/check_kernels" --kernel=cast --shape=nothing
    said "no case of kernel cast, type *, shape nothing"
    run_status 2 "$objects/check_kernels" --bench --small --kernel=cast --json=nowhere/x
    said "nowhere/x"
}
