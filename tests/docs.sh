#!/bin/sh
# Programs and documents agree: --help and man page name the same options, --version is the header's, man pages pass
# mandoc's lint, and relative links in the documents lead somewhere.
set -u
. "$(dirname "$0")/house.sh"
bin=${BUILD:-build}/bin
[ -x "$bin/vqa" ] || { echo "docs.sh: no programs in $bin: build first, or name the build folder with BUILD=" && exit 2; }
define() { sed -n "s/^#define BLIP2_VERSION_$1 *//p" include/blip2.h; }
version=$(define MAJOR).$(define MINOR).$(define PATCH)
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT

for main in examples/*/main.c; do
    [ -f "$main" ] || continue
    name=$(basename "$(dirname "$main")") page=docs/man/blip2-$(basename "$(dirname "$main")").1
    check "$name --help exits with 0" "$bin/$name" --help
    check "$name --version says $version" sh -c '"$1" --version | grep -q -F "$2"' - "$bin/$name" "$version"
    if [ ! -f "$page" ]; then fail "$name has no man page $page" && continue; fi
    "$bin/$name" --help 2>&1 | grep -o -E '(^|[ ,|[])--[a-z][a-z0-9-]*' | sed 's/^[^-]*//' | sort -u >"$tmp/help"
    sed -n 's/^\.It Fl -/--/p' "$page" | grep -o -E '^--[a-z][a-z0-9-]*' >"$tmp/man"
    # `.It Fl h , Fl -help` and the like: every long option of an item.
    sed -n '/^\.It /s/Fl -/\n--/gp' "$page" | grep -o -E '^--[a-z][a-z0-9-]*' >>"$tmp/man"
    sort -u -o "$tmp/man" "$tmp/man"
    for o in $(comm -23 "$tmp/help" "$tmp/man"); do fail "$page does not describe $o"; done
    for o in $(comm -13 "$tmp/help" "$tmp/man"); do fail "$name --help does not name $o, which $page describes"; done
    for o in $(comm -12 "$tmp/help" "$tmp/man"); do pass; done
done
for page in docs/man/*.[1357]; do
    [ -f "$page" ] || continue
    if command -v mandoc >/dev/null; then check "$page: mandoc" mandoc -Tlint -Wwarning "$page"; else skip "$page: no mandoc"; fi
    case $page in
    *.1) name=${page##*/blip2-} && check "$page is of a program" [ -f "examples/${name%.1}/main.c" ] ;;
    esac
done
for doc in $(files | grep -E '\.md$'); do
    for link in $(grep -v '^    ' "$doc" | grep -o -E '\]\([^)# ]+' | sed 's/^](//' | grep -v -E '^(https?|mailto):'); do
        check "$doc: the link $link" [ -e "$(dirname "$doc")/$link" ]
    done
done
finish
