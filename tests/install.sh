#!/bin/sh
# Installs into an empty tree, with PREFIX and with DESTDIR, and compiles the program at the head of blip2.h against it
# by pkg-config, shared and static; runs it where the library has text and images; uninstalls without a trace.
set -u
. "$(dirname "$0")/house.sh"
MAKE=${MAKE:-make} CC=${CC:-gcc} BUILD=${BUILD:-build} SAN=${SAN:-}
PKG_CONFIG=${PKG_CONFIG:-pkg-config}
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
unset PKG_CONFIG_PATH DESTDIR PREFIX LIBDIR

run_make() { $MAKE --no-print-directory BUILD="$BUILD" "$@" >"$tmp/make.log" 2>&1 || { cat "$tmp/make.log"; false; }; }
check "make install PREFIX=..." run_make install PREFIX="$tmp/prefix"
check "make install DESTDIR=... LIBDIR=..." run_make install DESTDIR="$tmp/dest" PREFIX=/usr LIBDIR=/usr/lib64
for f in include/blip2.h lib/libblip2.a lib/libblip2.so lib/pkgconfig/blip2.pc; do
    check "PREFIX has $f" [ -f "$tmp/prefix/$f" ]
done
for f in usr/include/blip2.h usr/lib64/libblip2.a usr/lib64/libblip2.so.0 usr/lib64/pkgconfig/blip2.pc; do
    check "DESTDIR has $f" [ -f "$tmp/dest/$f" ]
done
check "nothing installed is named by the build folder" sh -c '! grep -r -l -I -F "$1" "$2"' - "$tmp/dest" "$tmp/dest"
for m in examples/*/main.c; do
    [ -f "$m" ] || continue
    n=$(basename "$(dirname "$m")")
    check "bin/blip2-$n runs" "$tmp/prefix/bin/blip2-$n" --version
done

awk '/^#include <blip2.h>/ { on = 1 } on { print } on && /^}/ { exit }' include/blip2.h >"$tmp/first.c"
check "blip2.h opens with a program of about 20 lines" sh -c 'n=$(wc -l <"$1"); [ "$n" -ge 10 ] && [ "$n" -le 25 ]' - "$tmp/first.c"
pc() { PKG_CONFIG_LIBDIR="$tmp/prefix/lib/pkgconfig" "$PKG_CONFIG" "$@" blip2; }
sysroot_pc() { PKG_CONFIG_SYSROOT_DIR="$tmp/dest" PKG_CONFIG_LIBDIR="$tmp/dest/usr/lib64/pkgconfig" "$PKG_CONFIG" "$@" blip2; }
flags="-std=c11 -pedantic -Wall -Wextra -Werror ${SAN:+-fsanitize=$SAN}"
shared=$(pc --cflags --libs)
static="$(pc --cflags) $tmp/prefix/lib/libblip2.a $(pc --static --libs | sed 's/-lblip2//')"
check "it compiles against the shared library" $CC $flags "$tmp/first.c" -o "$tmp/first" $shared -Wl,-rpath,"$tmp/prefix/lib"
check "it compiles against the static library" $CC $flags "$tmp/first.c" -o "$tmp/first_static" $static
check "it compiles against the DESTDIR tree" $CC $flags "$tmp/first.c" -o "$tmp/first_dest" $(sysroot_pc --cflags --libs)
check "pkg-config knows the version" sh -c '[ "$1" = "$2" ]' - "$(pc --modversion)" "$(sysroot_pc --modversion)"
check "without arguments it exits with 2" sh -c '"$1" 2>/dev/null; [ $? = 2 ]' - "$tmp/first"

model=$(for d in tests/golden/*/model; do [ -f "$d/config.json" ] && [ -f "$d/spiece.model" ] && echo "$d" && break; done)
photo=$(files | grep -E '^tests/.*\.(jpg|jpeg|png)$' | head -n 1)
if [ "${WITH_IMAGE:-1}" = 0 ] || [ "${WITH_TEXT:-1}" = 0 ]; then skip "running it needs text and images"
elif [ -z "$model" ] || [ -z "$photo" ]; then skip "no model or photo to run it on"
else
    check "it runs" "$tmp/first" "$model" "$photo" "Question: what is it? Answer: "
    check "shared and static give one answer" sh -c '[ "$("$1" "$3" "$4" a)" = "$("$2" "$3" "$4" a)" ]' - \
        "$tmp/first" "$tmp/first_static" "$model" "$photo"
fi
check "make uninstall" run_make uninstall PREFIX="$tmp/prefix"
check "and nothing is left" sh -c '! find "$1" -type f -o -type l | grep .' - "$tmp/prefix"
finish
