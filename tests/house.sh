# Shared by the shell checks (layers, symbols, headers, style, install, docs): counting and file lists. Sourced from
# the repository's root after `set -u`.
cd "$(dirname "$0")/.." || exit 1
house_p=0 house_f=0 house_s=0
pass() { house_p=$((house_p + 1)); }
fail() { house_f=$((house_f + 1)) && echo "FAILED: $*" >&2; }
skip() { house_s=$((house_s + 1)) && echo "skipped: $*" >&2; }
# check "what is true" command...: passes when the command succeeds; its output is shown when it does not.
check() {
    house_what=$1 && shift
    if house_out=$("$@" 2>&1); then pass; else fail "$house_what" && printf '%s\n' "$house_out" >&2; fi
}
# Stands last in a script: prints the count and gives the exit status.
finish() { echo "$house_p passed, $house_f failed, $house_s skipped" && [ "$house_f" = 0 ]; }
# The project's files, with those not yet committed, without what git ignores; from a tarball, all but build folders.
files() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -co --exclude-standard | while read -r f; do if [ -f "$f" ]; then echo "$f"; fi; done
    else
        find . -name 'build*' -prune -o -name .git -prune -o -type f -print | sed 's|^\./||'
    fi
}
