#!/bin/sh
# Looks into an adapter, merges it, and writes the merged model in int8; examples/train_fashion/run.sh comes first.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-build/bin}/adapter out=build/example
"$bin" info --model examples/fashion-tiny --adapter $out/lora
"$bin" merge --model examples/fashion-tiny --adapter $out/lora --output $out/merged
exec "$bin" quantise --model $out/merged --output $out/int8 --dtype int8 --data $out/shop/vqa_test.csv --images $out/shop/images --rows 16 "$@"
