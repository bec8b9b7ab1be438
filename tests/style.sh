#!/bin/sh
# The mechanical part of docs/style.md. tests/style_allow.txt names the exceptions: `file FILE` may pass 600 lines,
# `function FILE NAME` may pass 60.
set -u
. "$(dirname "$0")/house.sh"
allow=tests/style_allow.txt
text=$(files | grep -E '(\.(c|h|cc|cu|cuh|def|sh|py|bats|md|in|map|txt|yml)|Makefile|\.ci/run|/run|\.[1357])$' |
    grep -v -E '^(tests/golden|tests/fuzz/corpus|bench/results|examples/.*/data)/')
code=$(printf '%s\n' "$text" | grep -E '\.(c|h|cc|cu|cuh)$')
lines() { printf '%s\n' "$text" | grep -v -E "$1" | xargs grep -n -H -E "$2" /dev/null; }

none() { # what, the lines that break it
    if [ -z "$2" ]; then pass; else
        fail "$1"
        printf '%s\n' "$2" | head -n 20 >&2
    fi
}
none "no tabs outside makefiles" "$(lines '(^|/)Makefile$|\.(mk|csv|tsv)$' "$(printf '\t')")"
none "no trailing blanks" "$(lines '^$' '[[:blank:]]$')"
none "no carriage returns" "$(lines '^$' "$(printf '\r')$")"
none "no open ends" "$(lines '^tests/style\.sh$' '\b(TODO|FIXME|XXX|HACK)\b' | grep -v 'XXXXXX')"
none "no paths of one machine" "$(lines '^$' '(^|[^A-Za-z0-9_.])/(wor[k]|roo[t]|opt/whee[l]s|opt/pyp[i])(/|\b)')"
none "a newline at the end" "$(printf '%s\n' $text | xargs -n 100 sh -c \
    'for f; do [ ! -s "$f" ] || [ "$(tail -c 1 "$f" | od -An -tx1)" = " 0a" ] || echo "$f"; done' -)"
# Bytes that continue a UTF-8 character are no columns.
none "C lines of at most 110 columns" "$(printf '%s\n' $code | LC_ALL=C xargs awk '
    { line = $0; gsub(/[\200-\277]/, "", line) }
    length(line) > 110 { print FILENAME ":" FNR ": " length(line) " columns" }')"
none "files of at most 600 lines" "$(printf '%s\n' $text | grep -v -E '\.(md|def)$' | xargs wc -l |
    awk '$2 != "total" && $1 > 600 { print "file " $2, $1 }' | while read -r word f n; do
        grep -q -x "$word $f" $allow || echo "$f: $n lines"
    done)"
# A function's body begins with { and ends with } in the first column.
none "functions of at most 60 lines" "$(printf '%s\n' $code | xargs awk '
    FNR == 1 { start = 0 }
    /^\{$/ { start = FNR; name = head }
    /^\}/ && start {
        if (FNR - start - 1 > 60) print "function " FILENAME " " name " " FNR - start - 1
        start = 0
    }
    /^[A-Za-z_].*\(/ { head = $0; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }' |
    while read -r word f name n; do
        grep -q -x "$word $f $name" $allow || echo "$f: $name has $n lines"
    done)"
none "a function's brace stands on its own line" \
    "$(printf '%s\n' $code | xargs grep -n -H -E '^(static |const |inline )*[a-z][A-Za-z0-9_]*[ *].*\) \{$' | grep -v -E 'extern "C"')"
none "a comment at the top of each source file" \
    "$(printf '%s\n' $code | xargs awk 'FNR == 1 && !/^(\/\*|\/\/)/ { print FILENAME }')"
none "no printing, exiting or aborting in the library" "$(printf '%s\n' $code | grep -E '^(lib|kernels)/' |
    xargs grep -n -H -E '\b(printf|puts|perror|abort|exit|_exit|assert|getenv_print) ?\(|\bf(printf|puts)\((stdout|stderr)' |
    grep -v -E '(:|^)[^:]*:[0-9]+: *(\*|/\*)|static_assert|static_printf')"
finish
