#!/bin/sh
# A model of the quickstart's size with random weights, and a tokenizer trained from a few lines of text.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/example
printf '%s\n' 'What is the article type of the product in this picture?' 'Article type: Ankle boot' 'Category: Footwear' \
    'Sub-category: Shoes' 'a shop photo of one Sneaker (Shoes)' >build/example/words.txt
exec "${BIN:-build/bin}/init_model" --output build/example/random --preset fashion-tiny \
    --tokenizer-text build/example/words.txt --seed 7 "$@"
