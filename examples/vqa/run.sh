#!/bin/sh
# Two questions about two photos; examples/train_fashion/run.sh comes first.
set -eu
cd "$(dirname "$0")/../.."
exec "${BIN:-build/bin}/vqa" --model examples/fashion-tiny --adapter build/example/lora --json \
    --image build/example/shop/images/70000.jpg build/example/shop/images/70001.jpg \
    --question 'What is the article type of the product in this picture?' \
    'What is the category of the product in this picture?' "$@"
