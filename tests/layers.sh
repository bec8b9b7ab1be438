#!/bin/sh
# Includes point downward: a file in lib/ or kernels/ includes lower ranks and its own folder only. Each vendor header
# has one home; examples and public headers see public headers only; file names are unique.
set -u
. "$(dirname "$0")/house.sh"

# FILE INCLUDED for every include of a source file.
includes() {
    files | grep -E '^(include|lib|kernels|examples)/.*\.(h|c|cc|cu|cuh|def)$' |
        xargs grep -n -H -E '^[[:space:]]*#[[:space:]]*include' |
        sed -n 's/^\([^:]*\):[0-9]*:[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]\([^>"]*\)[>"].*/\1 \2/p'
}

violations=$(includes | awk '
    function folder(path,  part) {
        if (split(path, part, "/") < 2) return ""
        return part[1] == "lib" ? part[2] : part[1]
    }
    BEGIN {
        rank["base"] = 1; rank["kernels"] = 2
        rank["device"] = rank["io"] = rank["image"] = rank["text"] = 3
        rank["op"] = 4; rank["nn"] = 5; rank["model"] = 6; rank["infer"] = rank["train"] = rank["dist"] = 7
        ok["train infer"] = ok["train dist"] = 1
        special["kernels/cuda/common.cuh tests/cuda_host/emu.h"] = 1 # what a host compiler gets instead of CUDA
    }
    ($1 " " $2) in special { next }
    {
        from = folder($1); to = folder($2)
        if (from == "include") {
            if (to in rank || to == "lib") print $1 ": a public header includes " $2
        } else if (from == "examples") {
            if (to in rank || to == "lib" || to == "tests") print $1 ": an example includes " $2
        } else if (!(from in rank)) {
            print $1 ": a folder without a rank"
        } else if (to == "lib" || to == "tests" || to == "examples" || to == "bench" || $2 ~ /\.\.\//) {
            print $1 ": includes " $2
        } else if (to in rank && to != from && rank[to] >= rank[from] && !((from " " to) in ok)) {
            print $1 ": " from " (rank " rank[from] ") includes " $2 " (rank " rank[to] ")"
        }
    }')
n=$(files | grep -c -E '^(include|lib|kernels|examples)/.*\.(h|c|cc|cu|cuh)$')
bad=$(printf '%s' "$violations" | grep -c .)
house_p=$((n - bad))
if [ "$bad" != 0 ]; then house_f=$bad && printf '%s\n' "$violations" >&2; fi

# A vendor's headers, as a pattern, and the files that may include them: one, or a reader and a writer.
home() {
    found=$(includes | awk -v pat="$1" '$2 ~ pat { print $1 }' | sort -u | grep -v -x -E "$2")
    if [ -z "$found" ]; then pass; else fail "$1 belongs in $2, not in" $found; fi
}
home '^(cjson/)?cJSON.*[.]h$' 'lib/base/json\.[ch]'
home '^zlib[.]h$' 'lib/io/(gzip|idx)\.c'
home '^(jpeglib|jerror)[.]h$' 'lib/image/jpeg(_write)?\.c'
home '^png[.]h$' 'lib/image/png(_write)?\.c'
home '^webp/' 'lib/image/webp\.c'
home '^sentencepiece' 'lib/text/sentencepiece\.cc'
home '^mpi[.]h$' 'lib/dist/.*\.c'
home '^nccl[.]h$' 'lib/dist/.*\.c'
home '^(cuda|cublas|cudnn)[A-Za-z_0-9]*[.]h$' 'kernels/cuda/(common\.cuh|cuda_[a-z]*\.c|(cublaslt|cublaslt_load|cudnn)\.c)'
home '^curl/' 'examples/.*\.c'
home '^microhttpd[.]h$' 'examples/.*\.c'
check "vector intrinsics stay in kernels/cpu (and the pause in the pool)" sh -c '! printf "%s\n" "$1" | grep -v -E "^(kernels/cpu/|lib/base/pool.c)" | grep .' - \
    "$(includes | grep -E ' (immintrin|x86intrin|arm_neon)\.h$')"
check "C++ stays in one file of lib/text" sh -c '[ "$(printf "%s\n" "$1" | grep -c .)" -le 1 ]' - \
    "$(files | grep -E '^(lib|kernels|examples|include)/.*\.(cc|cpp|hpp|cxx)$')"

# The public headers are a name space of their own (blip2/device.h beside device/device.h).
doubles=$(files | grep -E '\.(c|h|cc|cu|cuh|def|sh|py|bats|md)$' | grep -v -E '^include/|(^|/)(main\.c|README\.md|run\.sh)$' |
    awk -F/ '{ n[$NF]++; where[$NF] = where[$NF] " " $0 } END { for (f in n) if (n[f] > 1) print f ":" where[f] }')
check "file names are unique" sh -c '[ -z "$1" ] || { printf "%s\n" "$1"; false; }' - "$doubles"
for m in $(files | grep -E '^examples/[^/]*/main\.c$'); do
    check "$m is short (300 lines)" [ "$(wc -l <"$m")" -le 300 ]
done
finish
