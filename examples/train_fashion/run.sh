#!/bin/sh
# Fine-tunes the shipped base on 600 photos for a minute at most; examples/prepare_fashion/run.sh comes first.
set -eu
cd "$(dirname "$0")/../.."
exec "${BIN:-build/bin}/train_fashion" --model examples/fashion-tiny --images build/example/shop/images \
    --train build/example/shop/vqa_train.csv --eval build/example/shop/vqa_test.csv --output build/example/lora \
    --epochs 10 --batch-size 32 --lr 0.005 "$@"
