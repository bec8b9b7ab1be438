#!/bin/sh
# The compiler's report of the CUDA kernels as a table, a line a kernel: shared memory, then for each architecture registers,
# and +N behind them when N bytes of them go to memory (spills).
#   resources.sh FOLDER          prints it, from FOLDER/*.ptxas
#   resources.sh FOLDER TABLE    fails for a kernel that spills more than TABLE allows; says how to take a new table
set -eu
folder=$1
table() {
    cat "$folder"/*.ptxas | c++filt | awk '
        / entry function / {
            name = $0; sub(/.*entry function .(void )?/, "", name); arch = name
            sub(/.*for .sm_/, "", arch); sub(/.$/, "", arch); sub(/[^0-9a-z].*/, "", arch)
            sub(/\(.*/, "", name); gsub(/__nv_bfloat16/, "bf16", name); gsub(/ /, "", name)
            if (!(arch in seen)) { seen[arch] = 1; archs[++n] = arch }
        }
        / bytes spill stores/ { spill = $0; sub(/.*frame, /, "", spill); sub(/ bytes.*/, "", spill) }
        / Used [0-9]+ registers/ {
            r = $0; sub(/.*Used /, "", r); sub(/ .*/, "", r)
            s = 0; if (match($0, /[0-9]+ bytes smem/)) s = substr($0, RSTART, RLENGTH - 11)
            shared[name] = s; used[name, arch] = r (spill > 0 ? "+" spill : "")
        }
        END {
            printf "kernel shared"; for (i = 1; i <= n; i++) printf " sm_%s", archs[i]; printf "\n"
            for (k in shared) { printf "%s %s", k, shared[k]; for (i = 1; i <= n; i++) printf " %s", used[k, archs[i]]; printf "\n" }
        }' | (read -r head && echo "$head" && LC_ALL=C sort)
}
if [ $# = 1 ]; then
    table
    exit
fi
table | awk -v old="$2" '
    function spilt(x) { return sub(/^[0-9]*\+/, "", x) ? x + 0 : 0 }
    BEGIN {
        while ((getline line < old) > 0) {
            n = split(line, f, " ")
            if (f[1] == "kernel") { for (i = 3; i <= n; i++) column[i] = f[i] } else for (i = 3; i <= n; i++) was[f[1], column[i]] = f[i]
        }
    }
    $1 == "kernel" { for (i = 3; i <= NF; i++) now[i] = $i; next }
    {
        for (i = 3; i <= NF; i++)
            if (spilt($i) > spilt(was[$1, now[i]])) { print $1 " on " now[i] ": " $i " registers+spilt bytes, was " was[$1, now[i]]; bad = 1 }
    }
    END { if (bad) print "(sh tests/gpu/resources.sh '"$folder"' >" old " takes the new table)"; exit bad }'
