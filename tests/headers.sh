#!/bin/sh
# Every public header compiles alone, and twice, as C11 -pedantic and as C++17, without a warning and without any
# feature macro; internal headers compile alone as the library compiles them.
set -u
. "$(dirname "$0")/house.sh"
CC=${CC:-gcc} CXX=${CXX:-g++}
alone() { # language, flags, header
    printf '#include "%s"\n#include "%s"\n%s\n' "$3" "$3" 'int b2_header_test;' >"$tmp/h.$1"
    case $1 in c) $CC $2 -fsyntax-only "$tmp/h.c" ;; *) $CXX $2 -fsyntax-only "$tmp/h.cc" ;; esac
}
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
for h in include/blip2.h include/blip2/*.h; do
    [ -f "$h" ] || continue
    check "$h as C11" alone c "-std=c11 -pedantic -Wall -Wextra -Wstrict-prototypes -Werror -Iinclude" "${h#include/}"
    check "$h as C++17" alone cc "-std=c++17 -pedantic -Wall -Wextra -Werror -Iinclude" "${h#include/}"
done
for h in lib/*/*.h kernels/*.h; do
    case $h in kernels/act.h) more=-DB2_ACT=0 ;; *) more= ;; esac
    check "$h alone" alone c "-std=c11 -D_GNU_SOURCE -DB2_WITH_IMAGE=1 -DB2_WITH_TEXT=1 $more -Wall -Wextra -Werror \
        -Wno-unused-function -Iinclude -Ilib -I." "${h#lib/}"
done
finish
