#!/bin/sh
# Looks into an adapter and merges it; examples/train_fashion/run.sh comes first.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-build/bin}/adapter
"$bin" info --model examples/fashion-tiny --adapter build/example/lora
exec "$bin" merge --model examples/fashion-tiny --adapter build/example/lora --output build/example/merged "$@"
