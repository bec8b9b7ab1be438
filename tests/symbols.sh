#!/bin/sh
# The shared library exports blip2_* and nothing else: exactly what the public headers declare with BLIP2_API. In the
# static library every global name of the C files begins with blip2_ or b2_.
set -u
. "$(dirname "$0")/house.sh"
lib=${BUILD:-build}/lib
[ -f "$lib/libblip2.a" ] || { echo "$lib/libblip2.a is not there: type make" >&2; exit 1; }

exported=$(nm -D --defined-only "$lib/libblip2.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
declared=$(cat include/blip2.h include/blip2/*.h | tr '\n' ' ' | sed 's/BLIP2_API/\n&/g' |
    sed -n 's/^BLIP2_API[^(;]*[ *]\(blip2_[a-z0-9_]*\)(.*/\1/p' | sort -u)
for s in $exported; do
    case $s in blip2_*) pass ;; *) fail "exported: $s" ;; esac
done
for s in $exported; do
    printf '%s\n' $declared | grep -q -x "$s" || fail "$s is exported, but no public header declares it with BLIP2_API"
done
for s in $declared; do
    if printf '%s\n' $exported | grep -q -x "$s"; then pass; else fail "$s is declared, but not exported"; fi
done
check "names in the static library" sh -c '! printf "%s\n" "$1" | grep .' - \
    "$(nm -g --defined-only "$lib/libblip2.a" 2>/dev/null | awk 'NF == 3 { print $3 }' |
        grep -v -E '^(blip2_|b2_|_Z|__odr_asan|__gxx_personality|DW\.ref|_sub_[ID]_|_GLOBAL__)' | sort -u)"
check "the soname" sh -c 'readelf -d "$1" | grep -q "SONAME.*libblip2\.so\.[0-9]*\]"' - "$lib/libblip2.so"
# cpu_features.c keeps the processor's name, found once.
check "no variables in the library" sh -c '! printf "%s\n" "$1" | grep .' - \
    "$([ -n "${SAN:-}" ] || objdump -t "$lib/libblip2.a" 2>/dev/null |
        awk '/ O \.(data|bss)/ && !/ \.data\.rel\.(ro|local\.DW)/ { print $NF }' | grep -v -x -E 'cpu_name|name_once')"
finish
