#!/bin/sh
# The benches on the small model that ships here: tables on the terminal, JSON lines in bench/results/CPU-COMMIT.jsonl.
# usage: bench/run.sh BUILD [MODEL]
set -eu
cd "$(dirname "$0")/.."
BUILD=$1 MODEL=${2:-examples/fashion-tiny}
cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')
out=bench/results/$cpu-$(git rev-parse --short HEAD 2>/dev/null || echo unknown).jsonl
mkdir -p bench/results
run() { "$BUILD/bin-bench/$@" | tee -a "$out.txt"; }
: >"$out.txt"
for train in all qformer lora lora-cached; do run train_step "$MODEL" --train $train --dtype f32 --profile; done
for questions in 1 3 8; do run answer "$MODEL" --questions $questions; done
grep '^{' "$out.txt" >"$out"
rm -f "$out.txt"
echo "written: $out"
